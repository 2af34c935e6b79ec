//! The rules, one function each. `Err` says in words what was seen and what should have been.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use futures::future::join_all;
use ha_core::resource::{Kind, Live, Resource, ResourceId, Status};
use serde_json::Value;

use super::{Fixture, Told};
use crate::ProviderError;

pub(super) type Kept = Result<(), String>;

pub(super) async fn nothing_there_is_an_empty_list(fixture: &Fixture) -> Kept {
    is_empty(fixture).await
}

pub(super) async fn ensure_makes_it_and_its_labels_say_whose_it_is(fixture: &Fixture) -> Kept {
    for want in &fixture.resources {
        let made = ensure(fixture, want).await?;
        as_wanted(fixture, want, &made).map_err(|why| format!("ensure answered with {why}"))?;
        let seen = the_one(fixture, &want.id).await?;
        as_wanted(fixture, want, &seen).map_err(|why| format!("observe shows {why}"))?;
    }
    Ok(())
}

pub(super) async fn ensure_twice_is_one(fixture: &Fixture) -> Kept {
    make_all(fixture).await?;
    let before = observe(fixture).await?;
    make_all(fixture).await?;
    let after = observe(fixture).await?;
    same(
        &identities(&before),
        &identities(&after),
        "resources after the second ensure",
    )
}

pub(super) async fn a_changed_spec_is_applied_in_place(fixture: &Fixture) -> Kept {
    let Some(changed) = &fixture.changed else { return Ok(()) };
    make_all(fixture).await?;
    let before = the_one(fixture, &changed.id).await?;
    if before.spec == changed.spec {
        return Err("the fixture's changed resource has the same spec as before".into());
    }
    let made = ensure(fixture, changed).await?;
    as_wanted(fixture, changed, &made).map_err(|why| format!("ensure answered with {why}"))?;
    let seen = the_one(fixture, &changed.id).await?;
    as_wanted(fixture, changed, &seen).map_err(|why| format!("observe shows {why}"))?;
    same(
        &before.created_at,
        &seen.created_at,
        "time of creation after a change in place",
    )?;
    same(
        &fixture.resources.len(),
        &observe(fixture).await?.len(),
        "number of resources",
    )
}

pub(super) async fn what_does_not_depend_on_each_other_can_be_made_at_once(fixture: &Fixture) -> Kept {
    let mut left: Vec<&Resource> = fixture.resources.iter().collect();
    let mut made: Vec<&ResourceId> = Vec::new();
    while !left.is_empty() {
        let (now, later): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|want| want.depends_on.iter().all(|id| made.contains(&id)));
        if now.is_empty() {
            return Err("the fixture's resources depend on each other, or on what is not among them".into());
        }
        for (want, outcome) in now
            .iter()
            .zip(join_all(now.iter().map(|want| ensure(fixture, want))).await)
        {
            as_wanted(fixture, want, &outcome?)?;
        }
        made.extend(now.iter().map(|want| &want.id));
        left = later;
    }
    same(
        &fixture.resources.len(),
        &observe(fixture).await?.len(),
        "number of resources",
    )
}

pub(super) async fn a_lost_answer_is_made_good_by_asking_again(fixture: &Fixture) -> Kept {
    for want in &fixture.resources {
        match &fixture.trouble {
            Some(trouble) => {
                trouble.lose_next_answer(&want.id);
                match fixture.provider.ensure(want).await {
                    Err(ProviderError::OutcomeUnknown { .. }) => {}
                    Err(error) => return Err(format!("a lost answer is called: {error}")),
                    Ok(_) => return Err("the fixture's trouble did not lose the answer".into()),
                }
            }
            // Nobody looks at the answer: to the caller that is the same.
            None => drop(fixture.provider.ensure(want).await),
        }
        let made = ensure(fixture, want).await?;
        as_wanted(fixture, want, &made)?;
        the_one(fixture, &want.id).await?;
    }
    same(
        &fixture.resources.len(),
        &observe(fixture).await?.len(),
        "number of resources",
    )
}

pub(super) async fn an_ensure_dropped_half_way_is_finished_by_the_next(fixture: &Fixture) -> Kept {
    for want in &fixture.resources {
        // Each drop finds the work a little further; the last ones may find it done.
        for polls in [1, 2, 3, 5, 8, 13] {
            drop(first_polls(fixture.provider.ensure(want), polls).await);
        }
        let made = ensure(fixture, want).await?;
        as_wanted(fixture, want, &made)?;
        let seen = the_one(fixture, &want.id).await?;
        as_wanted(fixture, want, &seen)?;
    }
    Ok(())
}

