//! Did anything that was acknowledged get lost?
//!
//! [`Oracle::start`] sets clients to work in every region: each writes unique ids through its own region's write
//! listener and notes what is known about each write afterwards. While they write, somebody breaks things. Then
//! [`Running::stop`] ends them, [`Ledger::found`] asks the primary what is there, and [`judge`] compares the two,
//! without a clock, a network or a database.
//!
//! Nothing here ever cancels a statement: PostgreSQL answers a commit whose wait for replication was cancelled with
//! success and a warning, although no replica has it.

mod error;
mod judge;
mod ledger;
mod note;
mod run;
mod verdict;
mod writer;

pub use error::OracleError;
pub use judge::judge;
pub use ledger::Ledger;
pub use note::{Attempt, By, Found, Mark, Notes, Outcome};
pub use run::{Burst, Listener, Options, Oracle, Pulse, Running, Snapshot};
pub use verdict::{LostWrite, Outage, Overlap, RegionVerdict, Reign, Rows, Unexpected, Verdict, Why};
