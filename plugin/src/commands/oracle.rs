use std::time::Duration;

use ha_cloud::local::LocalProvider;
use ha_core::{agent::stream_name, resource::Kind};
use ha_oracle::{Ledger, Listener, Options, Oracle as Clients, OracleError, Running, Verdict, judge};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Example, Flag, IntoPipelineData, IntoValue, LabeledError, PipelineData, PositionalArg, ShellError, Signature, Span,
    Spanned, SyntaxShape, Type, Value, engine::Closure,
};
use tokio::runtime::Runtime;

use super::complete_regions;
use crate::{
    HaPlugin,
    acts::Act,
    context::{Context, Thing},
    error::Failed,
    nu::{At, Count, MICROSECOND, MILLISECOND, Time, Wanted, args, label, to_the, word},
};

/// For writes to flow in every region before anything is done.
const START_WITHIN: Duration = Duration::from_secs(30);
/// For removing what was written by the regions that could, when others could not and nothing is judged.
const CLEARING: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(30);
const WITHOUT_CLOSURE: Duration = Duration::from_secs(10);
/// Ids shown of each kind; their counts tell all.
const SHOWN: usize = 20;

pub(super) struct Oracle;

#[derive(IntoValue)]
struct Told {
    passed: bool,
    acknowledged: Count,
    /// Null, as those below, when nobody could be asked what is there.
    ok: Option<Count>,
    failed: Count,
    unknown: Count,
    lost: Option<Count>,
    recovered: Option<Count>,
    unexpected: Option<Count>,
    longest_outage: Option<Duration>,
    error: Option<String>,
    regions: Vec<RegionRow>,
    overlaps: Vec<OverlapRow>,
    lineage: Vec<LineageRow>,
    lost_ids: Vec<LostRow>,
    recovered_ids: Vec<Count>,
    unexpected_ids: Vec<UnexpectedRow>,
    answer: Value,
    run: String,
    began_at: Time,
    took: Duration,
}

#[derive(IntoValue)]
struct RegionRow {
    region: String,
    acknowledged: Count,
    failed: Count,
    unknown: Count,
    longest_outage: Option<Duration>,
    outage_at: Option<Duration>,
    over: Option<bool>,
    p50: Option<Duration>,
    p99: Option<Duration>,
    slowest: Option<Duration>,
}

#[derive(IntoValue)]
struct OverlapRow {
    earlier: String,
    later: String,
    at: Duration,
    at_least: Duration,
    writes: Count,
}

#[derive(IntoValue)]
struct LineageRow {
    timeline: u32,
    node: String,
    acknowledged: Count,
    first: Duration,
    last: Duration,
}

#[derive(IntoValue)]
struct LostRow {
    id: Count,
    region: String,
    node: String,
    timeline: u32,
    at: Duration,
}

#[derive(IntoValue)]
struct UnexpectedRow {
    id: Count,
    why: Option<String>,
}

