//! The relays between regions, on the local target: delay and cuts, to see what they do.

mod links;

use std::time::Duration;

use ha_cloud::local::LinkRow;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, SyntaxShape, Type, Value};

use self::links::{Links, bad, pairs};
use super::complete_regions;
use crate::{
    HaPlugin,
    acts::Act,
    context::Context,
    nu::{At, Bytes, Count, Wanted, args, label, table},
};

pub(super) struct Net;
pub(super) struct NetSet;
pub(super) struct NetCut;
pub(super) struct NetHeal;

#[derive(IntoValue)]
struct Row {
    from: String,
    to: String,
    delay: Option<Duration>,
    cut: Option<bool>,
    error: Option<String>,
    connections: Option<Count>,
    bytes: Option<Bytes>,
}

impl From<LinkRow> for Row {
    fn from(link: LinkRow) -> Self {
        Self {
            from: link.from,
            to: link.to,
            delay: Some(link.delay),
            cut: Some(link.cut),
            error: link.error,
            connections: link.counters.map(|it| Count(it.connections)),
            bytes: link.counters.map(|it| Bytes(it.bytes)),
        }
    }
}

impl PluginCommand for Net {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha net"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(both_ways())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List the links between regions: delay, cut, and what passed (local target)"
    }

    fn extra_description(&self) -> &str {
        "A link is one direction between two regions; a round trip has two. connections are open now, bytes passed since the
relays started. delay and cut are null where nothing is provisioned."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["latency", "partition", "relay", "chaos", "fault"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha net | where cut",
            description: "Which directions are cut",
            result: None,
        }]
    }

    args::complete! { "region" => complete_regions }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = Context::open(plugin, engine, call)?;
        let links = Links {
            region: context.region(call)?,
            ..Links::default()
        };
        let mut rows = show(&context, plugin, engine, call)?;
        rows.retain(|row| links.have(&row.from, &row.to));
        Ok(table(rows, PRIORITY, call.head))
    }
}

impl PluginCommand for NetSet {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha net set"
    }

    fn signature(&self) -> Signature {
        directions(self.name())
            .param(
                Flag::new("delay")
                    .short('d')
                    .arg(SyntaxShape::Duration)
                    .desc("added to all that passes, one way"),
            )
            .param(Flag::new("cut").desc("nothing passes and nobody is told"))
            .param(Flag::new("no-cut").desc("passes again; what was stalled goes on"))
            .param(args::dry_run())
    }

    fn description(&self) -> &str {
        "Set delay or cut of the links between regions; what is not named stays as it was"
    }

    fn extra_description(&self) -> &str {
        "Without --from, --to or --region: every link. --from and --to name one direction, --region both of all its links."
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha net set --from us-east --to asia-southeast --delay 110ms",
                description: "The way there takes its time",
                result: None,
            },
            Example {
                example: "ha net set --delay 0ms --no-cut",
                description: "As if all were in one room",
                result: None,
            },
        ]
    }

    args::complete! { "from" => complete_regions, "to" => complete_regions, "region" => complete_regions }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let delay: Option<Duration> = match call.get_flag::<Value>("delay")? {
            Some(value) => Some(nonnegative(value)?),
            None => None,
        };
        let cut = match (call.has_flag("cut")?, call.has_flag("no-cut")?) {
            (true, true) => {
                let failed = bad("--no-cut", "--cut is given too", "give one of them");
                return Err(label(failed, call.get_flag_span("no-cut").unwrap_or(call.head)));
            }
            (true, false) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        if delay.is_none() && cut.is_none() {
            let why = "neither --delay, --cut nor --no-cut is given";
            let failed = bad(
                "a change of nothing",
                why,
                "ha net set --delay 50ms; ha net shows how it is",
            );
            return Err(label(failed, call.head));
        }
        change(plugin, engine, call, Change::Set { delay, cut })
    }
}

impl PluginCommand for NetCut {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha net cut"
    }

    fn signature(&self) -> Signature {
        directions(self.name()).param(args::dry_run())
    }

    fn description(&self) -> &str {
        "Cut links between regions, as a dead line does: open connections stay, and nothing passes"
    }

    fn extra_description(&self) -> &str {
        "Without --from, --to or --region: every link. Programs notice as they do on a real dead line: by their own timeouts.
ha net heal brings it back."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["partition", "isolate"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha net cut --from us-east",
                description: "Nothing leaves us-east; it still hears the others",
                result: None,
            },
            Example {
                example: "ha net cut --region us-east",
                description: "us-east is alone",
                result: None,
            },
        ]
    }

    args::complete! { "from" => complete_regions, "to" => complete_regions, "region" => complete_regions }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        change(
            plugin,
            engine,
            call,
            Change::Set {
                delay: None,
                cut: Some(true),
            },
        )
    }
}

