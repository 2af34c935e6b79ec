use std::time::Duration;

use ha_core::budget::{self, Loss};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Completion, Example, Flag, IntoValue, LabeledError, PipelineData, Signature, Spanned, SyntaxShape, Type,
};

use super::db::mode_named;
use crate::{
    HaPlugin,
    context::Context,
    nu::{args, table},
};

pub(super) struct Budget;

#[derive(IntoValue)]
struct Row {
    step: String,
    promised: Duration,
    objective: Option<Duration>,
    kept: Option<bool>,
    rpo: Option<Duration>,
    what: String,
}

impl PluginCommand for Budget {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha budget"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                Flag::new("round-trip")
                    .arg(SyntaxShape::Duration)
                    .desc("between the regions, measured (default: objectives.max_latency_ms)"),
            )
            .param(
                Flag::new("mode")
                    .short('m')
                    .arg(SyntaxShape::String)
                    .completion(Completion::new_list(super::db::MODES))
                    .desc("another mode than the declared one"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "How long a failover takes and what it may lose, step by step, from the settings alone"
    }

    fn extra_description(&self) -> &str {
        "The region of the primary is lost. Rows detect to follow add up to writes (writes are possible again) and, for users
who entered through that region, users; these two have the objective (rto_seconds), whether it is kept, and rpo: how much
acknowledged work may be gone, in time. Nothing is asked of what runs: the same figures come before the first provision.
switchover is the planned change; nothing is detected, and nothing is lost."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["rto", "rpo", "objectives", "promise", "sla"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha budget | select step promised kept",
                description: "Promised, and whether the objectives are kept",
                result: None,
            },
            Example {
                example: "ha budget --round-trip 160ms | where step == writes | get 0.promised",
                description: "With the regions 80 ms apart",
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
        let trip: Option<Duration> = call.get_flag("round-trip")?;
        let mode: Option<Spanned<String>> = call.get_flag("mode")?;
        let mode = mode.map(mode_named).transpose()?;
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.workspace()?;
        let objectives = &workspace.objectives;
        let trip = trip.unwrap_or_else(|| budget::allowed_round_trip(objectives));
        let mode = mode.unwrap_or(workspace.sync_mode);
        let budget = budget::Budget::of_mode(workspace, mode, trip, Duration::ZERO);
        let rto = Duration::from_secs(objectives.rto_seconds);
        let mut rows: Vec<Row> = budget
            .rows(objectives)
            .into_iter()
            .map(|row| Row {
                step: row.step.to_owned(),
                promised: row.promised,
                objective: row.kept.map(|_| rto),
                kept: row.kept,
                rpo: row.rpo.map(|loss| match loss {
                    Loss::Nothing => Duration::ZERO,
                    Loss::UpTo(lag) => lag,
                }),
                what: row.what,
            })
            .collect();
        rows.push(Row {
            step: "switchover".into(),
            promised: budget.switchover(),
            objective: None,
            kept: None,
            rpo: Some(Duration::ZERO),
            what: "a planned change: nobody can write for so long".into(),
        });
        Ok(table(rows, &["step", "promised", "objective", "kept"], call.head))
    }
}
