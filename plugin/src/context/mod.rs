//! Which workspace a command is about, and everything that was read for it.

mod credentials;
mod find;
mod open;
mod places;
mod realm;
mod settings;
mod world;

pub(crate) use open::{Context, Evaluations};
pub(crate) use places::Places;
pub(crate) use realm::{Ledgers, Realm, Silent};
pub(crate) use settings::Settings;
pub(crate) use world::Thing;
