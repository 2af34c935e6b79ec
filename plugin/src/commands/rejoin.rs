use std::time::{Duration, Instant};

use ha_core::switch::{Ask, Refusal, ask_key};
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

/// The guard has taken the wish up.
async fn ask(
    agreement: &Agreement,
    node: &str,
    rows: &mpsc::Sender<Row>,
    cancel: &CancellationToken,
) -> Result<(), Failed> {
    let store = &agreement.cluster.store;
    let key = ask_key(&agreement.cluster.keys, node);
    let wish = Ask {
        op: operation("rejoin", &agreement.by),
        by: agreement.by.clone(),
        at: Timestamp::now(),
        copy: true,
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
    // Removed is taken up.
    let taken = async {
        let mut watch = store.watch(&key, seen).await?;
        loop {
            if watch.next().await?.entry.is_none() {
                return Ok::<_, Failed>(());
            }
        }
    };
    tokio::select! {
        taken = taken => taken?,
        () = cancel.cancelled() => return Err(Failed::Interrupted),
        () = tokio::time::sleep(BEGUN_WITHIN) => {
            // What is not done while somebody watches must not be done unseen later.
            store.remove(&key, seen).await?;
            return Err(Failed::refused(Refusal::new(
                "ha::rejoin::not_taken_up",
                format!("the guard of {node} has not taken it up within {} s; the wish was taken back", BEGUN_WITHIN.as_secs()),
                format!("see whether it runs and reaches the store: ha quorum; and what it is at: ha rejoin {node}"),
            )));
        }
    }
    let row = Row::new("begin", region, "done")
        .took(started.elapsed())
        .detail("its guard has taken it up");
    let _ = rows.send(row).await;
    Ok(())
}