pub(super) async fn a_create_that_died_is_seen_as_pending_and_finished_by_ensure(fixture: &Fixture) -> Kept {
    let Some(trouble) = &fixture.trouble else { return Ok(()) };
    for want in &fixture.resources {
        trouble.die_halfway(&want.id);
        if fixture.provider.ensure(want).await.is_ok() {
            return Err("the fixture's trouble did not end the ensure".into());
        }
        let seen = the_one(fixture, &want.id).await?;
        same(
            &Status::Pending,
            &seen.status,
            &format!("status of {}, half made", want.id),
        )?;
        let made = ensure(fixture, want).await?;
        as_wanted(fixture, want, &made)?;
        as_wanted(fixture, want, &the_one(fixture, &want.id).await?)?;
    }
    Ok(())
}

pub(super) async fn a_missing_dependency_is_said_and_nothing_is_made(fixture: &Fixture) -> Kept {
    let depends = fixture.resources.iter().find(|it| !it.depends_on.is_empty());
    let want = depends.ok_or("none of the fixture's resources depends on another")?;
    match fixture.provider.ensure(want).await {
        Err(ProviderError::Missing { .. }) => is_empty(fixture).await,
        Err(error) => Err(format!("{} without {} is called: {error}", want.id, want.depends_on[0])),
        Ok(_) => Err(format!("{} was made without {}", want.id, want.depends_on[0])),
    }
}

pub(super) async fn remove_leaves_nothing(fixture: &Fixture) -> Kept {
    make_all(fixture).await?;
    for gone in fixture.resources.iter().rev() {
        remove(fixture, &gone.id).await?;
        if observe(fixture).await?.iter().any(|live| live.id == gone.id) {
            return Err(format!("{} is still listed after its removal", gone.id));
        }
    }
    is_empty(fixture).await
}

pub(super) async fn remove_twice_succeeds(fixture: &Fixture) -> Kept {
    make_all(fixture).await?;
    for gone in fixture.resources.iter().rev() {
        remove(fixture, &gone.id).await?;
        remove(fixture, &gone.id)
            .await
            .map_err(|why| format!("the second time: {why}"))?;
    }
    Ok(())
}

pub(super) async fn remove_of_something_unknown_succeeds(fixture: &Fixture) -> Kept {
    let unknown = stranger(fixture)?;
    remove(fixture, &unknown).await?;
    make_all(fixture).await?;
    remove(fixture, &unknown).await?;
    same(
        &fixture.resources.len(),
        &observe(fixture).await?.len(),
        "number of resources",
    )
}

pub(super) async fn what_was_removed_can_be_made_again(fixture: &Fixture) -> Kept {
    let last = fixture.resources.last().ok_or("the fixture has no resources")?;
    make_all(fixture).await?;
    remove(fixture, &last.id).await?;
    let made = ensure(fixture, last).await?;
    as_wanted(fixture, last, &made)?;
    as_wanted(fixture, last, &the_one(fixture, &last.id).await?)
}

pub(super) async fn power_off_is_off_and_on_is_running(fixture: &Fixture) -> Kept {
    let Some(server) = &fixture.server else { return Ok(()) };
    make_all(fixture).await?;
    for (on, wanted) in [
        (false, Status::Off),
        (false, Status::Off),
        (true, Status::Running),
        (true, Status::Running),
    ] {
        let word = if on { "on" } else { "off" };
        let answer = fixture
            .provider
            .power(server, on)
            .await
            .map_err(|error| format!("power {word}: {error}"))?;
        same(
            &wanted,
            &answer.status,
            &format!("status in the answer to power {word}"),
        )?;
        same(
            &wanted,
            &the_one(fixture, server).await?.status,
            &format!("observed status after power {word}"),
        )?;
    }
    Ok(())
}

pub(super) async fn power_of_something_unknown_is_not_found(fixture: &Fixture) -> Kept {
    if fixture.server.is_none() {
        return Ok(());
    }
    let unknown = stranger(fixture)?;
    match fixture.provider.power(&unknown, true).await {
        Err(ProviderError::NotFound(id)) if id == unknown => Ok(()),
        Err(error) => Err(format!("power on for {unknown} is called: {error}")),
        Ok(_) => Err(format!("{unknown} was switched on and does not exist")),
    }
}

pub(super) async fn the_order_of_the_list_is_stable(fixture: &Fixture) -> Kept {
    make_all(fixture).await?;
    let ids: Vec<_> = observe(fixture).await?.into_iter().map(|live| live.id).collect();
    let mut sorted = ids.clone();
    sorted.sort();
    same(&sorted, &ids, "order of the list (by identity)")?;
    let again: Vec<_> = observe(fixture).await?.into_iter().map(|live| live.id).collect();
    same(&ids, &again, "second list")
}

