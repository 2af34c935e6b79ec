use std::{sync::Arc, time::Duration};

use ha_cloud::local::LocalProvider;
use ha_core::{lag::LagRow, model::Workspace};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, IntoValue, LabeledError, PipelineData, Signature, SyntaxShape, Type};

use super::complete_regions;
use crate::{
    HaPlugin,
    ask::Asker,
    context::Context,
    error::Failed,
    nu::{At, Bytes, Count, MILLISECOND, Time, Wanted, args, channel, label, stream, table, to_the, word},
};

const COLUMNS: &[&str] = &["region", "node", "state", "lag", "verdict", "error"];

pub(super) struct Lag;

#[derive(IntoValue)]
struct Row {
    region: String,
    node: String,
    role: Option<String>,
    state: Option<String>,
    lag: Option<Duration>,
    verdict: Option<String>,
    error: Option<String>,
    lag_bytes: Option<Bytes>,
    at_least: bool,
    upstream: Option<String>,
    received: Option<String>,
    replayed: Option<String>,
    timeline: Option<u32>,
    sampled_at: Option<Time>,
    epoch: Option<Count>,
    voter: Option<bool>,
}

impl Row {
    fn new(row: LagRow, judged: bool) -> Self {
        Self {
            region: row.region.to_string(),
            node: row.node,
            role: row.role.and_then(word),
            state: word(row.state),
            lag: row.lag.map(|lag| to_the(MILLISECOND, lag)),
            verdict: judged.then(|| word(row.verdict)).flatten(),
            error: row.error,
            lag_bytes: row.lag_bytes.map(Bytes),
            at_least: row.at_least,
            upstream: row.upstream,
            received: row.received.map(|it| it.to_string()),
            replayed: row.replayed.map(|it| it.to_string()),
            timeline: row.timeline,
            sampled_at: row.sampled_at.map(Time),
            epoch: row.epoch.map(Count),
            voter: row.voter,
        }
    }
}

impl PluginCommand for Lag {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha lag"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(args::region())
            .param(
                Flag::new("check")
                    .short('c')
                    .desc("judge each row by the limits of the workspace: column verdict"),
            )
            .param(
                Flag::new("follow")
                    .short('f')
                    .desc("look again and again, until Ctrl-C"),
            )
            .param(
                Flag::new("interval")
                    .short('i')
                    .arg(SyntaxShape::Duration)
                    .desc("between two looks of --follow (default: 1sec)"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "How far each database is behind the primary, in time and in bytes"
    }

    fn extra_description(&self) -> &str {
        "Asked of the guard beside each database. lag is null where it is not known: old information never becomes a small
number. With at_least true, lag and lag_bytes are lower bounds. verdict is ok, warn, expected, critical or unknown, and
null without --check. epoch is the one its guard knows, voter whether commits may wait for it. A database that does not answer has a row with error; the command itself succeeds, so that a
scheduled job decides what a breach is: ha lag --check | where verdict != ok"
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["replication", "delay", "standby", "replica", "rpo"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha lag --check | where verdict != ok",
                description: "Databases beyond their limits",
                result: None,
            },
            Example {
                example: "ha lag | get lag | compact | math max",
                description: "The largest lag",
                result: None,
            },
            Example {
                example: "ha lag --follow --interval 5sec | where lag > 1sec",
                description: "Watch",
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
        let judged = call.has_flag("check")?;
        let interval = call.get_flag::<Duration>("interval")?.unwrap_or(Duration::from_secs(1));
        if interval < Duration::from_millis(10) {
            let failed = Failed::BadArgument {
                what: format!("an interval of {interval:?}"),
                why: "nothing new would be seen".into(),
                help: "10ms is the shortest: ha lag --follow --interval 1sec".into(),
            };
            return Err(label(failed, call.get_flag_span("interval").unwrap_or(head)));
        }
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let workspace = context.workspace()?.clone();
        let provider = context.provider(&workspace).at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let look = Look {
            context,
            workspace,
            provider,
            region,
        };
        if !call.has_flag("follow")? {
            let rows = wanted.block_on(runtime, look.rows()).at(head)?;
            let rows = rows.into_iter().map(|row| Row::new(row, judged)).collect::<Vec<_>>();
            return Ok(table(rows, COLUMNS, head));
        }
        // The first look decides whether there is anything to follow; later ones may fail and come back.
        let first = wanted.block_on(runtime, look.rows()).at(head)?;
        let (rows, received) = channel();
        let (look, cancel) = (Arc::new(look), wanted.token());
        runtime.spawn(async move {
            let mut next = tokio::time::interval(interval);
            next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            next.tick().await;
            let mut seen = Ok(first);
            loop {
                match seen {
                    Ok(table) => {
                        for row in table {
                            if rows.send(Row::new(row, judged)).await.is_err() {
                                return;
                            }
                        }
                    }
                    // The rows that could be shown would be wrong; the next look may succeed.
                    Err(failed) => eprintln!("ha lag: {failed}"),
                }
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = next.tick() => {}
                }
                seen = tokio::select! {
                    () = cancel.cancelled() => return,
                    seen = look.rows() => seen,
                };
            }
        });
        Ok(stream(received, wanted, COLUMNS, head))
    }
}

struct Look {
    context: Context,
    workspace: Workspace,
    provider: LocalProvider,
    region: Option<String>,
}

impl Look {
    /// The primary is always asked, since the others are measured by it; one region is shown if one was named.
    async fn rows(&self) -> Result<Vec<LagRow>, Failed> {
        let world = self.context.known(&self.workspace, &self.provider)?;
        let things = world.things();
        let asker = Asker {
            provider: &self.provider,
            timeout: self.context.settings.timeout,
        };
        let nodes = asker.nodes(&things).await?;
        let mut rows = nodes.lag(&self.workspace.objectives, Timestamp::now());
        rows.retain(|row| self.region.as_deref().is_none_or(|region| row.region == region));
        Ok(rows)
    }
}
