pub(crate) mod cluster;
pub mod http;
pub mod process;
pub(crate) mod shell;
pub mod value;
pub mod world;
