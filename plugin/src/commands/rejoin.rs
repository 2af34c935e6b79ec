use std::time::{Duration, Instant};

use ha_core::{agreement::Ask, switch::Refusal};
use ha_store::{Revision, Swap, Write};
use jiff::Timestamp;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, Flag, LabeledError, PipelineData, PositionalArg, Signature, Spanned, SyntaxShape, Type};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    complete_places,
    moving::failed_row,
    pause::{changed, record},
};
use crate::{
    HaPlugin,
    agreement::{Agreement, COLUMNS, Look, Row, Session, operation, until},
    error::{Failed, What},
    nu::{At, args, channel, stream, table},
};

pub(super) struct Rejoin;

/// For the guard to begin.
const BEGUN_WITHIN: Duration = Duration::from_secs(30);
/// Between two attempts at a store that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A copy of everything takes as long as it takes; without any change for so long something is stuck.
const STREAMS_WITHIN: Duration = Duration::from_secs(600);

impl PluginCommand for Rejoin {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha rejoin"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name())
            .param(
                PositionalArg::new("place", SyntaxShape::String)
                    .desc("the database server, or its region")
                    .required(),
            )
            .param(
                Flag::new("copy")
                    .short('c')
                    .desc("copy everything anew, also where its data could be brought up to date"),
            )
            .param(args::dry_run())
            .input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Bring a database server back as a replica that streams, and wait until it does"
    }

    fn extra_description(&self) -> &str {
        "Its guard does this by itself: it follows where its log is a part of the primary's, rewinds it where it is not, and
copies everything where that fails. So without --copy this asks for nothing, says what the guard is at, and waits. With
--copy its guard is asked to make a new copy: it waits until the leader has dropped it from the voters, since a copy that was
erased must not be counted on. Ctrl-C stops watching; the guard goes on."
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["rewind", "basebackup", "resync", "rebuild", "clone", "standby"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "ha rejoin eu-central",
                description: "Wait until the old primary streams again",
                result: None,
            },
            Example {
                example: "ha rejoin asia-db-1 --copy --dry-run",
                description: "What a new copy would mean",
                result: None,
            },
        ]
    }

    args::complete! { "region" => complete_places; 0 => complete_places }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let place: Spanned<String> = call.req(0)?;
        let copy = call.has_flag("copy")?;
        let dry_run = call.has_flag("dry-run")?;
        let session = Session::open(plugin, engine, call)?;
        let agreement = session.agreement.clone();
        let work = async {
            let look = agreement.look().await?;
            let node = named(&agreement, &look, &place.item)?;
            if copy {
                refuse_copy(&look, &node)?;
            }
            Ok((look, node))
        };
        let (look, node) = session.wanted.block_on(session.runtime, work).at(place.span)?;
        let region = agreement.region_of(&node);
        if !copy && streams(&look, &node) {
            let row =
                Row::new("rejoin", region, "unchanged").detail(format!("{node} streams from {}", look.term.leader));
            return Ok(table(vec![row], COLUMNS, call.head));
        }
        if dry_run {
            let detail = if copy {
                format!(
                    "{node} is dropped from the voters, then all its data is copied anew from {}",
                    look.term.leader
                )
            } else {
                doing(&agreement, &look, &node)
            };
            return Ok(table(
                vec![Row::new("rejoin", region, "planned").detail(detail)],
                COLUMNS,
                call.head,
            ));
        }
        let (rows, received) = channel();
        let cancel = session.wanted.token();
        if copy {
            record(&session, "rejoin.copy", "asked", Some(node.clone()));
        }
        session.runtime.spawn(async move {
            let started = Instant::now();
            let done = async {
                if copy {
                    ask(&agreement, &node, &rows, &cancel).await?;
                }
                let waits = |look: &Look| {
                    Row::new("rejoin", agreement.region_of(&node), "waiting").detail(doing(&agreement, look, &node))
                };
                until(
                    &agreement,
                    STREAMS_WITHIN,
                    &cancel,
                    |look| streams(look, &node),
                    waits,
                    &rows,
                )
                .await
            };
            let row = match done.await {
                Ok(look) => Row::new("rejoin", region, "done")
                    .took(started.elapsed())
                    .detail(format!("{node} streams from {}", look.term.leader)),
                Err(failed) => failed_row("rejoin", region, &failed),
            };
            // The reader may be gone; the guard goes on.
            let _ = rows.send(row).await;
        });
        Ok(stream(received, session.wanted, COLUMNS, call.head))
    }
}

