use std::time::{Duration, Instant};

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    DynamicSuggestion, Example, IntoPipelineData, IntoValue, LabeledError, PipelineData, PositionalArg, Signature,
    Span, Spanned, SyntaxShape, Type, Value,
};

use super::complete_regions;
use crate::{
    HaPlugin,
    acts::Act,
    context::Context,
    error::Failed,
    nu::{At, MILLISECOND, Wanted, args, table, to_the},
    steps,
};

pub(super) struct Power;
pub(super) struct PowerOn;
pub(super) struct PowerOff;

#[derive(IntoValue)]
struct Row {
    region: String,
    server: String,
    action: String,
    status: String,
    error: Option<String>,
    took: Option<Duration>,
    code: Option<String>,
    help: Option<String>,
}

impl PluginCommand for Power {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha power"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::String)
    }

    fn description(&self) -> &str {
        "Switch a server on or off"
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha power off us-app-1",
            description: "See what happens without one application server",
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

impl PluginCommand for PowerOn {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha power on"
    }

    fn signature(&self) -> Signature {
        signature(self.name())
    }

    fn description(&self) -> &str {
        "Switch a server on: afterwards everything on it runs"
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["start", "boot"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha power on us-app-1",
            description: "Bring a server back",
            result: None,
        }]
    }

    args::complete! { "region" => complete_regions; 0 => complete_servers }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        power(plugin, engine, call, true)
    }
}

impl PluginCommand for PowerOff {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha power off"
    }

    fn signature(&self) -> Signature {
        signature(self.name())
    }

    fn description(&self) -> &str {
        "Switch a server off: nothing on it runs, its data stays, and it stays off"
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["stop", "shutdown", "drill"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha power off us-app-1",
                description: "See what happens without one application server",
                result: None,
            },
            Example {
                example: "ha power off us-db-1 --dry-run",
                description: "Which server that would be",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_regions; 0 => complete_servers }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        power(plugin, engine, call, false)
    }
}

fn signature(name: &str) -> Signature {
    args::signature(name)
        .param(
            PositionalArg::new("server", SyntaxShape::String)
                .desc("its name, as in ha inventory server")
                .required(),
        )
        .param(args::region())
        .param(args::dry_run())
        .input_output_type(Type::Nothing, Type::table())
}

fn power(
    plugin: &HaPlugin,
    engine: &EngineInterface,
    call: &EvaluatedCall,
    on: bool,
) -> Result<PipelineData, LabeledError> {
    let head = call.head;
    let name: Spanned<String> = call.req(0)?;
    let dry_run = call.has_flag("dry-run")?;
    let context = Context::open(plugin, engine, call)?;
    let region = context.region(call)?;
    let workspace = context.workspace()?;
    let realm = context.realm(plugin, engine, workspace).at(head)?;
    if !realm.provisioned() {
        return Err(Failed::NotProvisioned(workspace.name.to_string())).at(head);
    }
    let runtime = plugin.runtime().at(head)?;
    let wanted = Wanted::new(engine, runtime)?;
    let world = wanted.block_on(runtime, context.look(workspace, &realm)).at(head)?;
    let id = world.server(&name, region.as_deref()).at(name.span)?.id.clone();

    let action = if on { "on" } else { "off" };
    let mut row = Row {
        region: id.region.to_string(),
        server: id.name.clone(),
        action: action.to_owned(),
        status: "planned".to_owned(),
        took: None,
        error: None,
        code: None,
        help: None,
    };
    if !dry_run {
        let started = Instant::now();
        let done = wanted.block_on(runtime, async {
            let _lock = steps::lock(realm.desk(), &format!("ha power {action}"), None).await?;
            Ok::<_, Failed>(realm.provider().power(&id, on).await?)
        });
        row.took = Some(to_the(MILLISECOND, started.elapsed()));
        match done {
            Ok(live) => row.status = live.status.as_str().to_owned(),
            Err(failed) => {
                row.status = "failed".to_owned();
                row.code = Some(failed.code().to_owned());
                row.help = failed.help();
                row.error = Some(failed.to_string());
            }
        }
        context.acts(workspace, realm.desk()).record(Act {
            region: Some(row.region.clone()),
            event: format!("power.{action}"),
            subject: format!("server {}", id.name),
            status: row.status.clone(),
            error: row.error.clone(),
            ..Act::default()
        });
    }
    Ok(table(vec![row], &["region", "server", "status", "error"], head))
}

/// Declared servers; whether each exists is asked when the command runs.
fn complete_servers(plugin: &HaPlugin, engine: &EngineInterface) -> Vec<DynamicSuggestion> {
    let Ok(context) = Context::open_named(plugin, engine, None, Span::unknown()) else {
        return Vec::new();
    };
    let Ok(workspace) = context.workspace() else {
        return Vec::new();
    };
    let servers = workspace.regions.iter().flat_map(|region| {
        let names = region.servers.iter().flat_map(|group| group.server_names());
        names.map(|value| DynamicSuggestion {
            value,
            description: Some(region.name.to_string()),
            ..DynamicSuggestion::default()
        })
    });
    servers.collect()
}
