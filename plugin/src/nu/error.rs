//! The only place where a failure becomes an error of the shell.

use ha_core::switch::Refusal;
use nu_protocol::{LabeledError, Span};

use crate::error::Failed;

/// `span` is the argument that caused it, or the command's own name.
pub(crate) fn label(failed: Failed, span: Span) -> LabeledError {
    if let Failed::Refused(refusals) = &failed {
        return all(refusals, failed.mark(), span);
    }
    let error = LabeledError::new(failed.to_string())
        .with_code(failed.code())
        .with_label(failed.mark(), span);
    match failed.help() {
        Some(help) => error.with_help(help),
        None => error,
    }
}

/// Everything that stands in the way: the first under the argument, the others below it, each with its code and help.
fn all(refusals: &[Refusal], mark: &str, span: Span) -> LabeledError {
    let one = |it: &Refusal| {
        LabeledError::new(it.why.clone())
            .with_code(it.code)
            .with_help(it.help.clone())
    };
    let mut rows = refusals.iter();
    let first = rows
        .next()
        .map_or_else(|| LabeledError::new("it cannot be done now"), one);
    rows.fold(first.with_label(mark.to_owned(), span), |error, it| {
        error.with_inner(one(it))
    })
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
