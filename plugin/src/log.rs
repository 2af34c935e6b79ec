//! What is said of the work while it goes on, to stderr: warnings, and as much more as `HA_LOG` asks for.

use std::{io, sync::OnceLock};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Registry, filter::Targets, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::error::Failed;

pub(crate) const VARIABLE: &str = "HA_LOG";

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Only these speak. Crates of others would say more than is asked for, and what they send: headers with credentials,
/// bodies with user data.
const OURS: [&str; 6] = ["nu_plugin_ha", "ha_cloud", "ha_core", "ha_data", "ha_edge", "ha_store"];

/// None where somebody else listens already: a test's own subscriber.
static FILTER: OnceLock<Option<reload::Handle<Targets, Registry>>> = OnceLock::new();

/// Say from now on what the caller wants to hear. Calls that run side by side hear the same, as the last one wants.
pub(crate) fn follow(wanted: Option<&str>) -> Result<(), Failed> {
    let level = match wanted {
        None => LevelFilter::WARN,
        Some(text) => text
            .parse()
            .ok()
            .filter(|_| LEVELS.contains(&text))
            .ok_or_else(|| Failed::BadArgument {
                what: format!("{VARIABLE} = {text}"),
                why: format!("it is one of {}", LEVELS.join(", ")),
                help: format!("$env.{VARIABLE} = \"debug\" shows every request to a provider"),
            })?,
    };
    let filter = FILTER.get_or_init(|| {
        let (filter, handle) = reload::Layer::new(targets(LevelFilter::OFF));
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(false).compact();
        let installed = tracing_subscriber::registry().with(filter).with(lines).try_init();
        installed.is_ok().then_some(handle)
    });
    if let Some(filter) = filter {
        // It fails only when the subscriber is gone, and nobody listens then.
        let _ = filter.reload(targets(level));
    }
    Ok(())
}

fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_targets(OURS.map(|name| (name, level)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_of_five_and_only_our_crates_speak() {
        assert!(follow(Some("loud")).is_err());
        assert!(follow(Some("1")).is_err(), "a number is a level for tracing only");
        assert!(follow(Some("debug")).is_ok() && follow(None).is_ok());
        let targets = targets(LevelFilter::TRACE);
        assert!(targets.would_enable("ha_cloud::rest", &tracing::Level::DEBUG));
        for other in ["aws_smithy_runtime::client", "hyper_util", "h2::proto"] {
            assert!(!targets.would_enable(other, &tracing::Level::ERROR), "{other}");
        }
    }
}