/// Removes whatever a rule left, dependents first.
pub(super) async fn clean_up(fixture: &Fixture) -> Kept {
    for gone in fixture.resources.iter().rev() {
        remove(fixture, &gone.id).await?;
    }
    is_empty(fixture).await
}

pub(super) async fn make_all(fixture: &Fixture) -> Kept {
    for want in &fixture.resources {
        ensure(fixture, want).await?;
    }
    Ok(())
}

pub(super) async fn ensure(fixture: &Fixture, want: &Resource) -> Result<Live, String> {
    fixture
        .provider
        .ensure(want)
        .await
        .map_err(|error| format!("ensure of {}: {error}", want.id))
}

pub(super) async fn remove(fixture: &Fixture, id: &ResourceId) -> Kept {
    fixture
        .provider
        .remove(id)
        .await
        .map_err(|error| format!("remove of {id}: {error}"))
}

pub(super) async fn observe(fixture: &Fixture) -> Result<Vec<Live>, String> {
    fixture
        .provider
        .observe()
        .await
        .map_err(|error| format!("observe: {error}"))
}

pub(super) async fn the_one(fixture: &Fixture, id: &ResourceId) -> Result<Live, String> {
    let mut found: Vec<Live> = observe(fixture)
        .await?
        .into_iter()
        .filter(|live| live.id == *id)
        .collect();
    match (found.pop(), found.len()) {
        (Some(live), 0) => Ok(live),
        (None, _) => Err(format!("{id} is not listed")),
        (Some(_), more) => Err(format!("{id} is listed {} times", more + 1)),
    }
}

pub(super) async fn is_empty(fixture: &Fixture) -> Kept {
    let left: Vec<String> = observe(fixture).await?.iter().map(|live| live.id.to_string()).collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("the list should be empty and has {}", left.join(", ")))
    }
}

/// Everything that planning relies on.
pub(super) fn as_wanted(fixture: &Fixture, want: &Resource, live: &Live) -> Kept {
    let of = |what: &str| format!("{what} of {}", want.id);
    same(&want.id, &live.id, "identity")?;
    same(&fixture.workspace, &live.labels.ws, &of("label ws"))?;
    same(&want.id.region, &live.labels.region, &of("label region"))?;
    same(&want.id.name, &live.labels.name, &of("label name"))?;
    same(&want.spec_hash(), &live.labels.spec, &of("label spec"))?;
    let on_a_server = matches!(want.id.kind, Kind::Store | Kind::Database) && want.spec.get("server").is_some();
    if fixture.told == Told::Objects && on_a_server {
        same(&Value::Null, &live.spec, &of("spec, which no object tells,"))?;
    } else {
        same(&want.spec, &live.spec, &of("spec"))?;
    }
    same(&want.provider, &live.provider, &of("provider"))?;
    same(&want.protect, &live.protect, &of("protect"))?;
    let sorted = |ids: &[ResourceId]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    let (wanted, seen) = (sorted(&want.depends_on), sorted(&live.depends_on));
    match fixture.told {
        Told::Everything => same(&wanted, &seen, &of("dependencies"))?,
        // Fewer only make a removal less careful about order than it could be; one too many makes a circle.
        Told::Objects => {
            if let Some(more) = seen.iter().find(|id| !wanted.contains(id)) {
                return Err(format!("{} depends on {more}, which it was not told to", want.id));
            }
        }
    }
    if live.status != Status::Running {
        let why = live.detail.as_deref().unwrap_or("no detail");
        return Err(format!(
            "{} being {} ({why}) after ensure",
            want.id,
            live.status.as_str()
        ));
    }
    Ok(())
}

pub(super) fn same<T: PartialEq + std::fmt::Debug>(wanted: &T, seen: &T, what: &str) -> Kept {
    if wanted == seen {
        Ok(())
    } else {
        Err(format!("{what} {seen:?} instead of {wanted:?}"))
    }
}

/// What makes a resource this one and no other that looks like it.
fn identities(all: &[Live]) -> Vec<(ResourceId, Option<jiff::Timestamp>, String)> {
    all.iter()
        .map(|live| (live.id.clone(), live.created_at, live.labels.spec.clone()))
        .collect()
}

/// A server (or what the fixture has) that was never made.
fn stranger(fixture: &Fixture) -> Result<ResourceId, String> {
    let like = fixture.server.as_ref().or(fixture.resources.first().map(|it| &it.id));
    let like = like.ok_or("the fixture has no resources")?;
    Ok(ResourceId {
        name: format!("{}-never-made", like.name),
        ..like.clone()
    })
}

/// Polls a future so many times and drops it then; answers when it was done before.
async fn first_polls<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context: &mut Context<'_>| {
        left = left.saturating_sub(1);
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
