//! The names in front of the regions. What they should say is decided in `ha_core::dns`.

mod apply;
mod checks;
mod plan;
mod point;
mod remove;
mod work;

use ha_core::{
    config::Config,
    dns::{self, Goal, Seen, Told, Wanted},
    model::Workspace,
    names::ProviderName,
};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoPipelineData, LabeledError, PipelineData, Signature, Type, Value};

pub(super) use apply::Apply;
pub(super) use checks::Checks;
pub(super) use plan::Plan;
pub(super) use point::Point;
pub(super) use remove::Farewell;

use ha_cloud::dns::{Dns as _, Names, Route53};

use crate::{
    HaPlugin,
    context::{Context, Realm, Silent},
    error::Failed,
    nu::args,
};

pub(super) struct Dns;

impl PluginCommand for Dns {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha dns"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::String)
    }

    fn description(&self) -> &str {
        "The names in front of the regions, at Route 53: plan, apply, point, checks"
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["route 53", "domain", "record", "zone", "geolocation"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha dns plan",
            description: "What the names say, and what they should say",
            result: None,
        }]
    }

    fn run(
        &self,
        _plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        Ok(Value::string(engine.get_help()?, call.head).into_pipeline_data())
    }
}

/// What is asked before anything is decided.
struct View {
    seen: Seen,
    /// As declared, with the domain where a person pointed it.
    wanted: Wanted,
    /// As declared.
    declared: Wanted,
    silent: Vec<Silent>,
}

/// Asks the providers where their balancers are, and Route 53 what it has, side by side.
async fn look(
    context: &Context,
    workspace: &Workspace,
    realm: &Realm,
    (dns, names): (&Route53, &Names),
) -> Result<View, Failed> {
    let asked = async { dns.observe(Some(names)).await.map_err(Failed::from) };
    let (world, seen) = tokio::try_join!(context.look(workspace, realm), asked)?;
    let providers: Vec<ProviderName> = world.silent.iter().map(|it| it.provider).collect();
    let leads = dns::addresses(workspace, &world.live, &providers);
    let declared = wanted(workspace, &context.config, &leads)?;
    let pointed = seen.pointed(&names.zone, &names.domain, workspace.name.as_str());
    Ok(View {
        wanted: declared.clone().following(pointed),
        declared,
        seen,
        silent: world.silent,
    })
}

/// The caller has opened the DNS, so names are declared; should they not be, nothing is wanted and nothing is done.
fn wanted(
    workspace: &Workspace,
    config: &Config,
    leads: &std::collections::BTreeMap<String, Told>,
) -> Result<Wanted, Failed> {
    dns::wanted(workspace, config, leads).ok_or_else(|| Failed::NotProvisioned(workspace.name.to_string()))
}

impl View {
    fn plan(&self, goal: Goal<'_>) -> dns::Plan {
        dns::plan(goal, &self.seen)
    }
}
