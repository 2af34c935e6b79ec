//! Rows become tables, and channels become streams.

use nu_protocol::{IntoValue, ListStream, PipelineData, PipelineMetadata, Signals, Span, Value};
use tokio::sync::mpsc;

use super::Wanted;

/// Rows that wait for the shell to read them; work waits with them.
const BUFFERED_ROWS: usize = 64;

/// `priority` columns keep their width when the terminal is narrow.
pub(crate) fn table<Row: IntoValue>(rows: Vec<Row>, priority: &[&str], span: Span) -> PipelineData {
    let rows = rows.into_iter().map(|row| row.into_value(span)).collect();
    PipelineData::value(Value::list(rows, span), metadata(priority, span))
}

pub(crate) fn channel<Row>() -> (mpsc::Sender<Row>, mpsc::Receiver<Row>) {
    mpsc::channel(BUFFERED_ROWS)
}

/// A table that grows as rows arrive. It ends with the sender; dropping it (Ctrl-C, `| first 1`, a shell that is
/// gone) cancels the work behind it.
pub(crate) fn stream<Row: IntoValue + Send + 'static>(
    rows: mpsc::Receiver<Row>,
    wanted: Wanted,
    priority: &[&str],
    span: Span,
) -> PipelineData {
    let rows = Rows { rows, wanted };
    let values = rows.map(move |row| row.into_value(span));
    // The shell's own signals would cut the stream before the row of the step that was under way.
    let list = ListStream::new(values, span, Signals::empty());
    PipelineData::list_stream(list, metadata(priority, span))
}

struct Rows<Row> {
    rows: mpsc::Receiver<Row>,
    wanted: Wanted,
}

impl<Row> Drop for Rows<Row> {
    /// Waits for the step under way, so that the process is not ended in the middle of it.
    fn drop(&mut self) {
        self.wanted.token().cancel();
        while self.rows.blocking_recv().is_some() {}
    }
}

impl<Row> Iterator for Rows<Row> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.rows.blocking_recv()
    }
}

fn metadata(priority: &[&str], span: Span) -> Option<PipelineMetadata> {
    Some(PipelineMetadata::default().with_table_width_priority_columns(span, priority.iter().copied()))
}
