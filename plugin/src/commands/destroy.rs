use std::time::{Duration, Instant};

use ha_core::plan;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Example, Flag, IntoValue, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{complete_regions, dns::Farewell};
use crate::{
    HaPlugin,
    context::{Context, Silent},
    error::Failed,
    nu::{At, MILLISECOND, Wanted, args, channel, label, stream, table, to_the},
    steps::{self, PRIORITY, Row, Work},
};

pub(super) struct Destroy;

/// As the rows of `ha provision`, and what is left: filled in the last row, which lists everything again.
#[derive(IntoValue)]
struct Removed {
    region: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    action: String,
    status: String,
    left: Option<u32>,
    error: Option<String>,
    took: Option<Duration>,
    code: Option<String>,
    help: Option<String>,
    step: u32,
}

impl PluginCommand for Destroy {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha destroy"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("name", SyntaxShape::String)
                    .desc("the workspace's own name, typed out: its data is gone afterwards")
                    .required(),
            )
            .param(args::region())
            .param(args::dry_run())
            .param(
                Flag::new("wait")
                    .arg(SyntaxShape::Duration)
                    .desc("for another shell that is changing the same workspace; default: 5sec"),
            )
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Remove everything of the workspace, data included: a row per step, then what is left"
    }

    fn extra_description(&self) -> &str {
        "In a safe order: names that lead to it go first, and what is used is removed after what uses it. The last row lists everything again: left is 0 when
nothing is left. Only what carries this workspace's label is touched. Run it again when something failed.
What was done stays in ha events."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["delete", "remove", "down", "tear down", "clean"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha destroy shop",
                description: "Remove all of the workspace shop",
                result: None,
            },
            Example {
                example: "ha destroy shop --dry-run | length",
                description: "How much that would be",
                result: None,
            },
            Example {
                example: "ha destroy shop --region asia-southeast",
                description: "Remove one region",
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
        let typed: Spanned<String> = call.req(0)?;
        let dry_run = call.has_flag("dry-run")?;
        let wait: Option<Duration> = call.get_flag("wait")?;
        let context = Context::open(plugin, engine, call)?;
        let workspace = context.workspace()?;
        if workspace.name != typed.item.as_str() {
            let failed = Failed::WrongName {
                typed: typed.item,
                workspace: workspace.name.to_string(),
            };
            return Err(label(failed, typed.span));
        }
        // A region may be gone from the workspace and still be there: any name that something carries will do.
        let region: Option<Spanned<String>> = call.get_flag("region")?;
        let realm = context.realm(plugin, engine, workspace).at(head)?;
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;

        let plan = wanted.block_on(runtime, async {
            let lock = match dry_run || !realm.provisioned() {
                true => None,
                false => Some(steps::lock(realm.desk(), "ha destroy", wait).await?),
            };
            let world = context.look(workspace, &realm).await?;
            Ok((lock, world))
        });
        let (lock, world) = plan.at(head)?;
        if let Some(region) = &region
            && world.live.iter().all(|it| it.id.region != region.item.as_str())
        {
            context.known_region(region.clone())?;
        }
        let region = region.map(|region| region.item);
        let of_region = |it: &&Silent| region.as_ref().is_none_or(|region| it.is_of(workspace, region));
        let silent = world.silent.iter().filter(of_region);
        let silent: Vec<Row> = silent.map(|it| Row::silent(it, workspace)).collect();
        let mut steps = plan::destroy(&world.live);
        if let Some(region) = &region {
            steps = plan::in_region(steps, region);
        }
        let names = Farewell::new(
            plugin,
            engine,
            (&context, workspace, &realm),
            (&world.live, &world.silent),
            region.as_deref(),
        );
        if dry_run {
            let named = wanted.block_on(runtime, async {
                Ok(match names {
                    Ok(Some(names)) => names.planned(1).await.unwrap_or_else(|failed| vec![unnamed(failed)]),
                    Ok(None) => Vec::new(),
                    Err(failed) => vec![unnamed(failed)],
                })
            });
            let named = named.at(head)?;
            let offset = u32::try_from(named.len()).unwrap_or(u32::MAX);
            let rows = steps::planned(&steps).into_iter().map(|row| Row {
                step: row.step.saturating_add(offset),
                ..row
            });
            let rows = if steps.is_empty() { Vec::new() } else { rows.collect() };
            let rows = silent.into_iter().chain(named).chain(rows).map(Removed::from);
            let rows = rows.collect::<Vec<_>>();
            return Ok(table(rows, PRIORITY, head));
        }
        let name = workspace.name.to_string();
        let Some(lock) = lock else {
            return Ok(table(
                vec![Removed::left(1, name, Ok(Some(0)), Duration::ZERO)],
                PRIORITY,
                head,
            ));
        };
        let cancel = wanted.token();
        let work = Work {
            acts: context.acts(workspace, realm.desk()),
            settings: context.settings.clone(),
            provider: realm.provider(),
            lock,
            verb: "destroy",
        };
        let (rows, finished) = channel();
        runtime.spawn(async move {
            for row in silent {
                // The reader may be gone, as below.
                let _ = rows.send(Removed::from(row)).await;
            }
            let (offset, names_left) = say_farewell(names, &rows, &cancel).await;
            let (step_rows, steps_done) = channel();
            let (last, _) = tokio::join!(
                async {
                    let step_rows = step_rows;
                    work.run(steps, &step_rows, cancel).await
                },
                forward(steps_done, offset, &rows)
            );
            let started = Instant::now();
            let left = work.provider.observe().await.map(|live| {
                let of_region =
                    |it: &&ha_core::resource::Live| region.as_ref().is_none_or(|name| it.id.region == name.as_str());
                live.iter().filter(of_region).count()
            });
            // What went wrong with the names has its own row.
            let left = left.map_err(Failed::from).map(|left| Some(left + names_left?));
            let row = Removed::left(last + offset + 1, name, left, started.elapsed());
            // The reader may be gone; there is nothing left to tell it.
            let _ = rows.send(row).await;
        });
        Ok(stream(finished, wanted, PRIORITY, head))
    }
}

