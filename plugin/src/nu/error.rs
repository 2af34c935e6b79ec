//! The only place where a failure becomes an error of the shell.

use nu_protocol::{LabeledError, Span};

use crate::error::Failed;

/// `span` is the argument that caused it, or the command's own name.
pub(crate) fn label(failed: Failed, span: Span) -> LabeledError {
    let error = LabeledError::new(failed.to_string())
        .with_code(failed.code())
        .with_label(failed.mark(), span);
    match failed.help() {
        Some(help) => error.with_help(help),
        None => error,
    }
}

/// `.at(span)` on whatever may fail.
pub(crate) trait At<T> {
    fn at(self, span: Span) -> Result<T, LabeledError>;
}

impl<T, E: Into<Failed>> At<T> for Result<T, E> {
    fn at(self, span: Span) -> Result<T, LabeledError> {
        self.map_err(|error| label(error.into(), span))
    }
}