impl PluginCommand for Oracle {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha oracle"
    }

    fn signature(&self) -> Signature {
        let duration = |name: &str| Flag::new(name).arg(SyntaxShape::Duration);
        args::signature(self.name())
            .param(
                PositionalArg::new("closure", SyntaxShape::Closure(None))
                    .desc("what is done while clients write; without it they write for the time of --for")
                    .optional(),
            )
            .param(
                Flag::new("region")
                    .short('r')
                    .arg(SyntaxShape::String)
                    .desc("clients in this region only; default: in every one"),
            )
            .param(duration("for").desc("without a closure: how long to write (default: 10sec)"))
            .param(duration("settle").desc("how long to wait for writes to flow again afterwards (default: 30sec)"))
            .param(
                duration("interval")
                    .short('i')
                    .desc("from one write of a client to its next (default: 10ms)"),
            )
            .param(
                Flag::new("writers")
                    .arg(SyntaxShape::Int)
                    .desc("clients in each region (default: 1)"),
            )
            .param(Flag::new("keep").desc("leave the rows of this run in the table ha_oracle"))
            .param(
                Flag::new("check")
                    .short('c')
                    .desc("an error unless nothing was lost, nothing is there that must not be, and nobody wrote beside the primary"),
            )
            .input_output_type(Type::Nothing, Type::record())
    }

    fn description(&self) -> &str {
        "Write from every region while something happens, and tell what became of each write"
    }

    fn extra_description(&self) -> &str {
        "Clients write unique ids through the write listener of their own region, which has to be provisioned. When writes flow
everywhere the closure runs; when they flow again, or --settle is over, the primary is asked what is there:
  ok          acknowledged and there
  failed      certainly not committed: no session, or an error before the commit
  unknown     the answer was lost, late, or a warning that no replica has it; recovered of them are there
  lost        acknowledged and not there
  unexpected  there and must not be: it failed, nobody wrote it, or it is there twice
Null where the primary could not be asked. Of lost_ids, recovered_ids and unexpected_ids the first 20 are shown.
overlaps are pairs of nodes that acknowledged at the same time, lineage is who acknowledged on which timeline. Moments
(outage_at, at, first, last) are counted from the start. passed also demands that the closure did not fail and writes
flow in the end; error says what did not. answer is what the closure gave: a switchover that was undone is a row of it, and
no reason to fail, since the writes are judged; the first error of its rows is said beside the record, on stderr.
Ctrl-C ends the clients, and the run is judged all the same."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["chaos", "drill", "failover", "rpo", "rto", "data loss", "jepsen"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha oracle { ha net cut --region us-east; sleep 5sec; ha net heal } | select passed lost longest_outage",
                description: "What a region that is cut off for five seconds costs",
                result: None,
            },
            Example {
                example: "ha oracle --for 30sec | get regions",
                description: "How fast each region writes, with nothing happening",
                result: None,
            },
            Example {
                example: "ha oracle --check { ha power off us-db-1; sleep 2sec; ha power on us-db-1 }",
                description: "In a script: an error when anything acknowledged is gone",
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
        let asked = Asked::of(call)?;
        let context = Context::open(plugin, engine, call)?;
        let region = context.region(call)?;
        let workspace = context.workspace()?;
        let provider = context.provisioned(workspace).at(head)?;
        let things = context.known(workspace, &provider).at(head)?;
        let options = asked.options(&things.things(), &provider, region.as_deref());
        let runtime = plugin.runtime().at(head)?;
        let wanted = Wanted::new(engine, runtime)?;

        let began_at = Timestamp::now();
        let running = {
            // Its clients are tasks of the runtime.
            let _entered = runtime.enter();
            Clients::start(options).at(head)?
        };
        let done = asked.act(engine, &wanted, runtime, &running);
        let flows = match &done {
            Done::Acted(_) => wanted.block_on(runtime, async { Ok(running.flowing(asked.settle).await?) }),
            Done::NeverFlowed(_) => Ok(()),
        };
        let reading = match done {
            Done::Acted(_) => asked.settle,
            Done::NeverFlowed(_) => CLEARING,
        };
        let ended = runtime.block_on(end(running, asked.keep, reading));
        let (answer, raised) = match done {
            Done::Acted(Ok(answer)) => (answer, None),
            Done::Acted(Err(raised)) => (Value::nothing(head), Some(raised)),
            Done::NeverFlowed(failed) => return Err(label(failed, head)),
        };
        if let Some(error) = error_of(&answer) {
            eprintln!("ha oracle: the closure ended, with an error in its answer: {error}");
        }
        let errors = [
            raised
                .as_ref()
                .map(|raised| format!("the closure failed: {}", one_line(raised))),
            flows.as_ref().err().map(ToString::to_string),
            ended
                .unread
                .as_ref()
                .map(|it| format!("{it}; the rows of the run are left")),
            ended
                .uncleared
                .as_ref()
                .map(|it| format!("the rows of the run are left: {it}")),
        ];
        let errors: Vec<String> = errors.into_iter().flatten().collect();
        let passed = ended.verdict.passed() && errors.is_empty();
        context.acts(workspace, &provider).record(Act {
            region,
            event: "oracle.judge".into(),
            subject: format!("run {}", ended.verdict.run),
            status: if passed { "passed" } else { "failed" }.into(),
            detail: Some(ended.verdict.to_string()),
            error: (!errors.is_empty()).then(|| errors.join("; ")),
        });
        if wanted.token().is_cancelled() {
            // Whoever pressed Ctrl-C may get to see no value any more.
            eprintln!("ha oracle: interrupted; until then {}", ended.verdict);
        }
        if asked.check && !passed {
            let verdict = &ended.verdict;
            return Err(match (verdict.passed(), raised) {
                (true, Some(raised)) => LabeledError::from(raised).with_help(format!("the run itself: {verdict}")),
                _ => {
                    let all = std::iter::once(verdict.to_string()).chain(errors);
                    let failed = OracleError::NotPassed(all.collect::<Vec<_>>().join("; "));
                    label(failed.into(), call.get_flag_span("check").unwrap_or(head))
                }
            });
        }
        let error = (!errors.is_empty()).then(|| errors.join("; "));
        let told = Told::new(ended.verdict, passed, answer, error, began_at);
        Ok(told.into_value(head).into_pipeline_data())
    }
}

