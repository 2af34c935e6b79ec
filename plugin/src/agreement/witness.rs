//! A failover where no guard answers: what guards do, done over SQL by whoever types, in the same order. Each step is
//! derived from what is there ([`witness::next`]) and can be repeated, so that the same command goes on after a shell that
//! died. The store decides here, too: every change of the term is a swap on what was seen.

mod finish;
mod run;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{join_all, select_ok},
};
use ha_core::{
    budget::Budget,
    report::NodeRole,
    switch::{
        Choice, PlannedStep, Refusal, World,
        witness::{self, Sight, Sights, Words},
    },
};
use ha_data::{
    DataError,
    postgres::{Observer, by_sql::Node as Sql},
};

pub(crate) use run::Run;

use super::{Agreement, Look, Node, Terms};
use crate::{ask, error::Failed};

/// One look, with the sessions that it was made through.
pub(crate) struct Scene {
    look: Look,
    pub(crate) world: World,
    pub(crate) sights: Sights,
    nodes: BTreeMap<String, Sql>,
}

/// No guard answers this machine. Told as soon as one does.
pub(crate) async fn is_alone(agreement: &Agreement) -> Result<bool, Failed> {
    let client = ask::client(agreement.timeout)?;
    let asked = agreement.nodes.iter().filter(|it| !it.off).filter_map(|node| {
        let guard = node.guard.as_deref()?;
        Some(ask::report_at(&client, guard).boxed())
    });
    let asked: Vec<_> = asked.collect();
    Ok(asked.is_empty() || select_ok(asked).await.is_err())
}

/// Guards answer: the person's word is not asked for.
pub(crate) async fn not_needed(agreement: &Agreement) -> Result<Failed, Failed> {
    let (_, world) = agreement.world().await?;
    Ok(Failed::refused(witness::guards_answer(&world)))
}

impl Terms {
    fn words<'a>(&'a self, to: Option<&'a str>) -> Words<'a> {
        Words {
            witness: self.witness.as_deref(),
            accept_loss: self.accept_loss,
            to,
        }
    }
}

/// Everything as it is now.
///
/// # Errors
/// Without the store: `ha::store::no_witness` with what the databases say, for whoever gave a statement.
pub(crate) async fn scene(agreement: &Agreement, terms: &Terms) -> Result<Scene, Failed> {
    let (told, (sights, nodes)) = tokio::join!(agreement.world(), sights(agreement));
    match told {
        Ok((look, world)) => Ok(Scene {
            look,
            world,
            sights,
            nodes,
        }),
        Err(Failed::Store(_)) if terms.witness.is_some() => Err(Failed::refused(witness::no_store(&sights))),
        Err(failed) => Err(failed),
    }
}

async fn sights(agreement: &Agreement) -> (Sights, BTreeMap<String, Sql>) {
    let asked = agreement.nodes.iter().filter(|it| it.data).map(|node| async move {
        let seen = tokio::time::timeout(agreement.timeout * 2, sight(agreement, node)).await;
        let seen = seen.unwrap_or_else(|_| Err("its database does not answer in time".to_owned()));
        (node.name.clone(), seen)
    });
    let (mut sights, mut nodes) = (Sights::new(), BTreeMap::new());
    for (name, seen) in join_all(asked).await {
        match seen {
            Ok((sight, sql)) => {
                sights.insert(name.clone(), Ok(sight));
                nodes.insert(name, sql);
            }
            Err(why) => drop(sights.insert(name, Err(why))),
        }
    }
    (sights, nodes)
}

async fn sight(agreement: &Agreement, node: &Node) -> Result<(Sight, Sql), String> {
    if node.off {
        return Err("it is switched off".to_owned());
    }
    let address = node.postgres.as_deref().ok_or("it has no address")?;
    let options = agreement.session(address, "ha witness").ok_or("its address is none")?;
    let text = |error: DataError| error.to_string();
    let password = agreement.provider.replication_password_file();
    let sql = Sql::open(options, password).await.map_err(text)?;
    let seen = Observer::new()
        .look(sql.session(), agreement.timeout)
        .await
        .map_err(text)?;
    let identity = sql.identify().await.map_err(text)?;
    let sight = Sight {
        replica: seen.report.role == Some(NodeRole::Replica),
        position: identity.position,
        follows: seen.follows_epoch,
        silence: seen.report.upstream_silence,
    };
    Ok((sight, sql))
}

