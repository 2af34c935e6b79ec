use std::time::Duration;

use ha_core::{
    cost,
    existing::{self, Orphan},
};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type};

use crate::{
    HaPlugin,
    context::{Context, Realm, Silent},
    error::WHAT_HAPPENED,
    nu::{At, SECOND, Wanted, args, table, to_the},
};

pub(in crate::commands) struct Orphans;

/// Of a provider that did not answer: nothing is claimed of what it holds.
const UNKNOWN: &str = "unknown";

#[derive(IntoValue)]
struct Row {
    why: String,
    kind: Option<String>,
    name: String,
    provider: String,
    location: Option<String>,
    age: Option<Duration>,
    monthly_cost: Option<f64>,
    address: Option<String>,
    error: Option<String>,
    help: String,
    code: Option<String>,
    workspace: Option<String>,
    /// The provider's own, for `ha adopt --id`.
    id: Option<String>,
}

impl PluginCommand for Orphans {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha orphans"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "List what exists at the providers for nothing: forgotten, without labels, or billed and idle"
    }

    fn extra_description(&self) -> &str {
        "why is one of
  labelled_in_part  it carries this workspace's label and not the rest
  undeclared        it is ours, and workspace.ncl does not declare it
  unlabelled        workspace.ncl declares one of this name, and this one carries no labels: ha adopt
  stopped           a server that is off and billed
  unattached        a volume or an address that no server has
  no_targets        a load balancer with nothing behind it
  unknown           a provider that did not answer; the others are listed all the same
What carries the label of another workspace is left to that one, and nothing younger than two minutes is listed.
On the local target there are no rows."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["leftover", "unused", "waste", "forgotten", "cleanup", "bill"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha orphans | where why == unlabelled | get name | uniq",
                description: "What ha adopt would give labels to",
                result: None,
            },
            Example {
                example: "ha orphans | get monthly_cost | compact | append 0 | math sum",
                description: "What all of it costs a month",
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
        let head = call.head;
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.workspace()?;
        let rows = match context.realm(plugin, engine, workspace).at(head)? {
            Realm::Local(_) => Vec::new(),
            Realm::Clouds { clouds, .. } => {
                let runtime = plugin.runtime().at(head)?;
                let wanted = Wanted::new(engine, runtime)?;
                let asked = wanted.block_on(runtime, async { Ok(clouds.survey_each().await) });
                let mut found = Vec::new();
                let mut rows = Vec::new();
                for (provider, answer) in asked.at(head)? {
                    match answer {
                        Ok(of_it) => found.extend(of_it),
                        Err(error) => rows.push(unknown(&Silent { provider, error })),
                    }
                }
                let desired = ha_core::desired::resources(workspace, &context.config);
                let prices = context.prices(plugin, engine, workspace)?.all;
                let now = Timestamp::now();
                let orphans = existing::orphans(&desired, &found, &workspace.name, now);
                rows.extend(orphans.into_iter().map(|orphan| {
                    let monthly_cost = match orphan.found.as_live() {
                        Some(live) => cost::of_live(workspace, &live, &prices),
                        None => cost::of_address(orphan.found.provider, orphan.found.location.as_deref(), &prices),
                    };
                    row(orphan, monthly_cost, now)
                }));
                rows
            }
        };
        Ok(table::<Row>(rows, &["why", "kind", "name", "help"], head))
    }
}

fn row(orphan: Orphan<'_>, monthly_cost: Option<f64>, now: Timestamp) -> Row {
    let found = orphan.found;
    Row {
        why: orphan.why.as_str().to_owned(),
        kind: Some(found.kind.to_string()),
        name: found.name.clone(),
        provider: found.provider.to_string(),
        location: found.location.clone(),
        // A clock that was set back makes nothing younger than new.
        age: found
            .created_at
            .map(|at| to_the(SECOND, Duration::try_from(now.duration_since(at)).unwrap_or_default())),
        monthly_cost,
        address: found.address.clone(),
        error: None,
        help: orphan.help,
        code: None,
        workspace: found.owner.as_ref().map(|owner| owner.ws.to_string()),
        id: Some(found.number.clone()),
    }
}

fn unknown(silent: &Silent) -> Row {
    Row {
        why: UNKNOWN.to_owned(),
        kind: None,
        name: silent.provider.to_string(),
        provider: silent.provider.to_string(),
        location: None,
        age: None,
        monthly_cost: None,
        address: None,
        error: Some(silent.error.to_string()),
        help: silent.error.help().unwrap_or_else(|| WHAT_HAPPENED.to_owned()),
        code: Some(silent.error.code().to_owned()),
        workspace: None,
        id: None,
    }
}
