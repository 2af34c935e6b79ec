//! Databases: observe, create, replicate. PostgreSQL first.
//!
//! Each engine is a module with the same rooms (connect, observe, cluster, process); what they have in common is
//! [`ha_core::report`], not a trait: there is one engine so far, and a seam cut before the second would be a guess.

mod error;
pub mod postgres;

pub use error::DataError;
