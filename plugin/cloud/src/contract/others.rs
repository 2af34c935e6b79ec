//! Rules about the world beside the provider: what others own in it, what they do, and what the wire does.

use ha_core::resource::{Resource, ResourceId, spec_hash};

use super::{
    Fixture, Others,
    rules::{Kept, as_wanted, is_empty, make_all, observe, remove, same, the_one},
};
use crate::ProviderError;

/// A lost answer is told as one, and costs the next attempt; no step has more answers to lose than this.
const ATTEMPTS: usize = 4;

/// `turns` are the requests whose answers get lost, one in each round, until there are no more requests.
pub(super) async fn every_answer_lost_in_turn_leaves_one_of_each_and_nothing_beside_it(
    fixture: &Fixture,
    turns: impl Iterator<Item = usize>,
) -> Kept {
    let Some(others) = &fixture.others else { return Ok(()) };
    for nth in turns {
        let lost = |what: &str, why: String| format!("{what}, the answer to request {nth} lost: {why}");
        if !others.lose_answer(nth as u64) {
            return Ok(());
        }
        for want in &fixture.resources {
            let live = insist(async || fixture.provider.ensure(want).await).await;
            let live = live.map_err(|why| lost(&format!("ensure of {}", want.id), why))?;
            as_wanted(fixture, want, &live).map_err(|why| lost("ensure", why))?;
        }
        let made = observe(fixture).await?;
        for gone in fixture.resources.iter().rev() {
            let outcome = insist(async || fixture.provider.remove(&gone.id).await).await;
            outcome.map_err(|why| lost(&format!("remove of {}", gone.id), why))?;
        }
        let unused = others.keep_answers();
        let ids = |all: Vec<ResourceId>| {
            let mut all = all;
            all.sort();
            all
        };
        let wanted = ids(fixture.resources.iter().map(|it| it.id.clone()).collect());
        let seen = ids(made.into_iter().map(|it| it.id).collect());
        same(&wanted, &seen, "resources").map_err(|why| lost("after all were made", why))?;
        is_empty(fixture)
            .await
            .map_err(|why| lost("after all were removed", why))?;
        nothing_left(others.as_ref()).map_err(|why| lost("after all were removed", why))?;
        if unused {
            return match nth {
                1 => Err("nothing was lost: not one request changes anything".into()),
                _ => Ok(()),
            };
        }
    }
    Ok(())
}

pub(super) async fn a_list_cut_short_by_throttling_is_an_error(fixture: &Fixture) -> Kept {
    let Some(others) = &fixture.others else { return Ok(()) };
    make_all(fixture).await?;
    if !others.throttle() {
        return Ok(());
    }
    match fixture.provider.observe().await {
        Err(ProviderError::RateLimited { retry_after: Some(_) }) => {}
        Err(error) => return Err(format!("a throttled list is called: {error}")),
        Ok(all) => return Err(format!("a throttled list is answered with {} resources", all.len())),
    }
    same(
        &fixture.resources.len(),
        &observe(fixture).await?.len(),
        "number of resources afterwards",
    )
}

pub(super) async fn what_was_changed_by_hand_is_seen_and_made_good(fixture: &Fixture) -> Kept {
    let Some(others) = &fixture.others else { return Ok(()) };
    make_all(fixture).await?;
    for want in &fixture.resources {
        if !others.tamper(&want.id) {
            continue;
        }
        let seen = the_one(fixture, &want.id).await?;
        if seen.spec == want.spec || spec_hash(&seen.spec) == seen.labels.spec {
            return Err(format!("{} was changed by hand and looks as before", want.id));
        }
        same(
            &want.spec_hash(),
            &seen.labels.spec,
            &format!("label spec of {}, changed by hand,", want.id),
        )?;
        let made = fixture.provider.ensure(want).await;
        let made = made.map_err(|error| format!("ensure of {}, changed by hand: {error}", want.id))?;
        as_wanted(fixture, want, &made)?;
        as_wanted(fixture, want, &the_one(fixture, &want.id).await?)?;
    }
    Ok(())
}

pub(super) async fn a_name_that_belongs_to_somebody_else_is_left_alone(fixture: &Fixture) -> Kept {
    let Some(others) = &fixture.others else { return Ok(()) };
    let mut made: Vec<&Resource> = Vec::new();
    for want in &fixture.resources {
        if others.plant_namesake(&want.id) {
            match fixture.provider.ensure(want).await {
                Err(ProviderError::Taken { .. }) => {}
                Err(error) => return Err(format!("the taken name of {} is called: {error}", want.id)),
                Ok(_) => return Err(format!("{} was made over somebody else's", want.id)),
            }
            remove(fixture, &want.id).await?;
            untouched(others.as_ref())?;
            same(&made.len(), &observe(fixture).await?.len(), "number of resources")?;
            others.uproot();
        }
        let live = fixture.provider.ensure(want).await;
        let live = live.map_err(|error| format!("ensure of {}, its name free again: {error}", want.id))?;
        as_wanted(fixture, want, &live)?;
        made.push(want);
    }
    Ok(())
}

pub(super) async fn removal_touches_nothing_that_only_looks_alike(fixture: &Fixture) -> Kept {
    let Some(others) = &fixture.others else { return Ok(()) };
    if !others.plant_lookalikes() {
        return Ok(());
    }
    is_empty(fixture).await?;
    make_all(fixture).await?;
    same(
        &fixture.resources.len(),
        &observe(fixture).await?.len(),
        "number of resources beside their lookalikes",
    )?;
    for gone in fixture.resources.iter().rev() {
        remove(fixture, &gone.id).await?;
    }
    is_empty(fixture).await?;
    untouched(others.as_ref())?;
    nothing_left(others.as_ref())?;
    others.uproot();
    Ok(())
}

pub(super) async fn removal_outlives_what_lingers(fixture: &Fixture) -> Kept {
    let Some(others) = &fixture.others else { return Ok(()) };
    make_all(fixture).await?;
    for gone in fixture.resources.iter().rev() {
        // Whether it can or not: each is removed.
        others.linger(&gone.id);
        remove(fixture, &gone.id).await?;
    }
    is_empty(fixture).await?;
    nothing_left(others.as_ref())
}

fn untouched(others: &dyn Others) -> Kept {
    match others.touched().as_slice() {
        [] => Ok(()),
        touched => Err(format!("touched, and not ours: {}", touched.join(", "))),
    }
}

fn nothing_left(others: &dyn Others) -> Kept {
    match others.leftovers().as_slice() {
        [] => Ok(()),
        left => Err(format!("left at the provider: {}", left.join(", "))),
    }
}

/// Again while nobody knows how it ended, as whoever carries out a plan does.
async fn insist<T>(mut call: impl AsyncFnMut() -> Result<T, ProviderError>) -> Result<T, String> {
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(ProviderError::OutcomeUnknown { .. }) => {}
            other => return other.map_err(|error| error.to_string()),
        }
    }
    call().await.map_err(|error| error.to_string())
}