/// A server's name, or the only one of a region that is not the primary.
fn named(agreement: &Agreement, look: &Look, place: &str) -> Result<String, Failed> {
    let data = || agreement.nodes.iter().filter(|it| it.data);
    let found = data()
        .find(|it| it.name == place)
        .or_else(|| data().find(|it| it.region == place && it.name != look.term.leader))
        .or_else(|| data().find(|it| it.region == place));
    let Some(node) = found else {
        let mut known: Vec<String> = data().map(|it| it.region.clone()).collect();
        known.dedup();
        known.extend(data().map(|it| it.name.clone()));
        let among = format!("workspace {}", agreement.workspace.name);
        return Err(Failed::unknown(What::Region, place, among, known));
    };
    if node.name == look.term.leader {
        return Err(Failed::refused(
            Refusal::new(
                "ha::rejoin::is_primary",
                format!("{} is the primary: the others follow it", node.name),
                "see who follows: ha lag",
            )
            .of(&node.region),
        ));
    }
    Ok(node.name.clone())
}

fn streams(look: &Look, node: &str) -> bool {
    let follows = look.members.get(node).and_then(|it| it.follows.as_ref());
    follows.is_some_and(|it| it.node == look.term.leader && it.epoch == look.term.epoch && it.streaming)
}

/// What its guard is at, in its own words.
fn doing(agreement: &Agreement, look: &Look, node: &str) -> String {
    if agreement.node(node).is_some_and(|it| it.off) {
        return format!("the server of {node} is switched off: ha power on {node}");
    }
    let Some(member) = look.members.get(node) else {
        return format!("nothing is heard of the guard of {node}: ha health, ha power on {node}");
    };
    let need = member
        .need
        .as_ref()
        .map(|it| format!("its data must be rebuilt: {}", it.why));
    let state = member.detail.clone().or_else(|| crate::nu::word(member.state));
    let said = member
        .blocked
        .clone()
        .or_else(|| member.doing.clone())
        .or(need)
        .or(state);
    said.map_or_else(|| format!("{node} does not stream yet"), |it| format!("{node}: {it}"))
}

