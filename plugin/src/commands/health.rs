use std::time::Duration;

use ha_core::health::HealthRow;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, SyntaxShape, Type};

use super::complete_regions;
use crate::{
    HaPlugin,
    ask::Asker,
    context::Context,
    nu::{At, MICROSECOND, Wanted, args, table, to_the, word},
};

pub(super) struct Health;

#[derive(IntoValue)]
struct Row {
    region: String,
    target: String,
    check: Option<String>,
    status: Option<String>,
    latency: Option<Duration>,
    error: Option<String>,
}

impl From<HealthRow> for Row {
    fn from(row: HealthRow) -> Self {
        Self {
            region: row.region.to_string(),
            target: row.target,
            check: word(row.check),
            status: word(row.status),
            latency: row.latency.map(|it| to_the(MICROSECOND, it)),
            error: row.error,
        }
    }
}

impl PluginCommand for Health {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha health"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::region())
            .param(
                Flag::new("timeout").short('t').arg(SyntaxShape::Duration).desc(
                    "of each question; all are asked at once (default: $env.config.plugins.ha.timeout, else 2sec)",
                ),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Ask every part of every region whether it works"
    }

    fn extra_description(&self) -> &str {
        "endpoint asks as users do, through the balancer; load_balancer asks whether it takes database sessions; server asks
one application server; database runs a statement; store asks for a member with its majority.
off was switched off on purpose, absent is declared and not there: neither is asked."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["probe", "up", "monitor", "ping"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha health | where status != ok",
                description: "What does not work",
                result: None,
            },
            Example {
                example: "ha health --region us-east --timeout 500ms",
                description: "One region, and quickly",
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
        let head = call.head;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let workspace = context.workspace()?;
        let provider = context.provider(workspace).at(head)?;
        let timeout = match call.get_flag("timeout")? {
            Some(timeout) => timeout,
            None => context.settings.timeout,
        };
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let rows = wanted.block_on(runtime, async {
            let mut world = context.look(workspace, &provider).await?;
            if let Some(region) = &region {
                world.keep_region(region);
            }
            let asker = Asker {
                provider: &provider,
                timeout,
            };
            asker.health(&world.things()).await
        });
        let rows = rows.at(head)?.into_iter().map(Row::from).collect::<Vec<_>>();
        Ok(table(rows, &["region", "target", "status"], head))
    }
}
