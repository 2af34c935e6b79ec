//! The shell's face of `ha`: arguments in, rows out. Decisions are made in the crates below.

mod acts;
mod agreement;
mod ask;
mod commands;
mod context;
mod error;
mod log;
mod nu;
mod steps;

use std::sync::OnceLock;

use nu_plugin::{Plugin, PluginCommand};
use tokio::runtime::{Builder, Runtime};

use error::Failed;

/// Shared by all calls, which run side by side. Everything in it is a cache: the shell may end the process at
/// any time, and does so after ten idle seconds.
pub struct HaPlugin {
    runtime: OnceLock<Runtime>,
    evaluations: context::Evaluations,
    ledgers: context::Ledgers,
    price_lists: context::PriceLists,
}

impl Default for HaPlugin {
    fn default() -> Self {
        nu::remember_shell();
        Self {
            runtime: OnceLock::new(),
            evaluations: context::Evaluations::default(),
            ledgers: context::Ledgers::default(),
            price_lists: context::PriceLists::default(),
        }
    }
}

impl HaPlugin {
    /// Started by the first command that needs to wait for something.
    fn runtime(&self) -> Result<&Runtime, Failed> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ha")
            .enable_all()
            .build()
            .map_err(Failed::io("cannot start threads"))?;
        Ok(self.runtime.get_or_init(|| runtime))
    }
}

impl Drop for HaPlugin {
    fn drop(&mut self) {
        // Waiting for a blocked thread (a lock held elsewhere, a dead disk) would keep a process nobody asks any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Plugin for HaPlugin {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn commands(&self) -> Vec<Box<dyn PluginCommand<Plugin = Self>>> {
        commands::all()
    }
}
