//! All contact with the shell that is not a command: values, tables, streams, errors, interruption.

pub(crate) mod args;
mod error;
mod output;
mod value;
mod wanted;
mod word;

pub(crate) use error::{At, label};
pub(crate) use output::{channel, stream, table};
pub(crate) use value::{Bytes, Count, MICROSECOND, MILLISECOND, Map, SECOND, Time, to_the};
pub(crate) use wanted::{Wanted, remember_shell};
pub(crate) use word::word;
