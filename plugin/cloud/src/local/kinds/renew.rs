//! Another guard over the same running database: most changes need no restart of PostgreSQL.

use std::time::Duration;

use ha_core::{
    report::DatabaseState,
    unit::{StopSignal, Unit},
};
use ha_data::postgres::{ADMIN_DATABASE, ADMIN_USER, ConnectOptions, Host, connect};
use tokio::time::Instant;

use crate::ProviderError;
use crate::local::{
    Local,
    kinds::{
        database::{READY_WITHIN, UNIT},
        network::sockets,
        usable::Node,
    },
    process::units::Process,
    state::{layout::port, secrets::Password},
};

/// A file with errors is not said to have been read.
const READS_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The database runs under its guard, so there is something to keep running.
pub(crate) async fn runs(node: &Node<'_>) -> bool {
    node.report()
        .await
        .is_ok_and(|report| report.database.state == DatabaseState::Running)
}

/// Afterwards the guard runs in its new form and PostgreSQL has read its configuration again; it was restarted only
/// if it says itself that a setting needs that.
///
/// A guard that is told to end (SIGTERM) takes its database with it. One that just ends leaves it running, and the
/// next one adopts it, writes its configuration and has it read again; so this once it is stopped by a signal that
/// it does not handle. Should we die in between, the next run puts the ordinary signal back.
pub(crate) async fn renew(local: &Local, node: &Node<'_>, mut process: Process) -> Result<Unit, ProviderError> {
    let before = configuration(local, node).await?.read_at;
    process.stop_signal = StopSignal::Usr1;
    let unit = local.put(node.at, node.address.direct, &process).await?;
    local.ready(node.id, node.at, &unit, READY_WITHIN).await?;
    process.stop_signal = StopSignal::Term;
    let unit = local.put(node.at, node.address.direct, &process).await?;
    let deadline = Instant::now() + READS_WITHIN;
    let now = loop {
        let now = configuration(local, node).await?;
        if now.read_at > before || Instant::now() >= deadline {
            break now;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    };
    if let Some(settings) = now.refused {
        // A restart would be its last: with such a file it does not start.
        let log = local.layout.host(node.at.region, node.at.host).log("postgres");
        let detail = format!(
            "PostgreSQL does not take the value of {settings} and runs on with the old one (log: {})",
            log.display()
        );
        return Err(ProviderError::NotReady {
            id: node.id.clone(),
            detail,
        });
    }
    if now.waits_for_restart {
        local.running(node.at.region)?.restart(node.at.host, UNIT).await?;
    }
    Ok(unit)
}

/// What PostgreSQL says about its configuration files.
struct Configuration {
    /// Seconds since 1970.
    read_at: f64,
    waits_for_restart: bool,
    /// Names of settings whose values it cannot use.
    refused: Option<String>,
}

const CONFIGURATION: &str = "
    select extract(epoch from pg_conf_load_time())::float8,
           exists (select from pg_settings where pending_restart),
           (select string_agg(distinct file.name, ', ')
              from pg_file_settings file left join pg_settings setting using (name)
             where file.error is not null and not coalesce(setting.pending_restart, false))";

async fn configuration(local: &Local, node: &Node<'_>) -> Result<Configuration, ProviderError> {
    let not_ready = |detail: String| ProviderError::NotReady {
        id: node.id.clone(),
        detail,
    };
    let host = Host::Unix {
        dir: sockets(local, node.at)?,
        port: port::POSTGRES,
    };
    let password = local.layout.secrets().join(Password::Admin.file());
    let options = ConnectOptions::new(host, ADMIN_USER, ADMIN_DATABASE, &password);
    let session = connect(&options.application_name("ha_provision")).await;
    let session = session.map_err(|error| not_ready(error.to_string()))?;
    let row = session.query_one(CONFIGURATION, &[]).await;
    let row = row.map_err(|error| not_ready(session.error(&error).to_string()))?;
    match (row.try_get(0), row.try_get(1), row.try_get(2)) {
        (Ok(read_at), Ok(waits_for_restart), Ok(refused)) => Ok(Configuration {
            read_at,
            waits_for_restart,
            refused,
        }),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Err(not_ready(error.to_string())),
    }
}
