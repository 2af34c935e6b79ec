//! What a rewound folder still lacks: the log that its source wrote while it was copied.
//!
//! Pages were taken from a source that went on writing, so the folder makes sense only from where the source was at the
//! end, and that part of the log came along only by chance. A sealed standby would wait for it for ever.

use std::time::Duration;

use ha_core::{
    agent::{PostgresConfig, stream_name},
    agreement::FENCED_NAMES,
};
use tokio::time::sleep;

use super::{
    ADMIN_DATABASE, ADMIN_USER, REPLICATION_USER,
    connect::{ConnectOptions, Host, connect},
    follow::{self, Upstream},
    process::{self, Postmaster},
    settings::quoted,
};
use crate::DataError;

/// Between two tries to come in: PostgreSQL tells nobody when it begins to answer.
const KNOCK: Duration = Duration::from_millis(20);
const STOP: Duration = Duration::from_secs(10);

/// Ends the server when whoever waits for it goes away: nobody else knows of it.
struct Temporary(Option<Postmaster>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(server) = &self.0
            && let Err(error) = server.quit()
        {
            tracing::warn!(%error, "a server that was to catch up goes on without anybody");
        }
    }
}

/// The folder holds a database that makes sense by itself, and no server runs on it. It streamed from `upstream` for that,
/// under a name that no commit waits for. The folder must be at rest and have its own configuration.
pub(super) async fn catch_up(config: &PostgresConfig, node: &str, upstream: &Upstream) -> Result<(), DataError> {
    let dir = &config.data_dir;
    follow::write_passfile(config)?;
    let name = format!("{}_rewind", stream_name(node));
    let conninfo = follow::conninfo(config, upstream, REPLICATION_USER, &name, &follow::passfile(config));
    let text = format!(
        "# Written by ha-guard, for as long as a rewind lasts.\n\
         primary_conninfo = {}\nrestore_command = ''\nsynchronous_standby_names = {}\n",
        quoted(&conninfo),
        quoted(FENCED_NAMES),
    );
    follow::write_private(&dir.join("postgresql.auto.conf"), &text)?;
    process::remove(&dir.join("recovery.signal"))?;
    follow::write_private(&dir.join("standby.signal"), "")?;
    let mut server = Temporary(Some(process::start(config)?));
    if let Some(running) = &mut server.0 {
        tokio::select! {
            ended = running.wait() => {
                server.0 = None;
                return Err(DataError::Unexpected(format!("after its rewind the database {ended}")));
            }
            () = answers(config) => {}
        }
    }
    match server.0.take() {
        Some(running) => running.stop(STOP).await,
        None => Ok(()),
    }
}

/// Until somebody can come in: a standby lets nobody in before it makes sense.
async fn answers(config: &PostgresConfig) {
    let host = Host::Unix {
        dir: config.socket_dir.clone(),
        port: config.port,
    };
    let options = ConnectOptions::new(host, ADMIN_USER, ADMIN_DATABASE, &config.admin_password_file);
    while connect(&options).await.is_err() {
        sleep(KNOCK).await;
    }
}
