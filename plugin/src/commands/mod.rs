//! One file per command: arguments in, rows out, examples. No decisions.

mod adopt;
mod budget;
mod check;
mod cost;
mod db;
mod destroy;
mod dns;
mod doctor;
mod events;
mod existing;
mod failover;
mod ha;
mod health;
mod init;
mod inventory;
mod lag;
mod lease;
mod limits;
mod moving;
mod net;
mod oracle;
mod pause;
mod plan;
mod power;
mod provision;
mod quorum;
mod regions;
mod rejoin;
mod render;
mod status;
mod switchover;
mod upgrade;

use nu_plugin::{EngineInterface, PluginCommand};
use nu_protocol::{DynamicSuggestion, Span};

use crate::{HaPlugin, context::Context};

pub(crate) fn all() -> Vec<Box<dyn PluginCommand<Plugin = HaPlugin>>> {
    vec![
        Box::new(ha::Ha),
        Box::new(init::Init),
        Box::new(check::Check),
        Box::new(regions::Regions),
        Box::new(plan::Plan),
        Box::new(provision::Provision),
        Box::new(inventory::Inventory),
        Box::new(existing::Orphans),
        Box::new(existing::AdoptExisting),
        Box::new(existing::Import),
        Box::new(limits::Limits),
        Box::new(status::Status),
        Box::new(health::Health),
        Box::new(lag::Lag),
        Box::new(events::Events),
        Box::new(render::Render),
        Box::new(net::Net),
        Box::new(net::NetSet),
        Box::new(net::NetCut),
        Box::new(net::NetHeal),
        Box::new(power::Power),
        Box::new(power::PowerOn),
        Box::new(power::PowerOff),
        Box::new(upgrade::Upgrade),
        Box::new(switchover::Switchover),
        Box::new(failover::Failover),
        Box::new(switchover::Failback),
        Box::new(rejoin::Rejoin),
        Box::new(lease::Lease),
        Box::new(quorum::Quorum),
        Box::new(adopt::Adopt),
        Box::new(pause::Pause),
        Box::new(pause::Resume),
        Box::new(pause::Ack),
        Box::new(db::Db),
        Box::new(db::SyncModeCommand),
        Box::new(db::Voters),
        Box::new(budget::Budget),
        Box::new(cost::Cost),
        Box::new(dns::Dns),
        Box::new(dns::Plan),
        Box::new(dns::Apply),
        Box::new(dns::Point),
        Box::new(dns::Checks),
        Box::new(oracle::Oracle),
        Box::new(destroy::Destroy),
        Box::new(doctor::Doctor),
    ]
}

/// The regions of the workspace around, for completion; nothing when there is none.
fn complete_regions(plugin: &HaPlugin, engine: &EngineInterface) -> Vec<DynamicSuggestion> {
    let Ok(context) = Context::open_named(plugin, engine, None, Span::unknown()) else {
        return Vec::new();
    };
    let Ok(workspace) = context.workspace() else {
        return Vec::new();
    };
    let suggest = |region: &ha_core::model::Region| DynamicSuggestion {
        value: region.name.to_string(),
        description: Some(format!(
            "{}, {} {}",
            region.role.as_str(),
            region.provider,
            region.location
        )),
        ..DynamicSuggestion::default()
    };
    workspace.regions.iter().map(suggest).collect()
}

/// Database servers, as declared.
fn complete_nodes(plugin: &HaPlugin, engine: &EngineInterface) -> Vec<DynamicSuggestion> {
    let Ok(context) = Context::open_named(plugin, engine, None, Span::unknown()) else {
        return Vec::new();
    };
    let Ok(workspace) = context.workspace() else {
        return Vec::new();
    };
    let nodes = workspace.regions.iter().flat_map(|region| {
        let groups = region.databases.iter().filter_map(|it| it.runs_on.as_deref());
        let servers = groups.filter_map(|name| region.servers.iter().find(|it| it.declared.name == name));
        servers
            .flat_map(|group| group.server_names())
            .map(|value| DynamicSuggestion {
                value,
                description: Some(region.name.to_string()),
                ..DynamicSuggestion::default()
            })
    });
    nodes.collect()
}

/// Regions, then the database servers in them: `--to` takes either.
fn complete_places(plugin: &HaPlugin, engine: &EngineInterface) -> Vec<DynamicSuggestion> {
    let mut places = complete_regions(plugin, engine);
    places.extend(complete_nodes(plugin, engine));
    places
}
