use std::time::Duration;

use ha_cloud::offers::calls_at_least;
use ha_core::{
    config::Target,
    cost::{self, Prices},
    model::Workspace,
    plan::{self, Action, Step},
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, Type};

use super::complete_regions;
use crate::{
    HaPlugin,
    context::{Context, Silent},
    nu::{Count, args, table},
};

pub(super) struct Plan;

/// The action of a row that is a provider which did not answer.
pub(super) const UNKNOWN: &str = "unknown";

#[derive(IntoValue)]
struct Row {
    action: String,
    region: String,
    kind: String,
    name: String,
    reason: String,
    risk: String,
    downtime: Option<Duration>,
    monthly_cost: Option<f64>,
    /// None where nobody is asked by requests.
    calls: Option<Count>,
}

impl PluginCommand for Plan {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha plan"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::region())
            .param(Flag::new("destroy").desc("what ha destroy would remove"))
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Compare what is wanted with what is there: a row per resource, in the order of the work"
    }

    fn extra_description(&self) -> &str {
        "Rows with action none are as they should be; action unknown is a provider that did not answer. Rows can be filtered
and piped into ha provision, which plans again and does what is still needed of them. downtime says how long users of
that very resource are without it; monthly_cost what it costs in dollars when the step is done: nothing when it is gone. calls is how many requests to the
provider a step takes at least (ha limits says how many are left), and null on this machine."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["diff", "preview", "dry run", "drift", "terraform"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha plan | where action != none",
                description: "What ha provision would do",
                result: None,
            },
            Example {
                example: "ha plan | where region == us-east | ha provision",
                description: "Do a part of it",
                result: None,
            },
            Example {
                example: "ha plan --destroy | group-by kind --to-table",
                description: "What would be removed",
                result: None,
            },
        ]
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
        let region = context.region(call)?;
        let destroy = call.has_flag("destroy")?;
        // A workspace with errors can still be removed.
        if !destroy {
            context.sound()?;
        }
        let world = context.world(plugin, engine)?;
        let steps = if destroy {
            plan::destroy(&world.live)
        } else {
            plan::plan(&world.desired, &world.live)
        };
        let workspace = context.workspace()?;
        let of_region = |it: &&Silent| region.as_ref().is_none_or(|region| it.is_of(workspace, region));
        let silent = world.silent.iter().filter(of_region);
        let silent: Vec<Row> = silent.map(|it| unknown(it, workspace)).collect();
        let steps = match &region {
            Some(region) => plan::in_region(steps, region),
            None => steps,
        };
        let prices = context.prices(plugin, engine, workspace)?.all;
        let by_requests = context.config.target == Target::Cloud;
        let steps = steps.into_iter().map(|step| Row {
            calls: by_requests.then(|| Count(calls_at_least(step.action))),
            ..row(step, workspace, &prices)
        });
        let rows = silent.into_iter().chain(steps).collect();
        Ok(table::<Row>(rows, &["action", "region", "name"], call.head))
    }
}

/// What a provider that did not answer holds is neither planned nor touched.
fn unknown(silent: &Silent, workspace: &Workspace) -> Row {
    let help = silent.error.help().map_or(String::new(), |help| format!("; {help}"));
    Row {
        action: UNKNOWN.to_owned(),
        region: silent.regions(workspace).unwrap_or_default(),
        kind: "provider".to_owned(),
        name: silent.provider.to_string(),
        reason: format!("did not answer: {}{help}", silent.error),
        risk: "none".to_owned(),
        downtime: None,
        monthly_cost: None,
        calls: None,
    }
}

fn row(step: Step, workspace: &Workspace, prices: &Prices) -> Row {
    let monthly_cost = match (step.action, &step.desired, &step.live) {
        (Action::Delete, ..) => Some(0.0),
        (_, Some(desired), _) => cost::of_resource(workspace, desired, prices),
        (_, None, Some(live)) => cost::of_live(workspace, live, prices),
        (_, None, None) => None,
    };
    Row {
        action: step.action.as_str().to_owned(),
        region: step.id.region.to_string(),
        kind: step.id.kind.to_string(),
        name: step.id.name,
        reason: step.reason,
        risk: step.risk.as_str().to_owned(),
        downtime: step.downtime,
        monthly_cost,
        calls: None,
    }
}
