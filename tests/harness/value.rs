//! Rows as they come out of `to json`: durations are whole nanoseconds, sizes are bytes, times are text.

use std::time::Duration;

use serde_json::Value;

/// One row of a table. A missing column fails the test with the whole row: columns are promised.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Value);

impl Row {
    pub fn get(&self, column: &str) -> &Value {
        self.0
            .get(column)
            .unwrap_or_else(|| panic!("no column {column} in {}", self.0))
    }

    /// Empty when it is null.
    pub fn text(&self, column: &str) -> &str {
        self.get(column).as_str().unwrap_or_default()
    }

    pub fn is(&self, column: &str, text: &str) -> bool {
        self.text(column) == text
    }

    pub fn is_null(&self, column: &str) -> bool {
        self.get(column).is_null()
    }

    pub fn number(&self, column: &str) -> Option<i64> {
        self.get(column).as_i64()
    }

    pub fn duration(&self, column: &str) -> Option<Duration> {
        self.get(column).as_u64().map(Duration::from_nanos)
    }
}

/// The rows of a table; fails when it is something else.
pub fn rows(value: Value) -> Vec<Row> {
    match value {
        Value::Array(rows) => rows.into_iter().map(Row).collect(),
        other => panic!("expected a table, got {other}"),
    }
}
