//! The relays between regions, on the local target: delay and cuts, to see what they do.

use std::time::Duration;

use ha_cloud::local::LinkRow;
use ha_core::names::RegionName;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, Spanned, SyntaxShape, Type, Value};

use super::complete_regions;
use crate::{
    HaPlugin,
    acts::Act,
    context::Context,
    error::Failed,
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
    connections: Option<Count>,
    bytes: Option<Bytes>,
    error: Option<String>,
}

impl From<LinkRow> for Row {
    fn from(link: LinkRow) -> Self {
        Self {
            from: link.from,
            to: link.to,
            delay: Some(link.delay),
            cut: Some(link.cut),
            connections: link.counters.map(|it| Count(it.connections)),
            bytes: link.counters.map(|it| Bytes(it.bytes)),
            error: link.error,
        }
    }
}

impl PluginCommand for Net {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha net"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List the links between regions: delay, cut, and what passed (local target)"
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

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = Context::open(plugin, engine, call)?;
        show(&context, plugin, engine, call)
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
        "Without --from or --to, from and to every region. A direction is set alone: a round trip has two."
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

    args::complete! { "from" => complete_regions, "to" => complete_regions }

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
                let (what, why) = ("--no-cut".to_owned(), "--cut is given too".to_owned());
                return Err(label(
                    Failed::BadArgument { what, why },
                    call.get_flag_span("no-cut").unwrap_or(call.head),
                ));
            }
            (true, false) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
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
                example: "ha net cut --from us-east; ha net cut --to us-east",
                description: "us-east is alone",
                result: None,
            },
        ]
    }

    args::complete! { "from" => complete_regions, "to" => complete_regions }

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

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha net heal",
            description: "All links as new",
            result: None,
        }]
    }

    args::complete! { "from" => complete_regions, "to" => complete_regions }

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
        .input_output_type(Type::Nothing, Type::table())
}

#[derive(Clone, Copy)]
enum Change {
    Set { delay: Option<Duration>, cut: Option<bool> },
    Heal,
}

fn nonnegative(value: Value) -> Result<Duration, LabeledError> {
    let span = value.span();
    let nanos = value.as_duration()?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| {
        let (what, why) = (
            "a delay below zero".to_owned(),
            "nothing arrives before it is sent".to_owned(),
        );
        label(Failed::BadArgument { what, why }, span)
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
    let named = |flag| -> Result<Option<String>, LabeledError> {
        let region = call.get_flag::<Spanned<String>>(flag)?;
        region.map(|region| context.known_region(region)).transpose()
    };
    let (from, to) = (named("from")?, named("to")?);
    let provider = context.provisioned(workspace).at(call.head)?;
    if !call.has_flag("dry-run")? {
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
                provider.heal_links(from.as_deref(), to.as_deref()).at(call.head)?;
                let any = "every region".to_owned();
                let subject = format!("{} to {}", from.unwrap_or_else(|| any.clone()), to.unwrap_or(any));
                acts.record(act("net.heal", subject, None));
            }
            Change::Set { delay, cut } => {
                for (from, to) in pairs(
                    workspace.regions.iter().map(|it| &it.name),
                    from.as_deref(),
                    to.as_deref(),
                ) {
                    provider.set_link(from, to, delay, cut).at(call.head)?;
                    let detail = [
                        delay.map(|delay| format!("delay {delay:?}")),
                        cut.map(|cut| if cut { "cut".to_owned() } else { "not cut".to_owned() }),
                    ];
                    let detail = detail.into_iter().flatten().collect::<Vec<_>>().join(", ");
                    acts.record(act("net.set", format!("{from} to {to}"), Some(detail)));
                }
            }
        }
    }
    show(&context, plugin, engine, call)
}

/// Every ordered pair that matches; a region has no link to itself.
fn pairs<'a>(
    regions: impl Iterator<Item = &'a RegionName> + Clone,
    from: Option<&str>,
    to: Option<&str>,
) -> Vec<(&'a str, &'a str)> {
    let sends = regions.clone().filter(|it| from.is_none_or(|from| **it == from));
    let receives = regions.filter(|it| to.is_none_or(|to| **it == to));
    sends
        .flat_map(|from| receives.clone().map(move |to| (from.as_str(), to.as_str())))
        .filter(|(from, to)| from != to)
        .collect()
}

fn show(
    context: &Context,
    plugin: &HaPlugin,
    engine: &EngineInterface,
    call: &EvaluatedCall,
) -> Result<PipelineData, LabeledError> {
    let workspace = context.workspace()?;
    let provider = context.provider(workspace).at(call.head)?;
    let rows = if provider.provisioned() {
        let runtime = plugin.runtime().at(call.head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let links = wanted
            .block_on(runtime, async { Ok(provider.links().await?) })
            .at(call.head)?;
        links.into_iter().map(Row::from).collect()
    } else {
        let absent = |(from, to): (&str, &str)| Row {
            from: from.to_owned(),
            to: to.to_owned(),
            delay: None,
            cut: None,
            connections: None,
            bytes: None,
            error: None,
        };
        pairs(workspace.regions.iter().map(|it| &it.name), None, None)
            .into_iter()
            .map(absent)
            .collect()
    };
    Ok(table::<Row>(rows, &["from", "to", "delay", "cut"], call.head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_an_ordered_pair_of_two_regions() {
        let regions = ["a", "b", "c"].map(RegionName::new);
        assert_eq!(pairs(regions.iter(), None, None).len(), 6);
        assert_eq!(pairs(regions.iter(), Some("a"), None), [("a", "b"), ("a", "c")]);
        assert_eq!(pairs(regions.iter(), Some("a"), Some("a")), []);
    }
}