/// What was typed.
struct Asked {
    closure: Option<Spanned<Closure>>,
    time: Duration,
    settle: Duration,
    interval: Duration,
    writers: usize,
    keep: bool,
    check: bool,
}

/// How the middle of a run ended.
enum Done {
    /// The closure's answer, or its error.
    Acted(Result<Value, ShellError>),
    /// Nothing was done: writes did not flow before.
    NeverFlowed(Failed),
}

impl Asked {
    fn of(call: &EvaluatedCall) -> Result<Self, LabeledError> {
        let closure: Option<Spanned<Closure>> = call.opt(0)?;
        let time = call.get_flag::<Duration>("for")?;
        if closure.is_some() && time.is_some() {
            let failed = Failed::BadArgument {
                what: "--for".into(),
                why: "the closure decides how long clients write".into(),
                help: "leave one of them out, or sleep in the closure: ha oracle { sleep 30sec }".into(),
            };
            return Err(label(failed, call.get_flag_span("for").unwrap_or(call.head)));
        }
        let writers: i64 = call.get_flag("writers")?.unwrap_or(1);
        let bounded = usize::try_from(writers)
            .ok()
            .filter(|it| (1..=MOST_WRITERS).contains(it));
        let Some(writers) = bounded else {
            let failed = Failed::BadArgument {
                what: format!("{writers} writers in each region"),
                why: format!("from 1 to {MOST_WRITERS}: each takes a connection of the primary"),
                help: "write more often instead: ha oracle --interval 2ms".into(),
            };
            return Err(label(failed, call.get_flag_span("writers").unwrap_or(call.head)));
        };
        Ok(Self {
            closure,
            time: time.unwrap_or(WITHOUT_CLOSURE),
            settle: call.get_flag("settle")?.unwrap_or(SETTLE),
            interval: call.get_flag("interval")?.unwrap_or(Duration::from_millis(10)),
            writers,
            keep: call.has_flag("keep")?,
            check: call.has_flag("check")?,
        })
    }

    /// Clients for the write listeners there are, of one region or of all.
    fn options(&self, things: &[Thing<'_>], provider: &LocalProvider, region: Option<&str>) -> Options {
        let of_kind = |kind| things.iter().filter(move |thing| thing.kind() == Some(kind));
        let listeners = of_kind(Kind::LoadBalancer).filter_map(|thing| {
            let live = thing.live?;
            let name = live.id.region.to_string();
            let wanted = region.is_none_or(|region| region == name);
            let address = live.endpoints.get("write").filter(|_| wanted)?.clone();
            Some(Listener { region: name, address })
        });
        let mut options = Options::new(
            listeners.collect(),
            provider.folder().join("secrets/app"),
            provider.ca_file(),
        );
        // A database calls itself by the name it streams under; rows everywhere call it by that of its server.
        let nodes = of_kind(Kind::Database).map(|it| it.field("server").unwrap_or_else(|| it.name()));
        options.nodes = nodes.map(|node| (stream_name(&node), node)).collect();
        options.writers = self.writers;
        options.interval = self.interval;
        options
    }

    fn act(&self, engine: &EngineInterface, wanted: &Wanted, runtime: &Runtime, running: &Running) -> Done {
        let flowing = wanted.block_on(runtime, async { Ok(running.flowing(START_WITHIN).await?) });
        if let Err(failed) = flowing {
            return Done::NeverFlowed(failed);
        }
        running.mark("act");
        let answer = match &self.closure {
            // On this thread: the shell evaluates it, and commands of `ha` in it are calls of their own.
            Some(closure) => engine.eval_closure(closure, Vec::new(), None),
            None => {
                runtime.block_on(async {
                    tokio::select! {
                        () = tokio::time::sleep(self.time) => {}
                        () = wanted.token().cancelled_owned() => {}
                    }
                });
                Ok(Value::nothing(Span::unknown()))
            }
        };
        running.mark("acted");
        Done::Acted(answer)
    }
}

const MOST_WRITERS: usize = 20;

/// A run that is over.
struct Ended {
    verdict: Verdict,
    /// Why nobody could be asked what is there.
    unread: Option<OracleError>,
    uncleared: Option<OracleError>,
}

/// Whatever happened: what was measured is not lost.
async fn end(running: Running, keep: bool, within: Duration) -> Ended {
    let ledger: Ledger = running.ledger();
    let notes = running.stop().await;
    let (found, unread) = match ledger.found(within).await {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error)),
    };
    let uncleared = match (keep, &found) {
        (false, Some(_)) => ledger.clear(within).await.err(),
        _ => None,
    };
    Ended {
        verdict: judge(&notes, found.as_ref()),
        unread,
        uncleared,
    }
}