/// The number of rows; they are numbered from after `offset` on.
async fn forward(mut from: mpsc::Receiver<Row>, offset: u32, to: &mpsc::Sender<Removed>) -> u32 {
    let mut count = 0;
    while let Some(mut row) = from.recv().await {
        row.step = row.step.saturating_add(offset);
        count += 1;
        // The reader may be gone; the steps go on until they were told to stop.
        let _ = to.send(Removed::from(row)).await;
    }
    count
}

/// The names first, since nothing else waits for them. Answers how many rows that took, and how many names are left; none
/// where that is not known.
async fn say_farewell(
    names: Result<Option<Farewell>, Failed>,
    rows: &mpsc::Sender<Removed>,
    cancel: &CancellationToken,
) -> (u32, Option<usize>) {
    let names = match names {
        Ok(Some(names)) => names,
        Ok(None) => return (0, Some(0)),
        Err(failed) => {
            let _ = rows.send(unnamed(failed).into()).await;
            return (1, None);
        }
    };
    let (name_rows, names_done) = channel();
    let (left, count) = tokio::join!(
        async {
            let name_rows = name_rows;
            names.run(1, &name_rows, cancel).await
        },
        forward(names_done, 0, rows)
    );
    match left {
        Ok(left) => (count, Some(left)),
        Err(failed) => {
            let row = Row {
                step: count + 1,
                ..unnamed(failed)
            };
            let _ = rows.send(row.into()).await;
            (count + 1, None)
        }
    }
}

/// Whether there are names is not known.
fn unnamed(failed: Failed) -> Row {
    Row {
        step: 1,
        kind: Some("dns".to_owned()),
        action: "delete".to_owned(),
        status: "failed".to_owned(),
        code: Some(failed.code().to_owned()),
        help: failed.help(),
        error: Some(failed.to_string()),
        ..Row::default()
    }
}

impl From<Row> for Removed {
    fn from(row: Row) -> Self {
        Self {
            step: row.step,
            region: row.region,
            kind: row.kind,
            name: row.name,
            action: row.action,
            status: row.status,
            took: row.took,
            left: None,
            error: row.error,
            code: row.code,
            help: row.help,
        }
    }
}

impl Removed {
    fn left(step: u32, workspace: String, left: Result<Option<usize>, Failed>, took: Duration) -> Self {
        let mut row = Row {
            step,
            name: Some(workspace),
            action: "list".into(),
            took: Some(to_the(MILLISECOND, took)),
            ..Row::default()
        };
        let left = match left {
            Ok(Some(0)) => {
                row.status = "done".into();
                Some(0)
            }
            Ok(None) => {
                row.status = "failed".into();
                row.error = Some("what is left of its names is not known".into());
                row.help = Some("correct what the row of dns says, and run the same command again".into());
                None
            }
            Ok(Some(count)) => {
                row.status = "failed".into();
                row.error = Some(format!("{count} of it are still there"));
                row.help = Some("run the same command again: it removes what is left".into());
                u32::try_from(count).ok()
            }
            Err(failed) => {
                row.status = "failed".into();
                row.code = Some(failed.code().to_owned());
                row.help = failed.help();
                row.error = Some(failed.to_string());
                None
            }
        };
        Self { left, ..row.into() }
    }
}
