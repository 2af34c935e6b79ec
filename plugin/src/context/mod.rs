//! Which workspace a command is about, and everything that was read for it.

mod accounts;
mod credentials;
mod dns;
mod find;
mod open;
mod places;
mod prices;
mod realm;
mod settings;
mod world;

pub(crate) use accounts::Accounts;
pub(crate) use open::{Context, Evaluations};
pub(crate) use places::Places;
pub(crate) use prices::{PriceLists, Prices};
pub(crate) use realm::{Ledgers, Realm, Silent, objections};
pub(crate) use settings::Settings;
pub(crate) use world::Thing;