/// The first in a column `error`: of a row that failed, or was undone.
fn error_of(answer: &Value) -> Option<String> {
    match answer {
        Value::List { vals, .. } => vals.iter().find_map(error_of),
        Value::Record { val, .. } => match val.get("error")? {
            Value::String { val, .. } => Some(val.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn one_line(error: &ShellError) -> String {
    match error {
        ShellError::LabeledError(error) => error.msg.clone(),
        other => other.to_string(),
    }
}

impl Told {
    fn new(verdict: Verdict, passed: bool, answer: Value, error: Option<String>, began_at: Timestamp) -> Self {
        let longest_outage = verdict.longest_outage().map(|it| to_the(MILLISECOND, it.took));
        let rows = verdict.rows.as_ref();
        let lost = rows.map_or(&[][..], |rows| &rows.lost);
        let recovered = rows.map_or(&[][..], |rows| &rows.recovered);
        let unexpected = rows.map_or(&[][..], |rows| &rows.unexpected);
        Self {
            passed,
            acknowledged: verdict.acknowledged.into(),
            ok: rows.map(|rows| rows.ok.into()),
            failed: verdict.failed.into(),
            unknown: verdict.unknown.into(),
            lost: rows.map(|rows| rows.lost.len().into()),
            recovered: rows.map(|rows| rows.recovered.len().into()),
            unexpected: rows.map(|rows| rows.unexpected.len().into()),
            longest_outage,
            error,
            regions: verdict.regions.iter().map(RegionRow::new).collect(),
            overlaps: verdict
                .overlaps
                .iter()
                .map(|it| OverlapRow {
                    earlier: it.earlier.to_string(),
                    later: it.later.to_string(),
                    at: to_the(MILLISECOND, it.from),
                    at_least: to_the(MILLISECOND, it.at_least),
                    writes: it.writes.into(),
                })
                .collect(),
            lineage: verdict
                .lineage
                .iter()
                .map(|it| LineageRow {
                    timeline: it.by.timeline,
                    node: it.by.node.clone(),
                    acknowledged: it.acknowledged.into(),
                    first: to_the(MILLISECOND, it.first),
                    last: to_the(MILLISECOND, it.last),
                })
                .collect(),
            lost_ids: lost
                .iter()
                .take(SHOWN)
                .map(|it| LostRow {
                    id: Count(it.id),
                    region: it.region.clone(),
                    node: it.by.node.clone(),
                    timeline: it.by.timeline,
                    at: to_the(MILLISECOND, it.at),
                })
                .collect(),
            recovered_ids: recovered.iter().take(SHOWN).map(|id| Count(*id)).collect(),
            unexpected_ids: unexpected
                .iter()
                .take(SHOWN)
                .map(|it| UnexpectedRow {
                    id: Count(it.id),
                    why: word(it.why),
                })
                .collect(),
            answer,
            run: verdict.run,
            began_at: Time(began_at),
            took: to_the(MILLISECOND, verdict.took),
        }
    }
}

impl RegionRow {
    fn new(verdict: &ha_oracle::RegionVerdict) -> Self {
        let shown = |time: Option<Duration>| time.map(|time| to_the(MICROSECOND, time));
        let outage = verdict.outage.as_ref();
        Self {
            region: verdict.region.clone(),
            acknowledged: verdict.acknowledged.into(),
            failed: verdict.failed.into(),
            unknown: verdict.unknown.into(),
            longest_outage: outage.map(|it| to_the(MILLISECOND, it.took)),
            outage_at: outage.map(|it| to_the(MILLISECOND, it.from)),
            over: outage.map(|it| it.over),
            p50: shown(verdict.p50),
            p99: shown(verdict.p99),
            slowest: shown(verdict.slowest),
        }
    }
}

#[cfg(test)]
mod tests {
    use nu_protocol::record;

    use super::*;

    #[test]
    fn an_undone_switchover_is_not_hidden_in_the_answer() {
        let here = Span::test_data();
        let row = |status: &str, error: Value| {
            Value::test_record(record! { "status" => Value::test_string(status), "error" => error })
        };
        let done = row("done", Value::nothing(here));
        let undone = row("undone", Value::test_string("eu-db-1 did not get all of it"));
        assert_eq!(error_of(&Value::test_list(vec![done.clone()])), None);
        let told = Value::test_list(vec![done, undone.clone()]);
        assert_eq!(error_of(&told).as_deref(), Some("eu-db-1 did not get all of it"));
        assert_eq!(error_of(&undone).as_deref(), Some("eu-db-1 did not get all of it"));
        assert_eq!(error_of(&Value::nothing(here)), None);
    }
}
