use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, LabeledError, PipelineData, Signature, Spanned, Type};

use super::{complete_places, moving};
use crate::{
    HaPlugin,
    agreement::{COLUMNS, Row, Session},
    nu::{Count, args, table},
};

pub(super) struct Switchover;
pub(super) struct Failback;

impl PluginCommand for Switchover {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha switchover"
    }

    fn signature(&self) -> Signature {
        moving::signature(self.name())
            .param(moving::to(
                "the server, or the region, to hand over to (default: the nearest in the workspace's order)",
            ))
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Hand the primary over to another region, planned; nothing is lost in any mode"
    }

    fn extra_description(&self) -> &str {
        "The primary stops, sends all it has, and the other one takes over; the old one follows it without a rewind. Whatever
fails before the other one has all of it is undone within 10 s: the old primary goes on in the same epoch. All that stands
in the way is said at once, before anything is changed. A row per step as it ends, a row with status waiting when one takes
longer than a second, and last what was measured: outage is the longest gap between two commits of a small writer (null
where it could not be seen), lost is in bytes of the log. Ctrl-C stops watching; the guards finish it or undo it, and the
same command joins it again. --explain shows each server and why it would be taken or not."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["promote", "planned", "move", "primary", "maintenance"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha switchover --explain",
                description: "Who would take over, and why the others would not",
                result: None,
            },
            Example {
                example: "ha switchover --to eu-central --dry-run",
                description: "What stands in the way, the steps, and how long writes would wait",
                result: None,
            },
            Example {
                example: "ha switchover --to eu-central | last | get outage",
                description: "Do it, and how long writes waited",
                result: None,
            },
        ]
    }

    args::complete! { "to" => complete_places }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let to: Option<Spanned<String>> = call.get_flag("to")?;
        let session = Session::open(plugin, engine, call)?;
        moving::switchover(session, call, to, "ha switchover")
    }
}

impl PluginCommand for Failback {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha failback"
    }

    fn signature(&self) -> Signature {
        moving::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Hand the primary back to the region that is declared to have it"
    }

    fn extra_description(&self) -> &str {
        "A switchover to the region with role = 'Primary; nothing is lost. It never happens by itself. One row with status
unchanged where the primary is there already."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["return", "home", "restore"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha failback --dry-run",
                description: "What stands in the way, and how long writes would wait",
                result: None,
            },
            Example {
                example: "ha failback",
                description: "Back to where it belongs",
                result: None,
            },
        ]
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let declared = session.agreement.workspace.primary().map(|it| it.name.to_string());
        let Some(declared) = declared else {
            let failed = crate::error::Failed::Invalid {
                message: "no region is declared to be the primary".into(),
                errors: 1,
            };
            return Err(crate::nu::label(failed, call.head));
        };
        let term = session.wait(async { Ok(session.agreement.look().await?.term) })?;
        let at_home = session.agreement.region_of(&term.leader).as_deref() == Some(declared.as_str());
        let moved = call.has_flag("explain")?;
        if at_home && !moved {
            let row = Row {
                epoch: Some(Count(term.epoch)),
                timeline: Some(term.timeline),
                ..Row::new("failback", Some(declared), "unchanged").detail(format!("{} is primary there", term.leader))
            };
            return Ok(table(vec![row], COLUMNS, call.head));
        }
        let to = Spanned {
            item: declared,
            span: call.head,
        };
        moving::switchover(session, call, Some(to), "ha failback")
    }
}
