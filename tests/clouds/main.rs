//! `target = "cloud"`: the real shell, the real plugin, and providers without an account.

mod deploy;
mod existing;
mod names;
mod prices;
mod rights;
mod secrets;
mod whole;
mod world;