/// The guard has done what it was asked for.
///
/// # Errors
/// `ha::rejoin::not_taken_up` when nothing of it was begun in time: then the wish was taken back.
/// `ha::rejoin::refused` with the guard's reason. [`Failed::Interrupted`]: the guard goes on.
async fn ask(
    agreement: &Agreement,
    node: &str,
    rows: &mpsc::Sender<Row>,
    cancel: &CancellationToken,
) -> Result<(), Failed> {
    let store = &agreement.cluster.store;
    let key = agreement.cluster.keys.ask(node);
    let wish = Ask {
        op: operation("rejoin", &agreement.by),
        by: agreement.by.clone(),
        at: Timestamp::now(),
        copy: true,
        refused: None,
    };
    let value = serde_json::to_vec(&wish).map_err(|error| Failed::io("cannot write the wish")(error.into()))?;
    let seen = store.get(&key).await?.map_or(Revision::ABSENT, |it| it.revision);
    let Swap::Done(seen) = store.compare_and_swap(Write::replace(&key, value, seen)).await? else {
        return Err(changed("ha rejoin --copy"));
    };
    let region = agreement.region_of(node);
    let row =
        Row::new("ask", region.clone(), "done").detail(format!("the guard of {node} is asked to copy everything anew"));
    let _ = rows.send(row).await;
    let started = Instant::now();
    let answered = answer(agreement, &key, seen);
    tokio::pin!(answered);
    let begun = |look: &Look| {
        look.members
            .get(node)
            .is_some_and(|it| it.need.as_ref().is_some_and(|need| need.copy))
    };
    let waits =
        |look: &Look| Row::new("begin", agreement.region_of(node), "waiting").detail(doing(agreement, look, node));
    let row = |step: &str, detail: &str| {
        let row = Row::new(step, region.clone(), "done");
        row.took(started.elapsed()).detail(detail)
    };
    tokio::select! {
        answer = &mut answered => return answer,
        begun = until(agreement, BEGUN_WITHIN, cancel, begun, waits, rows) => if let Err(failed) = begun {
            if matches!(failed, Failed::Interrupted) {
                return Err(failed);
            }
            // What is not begun while somebody watches must not be done unseen later.
            store.remove(&key, seen).await?;
            return Err(Failed::refused(Refusal::new(
                "ha::rejoin::not_taken_up",
                format!("the guard of {node} has not taken it up within {} s; the wish was taken back", BEGUN_WITHIN.as_secs()),
                format!("see whether it runs and reaches the store: ha quorum; and what it is at: ha rejoin {node}"),
            )));
        }
    }
    let _ = rows
        .send(row("begin", "its guard says that its data is to be rebuilt"))
        .await;
    let dropped = |look: &Look| !look.term.voters.contains(node);
    let waits =
        |look: &Look| Row::new("drop", agreement.region_of(node), "waiting").detail(doing(agreement, look, node));
    tokio::select! {
        answer = &mut answered => return answer,
        dropped = until(agreement, STREAMS_WITHIN, cancel, dropped, waits, rows) => { dropped?; }
    }
    let _ = rows.send(row("drop", "commits wait for it no more")).await;
    let never = |_: &Look| false;
    let waits =
        |look: &Look| Row::new("copy", agreement.region_of(node), "waiting").detail(doing(agreement, look, node));
    tokio::select! {
        answer = &mut answered => answer?,
        late = until(agreement, STREAMS_WITHIN, cancel, never, waits, rows) => { late?; }
    }
    let _ = rows.send(row("copy", "its data is new")).await;
    Ok(())
}

/// Until the guard has removed the wish, or refused it.
async fn answer(agreement: &Agreement, key: &str, mut seen: Revision) -> Result<(), Failed> {
    let store = &agreement.cluster.store;
    loop {
        let changed = async {
            let mut watch = store.watch(key, seen).await?;
            watch.next().await
        };
        match changed.await {
            Ok(change) => {
                let Some(entry) = change.entry else { return Ok(()) };
                seen = entry.revision;
                let ask = serde_json::from_slice::<Ask>(&entry.value).ok();
                if let Some(why) = ask.and_then(|it| it.refused) {
                    // It was read.
                    store.remove(key, seen).await?;
                    return Err(Failed::refused(Refusal::new(
                        "ha::rejoin::refused",
                        format!("its guard does not do it: {why}"),
                        "see what its guard did before: ha events --last 20",
                    )));
                }
            }
            // A watch that ended is begun anew.
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// A copy of the only voter that is left would hold up every commit.
fn refuse_copy(look: &Look, node: &str) -> Result<(), Failed> {
    let term = &look.term;
    super::db::steady(term)?;
    let last = term.acks > 0 && term.voters.contains(node) && term.voters.len() <= term.acks as usize + 1;
    if last && streams(look, node) {
        return Err(Failed::refused(Refusal::new(
            "ha::rejoin::last_voter",
            format!(
                "{node} is the only voter beside {}: no commit would return until it is copied",
                term.leader
            ),
            "bring another voter back first (ha db voters --add), or say what may be lost: ha db sync-mode degrade",
        )));
    }
    Ok(())
}
