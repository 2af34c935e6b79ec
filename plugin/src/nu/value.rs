//! Values that Nushell has a type for and the standard library has not.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use nu_protocol::{IntoValue, Record, Span, Value};

/// A moment, shown by the shell as `2 minutes ago`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Timestamp);

impl IntoValue for Time {
    fn into_value(self, span: Span) -> Value {
        // Both ends speak RFC 3339, so the type of the shell's date library need not be named here.
        match self.0.to_string().parse() {
            Ok(date) => Value::date(date, span),
            Err(_) => Value::nothing(span),
        }
    }
}

/// What is left of a measured time when it is shown: finer digits are noise, and fill the screen.
pub(crate) fn to_the(unit: Duration, time: Duration) -> Duration {
    let rest = time.as_nanos() % unit.as_nanos().max(1);
    time.saturating_sub(Duration::from_nanos(u64::try_from(rest).unwrap_or_default()))
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const MICROSECOND: Duration = Duration::from_micros(1);

/// A number of bytes, shown as `1.2 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl IntoValue for Bytes {
    fn into_value(self, span: Span) -> Value {
        Value::filesize(i64::try_from(self.0).unwrap_or(i64::MAX), span)
    }
}

/// A number that is never negative; the shell's whole numbers have a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl IntoValue for Count {
    fn into_value(self, span: Span) -> Value {
        Value::int(i64::try_from(self.0).unwrap_or(i64::MAX), span)
    }
}

/// A record with keys that are data (labels), in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map(pub(crate) BTreeMap<String, String>);

impl IntoValue for Map {
    fn into_value(self, span: Span) -> Value {
        let mut record = Record::with_capacity(self.0.len());
        for (key, text) in self.0 {
            record.insert(key, Value::string(text, span));
        }
        Value::record(record, span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_only_what_is_finer() {
        let time = Duration::from_nanos(2_272_579_556);
        assert_eq!(to_the(MILLISECOND, time), Duration::from_millis(2272));
        assert_eq!(to_the(MICROSECOND, time), Duration::from_micros(2_272_579));
        assert_eq!(to_the(SECOND, Duration::from_millis(999)), Duration::ZERO);
    }

    #[test]
    fn a_moment_stays_the_same_moment() {
        let at: Timestamp = "2026-03-01T12:00:00.123456789Z".parse().expect("a moment");
        let value = Time(at).into_value(Span::test_data());
        let date = value.as_date().expect("a date");
        assert_eq!(date.timestamp_nanos_opt(), i64::try_from(at.as_nanosecond()).ok());
    }
}