impl PluginCommand for NetHeal {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha net heal"
    }

    fn signature(&self) -> Signature {
        directions(self.name()).param(args::dry_run())
    }

    fn description(&self) -> &str {
        "Remove delays and cuts between regions: what was stalled goes on"
    }

    fn extra_description(&self) -> &str {
        "Without --from, --to or --region: every link."
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha net heal",
            description: "All links as new",
            result: None,
        }]
    }

    args::complete! { "from" => complete_regions, "to" => complete_regions, "region" => complete_regions }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        change(plugin, engine, call, Change::Heal)
    }
}

fn directions(name: &str) -> Signature {
    args::signature(name)
        .param(
            Flag::new("from")
                .short('f')
                .arg(SyntaxShape::String)
                .desc("region that sends; default: every one"),
        )
        .param(
            Flag::new("to")
                .short('t')
                .arg(SyntaxShape::String)
                .desc("region that receives; default: every one"),
        )
        .param(both_ways())
        .input_output_type(Type::Nothing, Type::table())
}

/// Columns that stay readable in a narrow terminal.
const PRIORITY: &[&str] = &["from", "to", "delay", "cut"];

fn both_ways() -> Flag {
    Flag::new("region")
        .short('r')
        .arg(SyntaxShape::String)
        .desc("all links of this region, both ways")
}

#[derive(Clone, Copy)]
enum Change {
    Set { delay: Option<Duration>, cut: Option<bool> },
    Heal,
}

impl Change {
    /// What a dry run shows.
    fn would_make(self, row: Row) -> Row {
        let (delay, cut) = match self {
            Self::Set { delay, cut } => (delay.or(row.delay), cut.or(row.cut)),
            Self::Heal => (Some(Duration::ZERO), Some(false)),
        };
        Row { delay, cut, ..row }
    }
}

fn nonnegative(value: Value) -> Result<Duration, LabeledError> {
    let span = value.span();
    let nanos = value.as_duration()?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| {
        let why = "nothing arrives before it is sent";
        label(
            bad("a delay below zero", why, "ha net set --delay 0ms takes a delay away"),
            span,
        )
    })
}

fn change(
    plugin: &HaPlugin,
    engine: &EngineInterface,
    call: &EvaluatedCall,
    change: Change,
) -> Result<PipelineData, LabeledError> {
    let context = Context::open(plugin, engine, call)?;
    let workspace = context.workspace()?;
    let links = Links::named(&context, call)?;
    let provider = context.provisioned(workspace).at(call.head)?;
    if call.has_flag("dry-run")? {
        let rows = show(&context, plugin, engine, call)?.into_iter();
        let planned = rows.map(|row| match links.have(&row.from, &row.to) {
            true => change.would_make(row),
            false => row,
        });
        return Ok(table::<Row>(planned.collect(), PRIORITY, call.head));
    }
    let act = |event: &str, subject: String, detail| Act {
        event: event.to_owned(),
        subject,
        status: "done".to_owned(),
        detail,
        ..Act::default()
    };
    let acts = context.acts(workspace, &provider);
    match change {
        Change::Heal => {
            links.heal(&provider).at(call.head)?;
            acts.record(act("net.heal", links.to_string(), None));
        }
        Change::Set { delay, cut } => {
            let detail = [
                delay.map(|delay| format!("delay {delay:?}")),
                cut.map(|cut| if cut { "cut".to_owned() } else { "not cut".to_owned() }),
            ];
            let detail = detail.into_iter().flatten().collect::<Vec<_>>().join(", ");
            for (from, to) in pairs(workspace.regions.iter().map(|it| &it.name)) {
                if links.have(from, to) {
                    provider.set_link(from, to, delay, cut).at(call.head)?;
                    acts.record(act("net.set", format!("{from} to {to}"), Some(detail.clone())));
                }
            }
        }
    }
    Ok(table(show(&context, plugin, engine, call)?, PRIORITY, call.head))
}

/// All links, in the workspace's order; those of regions that left it come last.
fn show(
    context: &Context,
    plugin: &HaPlugin,
    engine: &EngineInterface,
    call: &EvaluatedCall,
) -> Result<Vec<Row>, LabeledError> {
    let workspace = context.workspace()?;
    let provider = context.provider(workspace).at(call.head)?;
    let declared = pairs(workspace.regions.iter().map(|it| &it.name));
    let live = if provider.provisioned() {
        let runtime = plugin.runtime().at(call.head)?;
        let wanted = Wanted::new(engine, runtime)?;
        wanted
            .block_on(runtime, async { Ok(provider.links().await?) })
            .at(call.head)?
    } else {
        Vec::new()
    };
    let (mut known, left): (Vec<_>, Vec<_>) = live
        .into_iter()
        .partition(|it| declared.contains(&(it.from.as_str(), it.to.as_str())));
    let mut rows: Vec<Row> = Vec::new();
    for (from, to) in declared {
        let at = known.iter().position(|it| it.from == from && it.to == to);
        rows.push(match at {
            Some(at) => known.swap_remove(at).into(),
            None => Row::absent(from, to),
        });
    }
    rows.extend(left.into_iter().map(Row::from));
    Ok(rows)
}

impl Row {
    fn absent(from: &str, to: &str) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            delay: None,
            cut: None,
            error: None,
            connections: None,
            bytes: None,
        }
    }
}