/// What `--explain` and `--dry-run` show.
pub(crate) struct Plan {
    pub(crate) world: World,
    pub(crate) choices: Vec<Choice>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) steps: Vec<PlannedStep>,
}

pub(crate) async fn plan(agreement: &Agreement, terms: &Terms) -> Result<Plan, Failed> {
    let scene = scene(agreement, terms).await?;
    let (world, sights) = (scene.world, scene.sights);
    let to = named(agreement, &world, &sights, terms)?;
    let choices = witness::explain(&world, &sights, to.as_deref(), terms.accept_loss);
    let refusals = witness::refusals(&world, &sights, terms.words(to.as_deref()), None);
    let chosen = choices.iter().find(|it| it.chosen).map(|it| it.node.as_str());
    let budget = Budget::of_mode(
        &agreement.workspace,
        world.term.mode,
        agreement.round_trip(),
        Duration::ZERO,
    );
    let steps = witness::steps(&world, chosen, watch_for(agreement), &budget);
    Ok(Plan {
        world,
        choices,
        refusals,
        steps,
    })
}

/// The node that `--to` means.
fn named(agreement: &Agreement, world: &World, sights: &Sights, terms: &Terms) -> Result<Option<String>, Failed> {
    let Some(to) = &terms.to else { return Ok(None) };
    let choices = witness::explain(world, sights, None, terms.accept_loss);
    super::begin::target(agreement, &choices, Some(to))
}

/// A guard that lives has reported once by then, and a leader renewed its lease.
fn watch_for(agreement: &Agreement) -> Duration {
    let timing = agreement.workspace.timing;
    timing.renew * 2 + timing.call_timeout
}

/// Nothing stands in the way, and no guard is at work: neither in the store nor in what a replica hears.
pub(crate) struct Cleared {
    scene: Scene,
    to: Option<String>,
    watched: Duration,
}

/// # Errors
/// Everything that stands in the way, at once; then nothing was changed.
pub(crate) async fn clear(agreement: &Agreement, terms: &Terms) -> Result<Cleared, Failed> {
    let before = scene(agreement, terms).await?;
    let to = named(agreement, &before.world, &before.sights, terms)?;
    let refused = |scene: &Scene, quiet| {
        let words = terms.words(to.as_deref());
        let refusals = witness::refusals(&scene.world, &scene.sights, words, quiet);
        match refusals.is_empty() {
            true => Ok(()),
            false => Err(Failed::Refused(refusals)),
        }
    };
    refused(&before, None)?;
    let watched = watch_for(agreement);
    eprintln!(
        "ha: watching for {:.1} s whether a guard is still at work somewhere",
        watched.as_secs_f64()
    );
    let began = Instant::now();
    tokio::time::sleep(watched).await;
    let scene = scene(agreement, terms).await?;
    if let Some(who) = spoke(&before.look, &scene.look) {
        return Err(Failed::refused(witness::guards_live(&who)));
    }
    refused(&scene, Some(watched))?;
    Ok(Cleared {
        scene,
        to,
        watched: began.elapsed(),
    })
}

/// What in the store somebody wrote between two looks.
fn spoke(before: &Look, after: &Look) -> Option<String> {
    if before.seen != after.seen {
        return Some("the term".to_owned());
    }
    if after.lease.is_some() && before.lease != after.lease {
        return Some("the lease".to_owned());
    }
    let mut members = after.members_seen.iter();
    // One that went away is that of a guard that is gone.
    let changed = members.find(|(node, seen)| before.members_seen.get(*node) != Some(*seen));
    changed.map(|(node, _)| format!("the report of {node}"))
}
