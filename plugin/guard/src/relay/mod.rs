//! Stands between the regions of the local target: adds delay and cuts links, per direction.
//!
//! Each server is reached from other regions at a front of its own. Who calls is told by the socket; what passes from
//! region to region waits for that direction's delay, and while it is cut nothing passes and nobody is told, as
//! across a dead line. Callers that belong to no region (a person's shell) are neither delayed nor cut.

mod caller;
mod connection;
mod fronts;
mod lane;
mod links;
mod socket;
mod status;
mod watched;

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use ha_core::agent::RelayConfig;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use self::{
    fronts::Fronts,
    links::Network,
    watched::{Folders, Watched},
};

/// Changes of files are told by the kernel; this often they are looked at without being told, in case it cannot.
const POLL: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT; then all its connections end.
///
/// Fails at once when `relay.json` cannot be used or the status address is taken. A front that cannot be opened is
/// told in `GET /fronts` and tried again; the others work.
pub(crate) async fn run(path: &Path) -> anyhow::Result<()> {
    let config = read(path)?;
    // A connection needs two descriptors, and held ones of a long cut add up.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }

    let status = TcpListener::bind(&config.status)
        .await
        .with_context(|| format!("cannot listen on {} for the status", config.status))?;
    let folders = Folders::new();
    let mut links_file = Watched::new(config.links.clone());
    let mut config_file = Watched::new(path.to_owned());
    // Watched before it is read: a change in between is seen twice rather than never.
    folders.watch(links_file.path());
    folders.watch(path);
    let network = Arc::new(Network::new(&config.region));
    links_file.changed();
    network.read(links_file.path());
    let mut fronts = Fronts::new(network.clone());
    fronts.set(config);
    let shown = status::router(network.clone(), fronts.states());
    let serving = tokio::spawn(async move { axum::serve(status, shown).await });

    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let told = tokio::select! {
            _ = poll.tick() => false,
            () = folders.stirred() => false,
            _ = hangup.recv() => true,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        folders.watch(path);
        if config_file.changed() || told {
            match read(path) {
                Ok(config) => {
                    if config.links != *links_file.path() {
                        links_file = Watched::new(config.links.clone());
                    }
                    fronts.set(config);
                }
                // Half a file or a wrong one: what is open stays open.
                Err(error) => tracing::error!(error = format!("{error:#}"), "kept the configuration there was"),
            }
        }
        folders.watch(links_file.path());
        if links_file.changed() || told {
            network.read(links_file.path());
        }
    }
    serving.abort();
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<RelayConfig> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config: RelayConfig =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no relay configuration", path.display()))?;
    // The kernel shows working folders without symbolic links.
    if let Ok(real) = fs::canonicalize(&config.workspace_dir) {
        config.workspace_dir = real;
    }
    Ok(config)
}
