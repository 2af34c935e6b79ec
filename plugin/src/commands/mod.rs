//! One file per command: arguments in, rows out, examples. No decisions.

mod check;
mod destroy;
mod doctor;
mod events;
mod ha;
mod health;
mod init;
mod inventory;
mod lag;
mod net;
mod plan;
mod power;
mod provision;
mod regions;
mod render;
mod status;

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
