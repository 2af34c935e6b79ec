//! The names in front of the regions: what they should say, what they say, and what to do about the difference.
//!
//! For each region with a balancer there is one name of its own (`us.api.example.com`), and for all of them together the
//! domain itself, in the sets of its routing. Everything here is pure: addresses and what is there are arguments.
//!
//! Ownership. A zone and a health check are ours when their caller reference says so ([`reference`]): it is written in
//! the request that makes them, and nobody can change it afterwards. Tags say the same for people and bills, and decide
//! nothing. A record has neither, so beside each name of ours stands a TXT record ([`marker`]) with a line for each set
//! of ours: whose it is, and the hash of what was written. Both change in one batch, which Route 53 carries out whole or
//! not at all, so a record is never there without its line. The other ways were no better: an identifier of a set does
//! not exist on a simple record, and a zone of ours may hold records of others.
//!
//! A record of somebody else under a name of ours is a conflict: the name is left as it is.
//!
//! Sources: <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html>,
//! <https://docs.aws.amazon.com/Route53/latest/APIReference/API_CreateHealthCheck.html>.

pub mod check;
pub mod findings;
pub mod leads;
pub mod marker;
pub mod place;
mod plan;
mod record;
pub mod reference;
pub mod seen;
#[cfg(test)]
mod tests;
mod wanted;

pub use check::{Check, CheckSpec};
pub use plan::{Act, Action, Change, Goal, Made, Plan, Row, Step, plan};
pub use record::{Policy, Record, Target, Turn};
pub use seen::{Seen, Zone};
pub use wanted::{NotThere, Told, Wanted, addresses, checked, domain, wanted, zone};

/// A name as it is compared: in lower case, and without the dot at its end.
pub fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// `name` is `domain`, or below it.
pub fn within(name: &str, domain: &str) -> bool {
    name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}
