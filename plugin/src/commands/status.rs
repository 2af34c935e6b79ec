use std::time::Duration;

use ha_core::status::{self, StatusInput, StatusRow};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type};

use super::complete_regions;
use crate::{
    HaPlugin,
    ask::Asker,
    context::{Context, Realm},
    nu::{At, Count, MILLISECOND, Wanted, args, table, to_the, word},
};

pub(super) struct Status;

#[derive(IntoValue)]
struct Row {
    region: String,
    verdict: Option<String>,
    reason: Option<String>,
    role: String,
    database: Option<String>,
    lag: Option<Duration>,
    epoch: Option<Count>,
    phase: Option<String>,
    leader: Option<String>,
    mode: Option<String>,
    blocked: Option<String>,
    code: Option<String>,
    servers_up: u32,
    servers_total: u32,
    load_balancer: Option<String>,
    store: Option<String>,
    provider: String,
}

impl From<StatusRow> for Row {
    fn from(row: StatusRow) -> Self {
        let agreed = row.agreement.as_ref();
        Self {
            region: row.region.to_string(),
            verdict: word(row.verdict),
            reason: row.reason,
            role: row.role.as_str().to_owned(),
            database: row.database.and_then(word),
            lag: row.lag.map(|lag| to_the(MILLISECOND, lag)),
            epoch: agreed.map(|it| Count(it.epoch)),
            phase: agreed.map(|it| it.phase.as_str().to_owned()),
            leader: agreed.map(|it| it.leader.clone()),
            mode: agreed.map(|it| it.mode.as_str().to_owned()),
            blocked: agreed.and_then(|it| it.blocked.clone()),
            code: agreed.and_then(|it| it.code.clone()),
            servers_up: row.servers_up,
            servers_total: row.servers_total,
            load_balancer: row.load_balancer.map(|it| it.as_str().to_owned()),
            store: row.store.map(|it| it.as_str().to_owned()),
            provider: row.provider.to_string(),
        }
    }
}

impl PluginCommand for Status {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha status"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::region())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "One row per region that answers: can I sleep?"
    }

    fn extra_description(&self) -> &str {
        "verdict is ok, degraded (serves its users, and needs a look), down or absent; reason says why, in a sentence.
role is as declared, database as observed: they differ after a failover. epoch, phase, leader and mode are what the region's
own guard knows, so that a region that is cut off shows an older epoch; blocked says why the guards do nothing although
something should be done, and what to type, and code is what scripts match on. ha health and ha lag show the parts."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["overview", "summary", "state", "dashboard"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha status",
                description: "All regions",
                result: None,
            },
            Example {
                example: "ha status | all {|region| $region.verdict == ok }",
                description: "Can I sleep?",
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
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let rows = wanted.block_on(runtime, async {
            let known = context.known(workspace, &provider)?;
            let things = known.things();
            let asker = Asker {
                provider: &provider,
                timeout: context.settings.timeout,
            };
            let realm = Realm::Local(provider.clone());
            let (world, nodes, health) = tokio::join!(
                context.look(workspace, &realm),
                asker.nodes(&things),
                asker.health(&things)
            );
            let (world, nodes, health) = (world?, nodes?, health?);
            Ok(status::table(StatusInput {
                workspace,
                live: &world.live,
                nodes: &nodes.views(),
                lag: &nodes.lag(&workspace.objectives, Timestamp::now()),
                health: &health,
            }))
        });
        let rows = rows.at(head)?.into_iter();
        let rows = rows.filter(|row| region.as_deref().is_none_or(|region| row.region == region));
        let rows = rows.map(Row::from).collect::<Vec<_>>();
        Ok(table(rows, &["region", "verdict", "reason"], head))
    }
}
