//! Why a run could not be begun, waited for or judged.

use std::time::Duration;

use ha_data::DataError;

#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// Nothing to write through.
    #[error("no region has a write listener")]
    NoListener,
    #[error("the write listener of {region} is `{address}`, which is not `address:port`")]
    BadListener { region: String, address: String },
    /// No listener led to a database that acknowledges a write.
    #[error("no region could write within {} s; the last answer: {why}", .within.as_secs_f64())]
    NotWritable { within: Duration, why: String },
    /// Writes do not flow (again) everywhere.
    #[error("writes did not flow within {} s in {}; the last answer: {why}", .within.as_secs_f64(), .regions.join(", "))]
    NotFlowing {
        within: Duration,
        regions: Vec<String>,
        why: String,
    },
    /// The rows could not be read or removed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The verdict is not what was demanded.
    #[error("the run is not passed: {0}")]
    NotPassed(String),
}

impl OracleError {
    /// Stable; scripts match on it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoListener | Self::BadListener { .. } => "ha::oracle::no_listener",
            Self::NotWritable { .. } => "ha::oracle::not_writable",
            Self::NotFlowing { .. } => "ha::oracle::not_flowing",
            Self::Data(_) => "ha::oracle::database",
            Self::NotPassed(_) => "ha::oracle::lost",
        }
    }

    /// What to type next.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoListener | Self::BadListener { .. } => {
                "give a region a load_balancer and a database, then: ha provision"
            }
            Self::NotWritable { .. } | Self::NotFlowing { .. } => {
                "who is primary, and who answers: ha lag; ha health | where status != ok"
            }
            Self::Data(_) => "see who answers: ha health | where status != ok",
            Self::NotPassed(_) => "run it without --check to see the rows: lost_ids, unexpected_ids, overlaps, lineage",
        }
    }
}
