//! Servers: EC2 instances.

mod create;
pub(super) mod image;
pub(super) mod keys;
pub(super) mod shape;
mod token;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aws_sdk_ec2::types::{self as ec2, AttributeValue, InstanceStateName as State};
use futures::future::join_all;
use ha_core::resource::{Kind, Live, Resource, ResourceId};

use self::{image::Images, keys::Keys};
use super::{
    call::Repeat::Freely,
    fault::{Class, Fault},
    fields, firewall, lists,
    network::{self, erase_tags, gone_already, parts::Parts, write_tags},
    options::Options,
    place::Place,
    spec,
    tags::{self, SPEC, Tags, UNFINISHED},
    volume,
};
use crate::ProviderError;

/// What servers of a workspace have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) images: Images,
    pub(super) keys: Keys,
}

/// What lies around a server.
pub(super) struct Site {
    pub(super) ground: Parts,
    /// The firewalls of its region, by their security groups.
    pub(super) firewalls: Vec<ec2::SecurityGroup>,
    /// Volumes that are to be attached to it.
    pub(super) volumes: Vec<ec2::Volume>,
}

pub(super) async fn ensure(
    place: &Place,
    want: &Resource,
    options: &Options,
    shared: &Shared,
) -> Result<Live, ProviderError> {
    let network = spec::network(want)?;
    let only = tags::only(&place.workspace, &want.id);
    let (seen, ground, firewalls, volumes) = tokio::join!(
        lists::reservations(place, &only),
        network::ground(place, network),
        firewall::of_region(place, &want.id.region),
        volume::wanted_on(place, want),
    );
    let site = Site {
        ground: ground?.ok_or_else(|| ProviderError::Missing {
            id: want.id.clone(),
            needs: network.to_string(),
        })?,
        firewalls: firewalls?,
        volumes: volumes?,
    };
    let seen: Vec<ec2::Instance> = seen?
        .into_iter()
        .flat_map(|it| it.instances.unwrap_or_default())
        .collect();
    let id = match oldest(seen.iter().filter(|it| lists::is_there(it))) {
        Some(found) => {
            may_become(want, found, place)?;
            change(place, want, found, &site).await?;
            found.instance_id().unwrap_or_default().to_owned()
        }
        None => create::create(place, want, options, shared, &site, &seen).await?,
    };
    let instance = running(place, want, &id).await?;
    volume::attach_all(place, &site.volumes, &instance).await?;
    shape::lives(&place.workspace, &instance, &place.location, Some(network))
        .pop()
        .ok_or_else(|| ProviderError::NotReady {
            id: want.id.clone(),
            detail: format!("{id} does not show its tags"),
        })
}

/// The one that counts, when a lost answer has left two; everybody chooses the same.
pub(super) fn oldest<'a>(all: impl Iterator<Item = &'a ec2::Instance>) -> Option<&'a ec2::Instance> {
    all.min_by_key(|it| (it.launch_time().map(|time| time.secs()), it.instance_id()))
}

/// What cannot be changed is as wanted.
fn may_become(want: &Resource, found: &ec2::Instance, place: &Place) -> Result<(), ProviderError> {
    let now = shape::spec_of(found, &place.location);
    for field in ["image", "group"] {
        let word = |spec: &serde_json::Value| spec[field].as_str().unwrap_or("none").to_owned();
        if now[field] != want.spec[field] {
            return Err(spec::cannot_change(want, field, &word(&now), &word(&want.spec)));
        }
    }
    Ok(())
}

/// Makes an existing server as wanted: its size with a stop and a start, the rest in place.
async fn change(place: &Place, want: &Resource, found: &ec2::Instance, site: &Site) -> Result<(), ProviderError> {
    let id = found.instance_id().unwrap_or_default();
    let has = tags::from_ec2(found.tags());
    let wanted = shape::tags_of(&place.workspace, want);
    let size = spec::text(want, "size")?;
    let resize = found.instance_type().is_none_or(|it| it.as_str() != size);
    if resize {
        // Whoever finds it between the two sizes shall not take it for changed by hand.
        write_tags(place, id, &Tags::from([(SPEC.to_owned(), UNFINISHED.to_owned())])).await?;
        switch(place, &want.id, id, false).await?;
        let request = place
            .ec2
            .modify_instance_attribute()
            .instance_id(id)
            .instance_type(AttributeValue::builder().value(size).build());
        place
            .call("ec2:ModifyInstanceAttribute", Freely, || request.clone().send())
            .await?;
    }
    switch(place, &want.id, id, true).await?;
    firewall::regroup(place, found, &site.firewalls).await?;
    let mut late = tags::missing(&has, &wanted);
    if resize {
        late.insert(SPEC.to_owned(), want.spec_hash());
    }
    write_tags(place, id, &late).await?;
    erase_tags(place, id, &fields::obsolete(&has, &wanted)).await?;
    Ok(())
}

/// Afterwards the instance runs, or is stopped. Whatever it is on its way to is waited for first.
async fn switch(place: &Place, id: &ResourceId, instance: &str, on: bool) -> Result<(), ProviderError> {
    let (goal, coming) = if on {
        (State::Running, State::Pending)
    } else {
        (State::Stopped, State::Stopping)
    };
    let asked = AtomicBool::new(false);
    place
        .until(
            place.deadline,
            || async {
                let found = find(place, instance).await?;
                let now = found.as_ref().and_then(shape::state);
                let Some(now) = now else {
                    return Err(ProviderError::NotFound(id.clone()));
                };
                if *now == goal {
                    return Ok(Ok(()));
                }
                let still = matches!(now, State::Running | State::Stopped);
                if still && !asked.swap(true, Relaxed) {
                    let outcome = if on {
                        start(place, instance).await
                    } else {
                        stop(place, instance).await
                    };
                    match outcome {
                        // It began to change its state between the look and the request.
                        Err(fault) if fault.is(Class::Busy) => asked.store(false, Relaxed),
                        outcome => outcome?,
                    }
                } else if !still && *now != coming {
                    // On its way to the other state: asked again once it is there.
                    asked.store(false, Relaxed);
                }
                Ok(Err(format!("it is {}", now.as_str())))
            },
            |detail| ProviderError::NotReady { id: id.clone(), detail },
        )
        .await
}

async fn start(place: &Place, instance: &str) -> Result<(), Fault> {
    let request = place.ec2.start_instances().instance_ids(instance);
    place
        .call("ec2:StartInstances", Freely, || request.clone().send())
        .await
        .map(drop)
}

async fn stop(place: &Place, instance: &str) -> Result<(), Fault> {
    let request = place.ec2.stop_instances().instance_ids(instance);
    place
        .call("ec2:StopInstances", Freely, || request.clone().send())
        .await
        .map(drop)
}

/// By its id, terminated or not; none when AWS does not know it, or not yet.
async fn find(place: &Place, instance: &str) -> Result<Option<ec2::Instance>, Fault> {
    let request = place.ec2.describe_instances().instance_ids(instance);
    match place
        .call("ec2:DescribeInstances", Freely, || request.clone().send())
        .await
    {
        Err(fault) if fault.is(Class::NotFound) => Ok(None),
        Err(fault) => Err(fault),
        Ok(answer) => {
            let all = answer.reservations.unwrap_or_default();
            let mut each = all.into_iter().flat_map(|it| it.instances.unwrap_or_default());
            Ok(each.next())
        }
    }
}

/// Waits until it runs; one that ends on its way there says why.
async fn running(place: &Place, want: &Resource, instance: &str) -> Result<ec2::Instance, ProviderError> {
    place
        .until(
            place.deadline,
            || async {
                let Some(found) = find(place, instance).await? else {
                    return Ok(Err("AWS does not list it yet".to_owned()));
                };
                match shape::state(&found) {
                    Some(State::Running) => Ok(Ok(found)),
                    Some(State::ShuttingDown | State::Terminated) => Err(ended(want, &found)),
                    state => Ok(Err(format!("it is {}", state.map_or("unknown", State::as_str)))),
                }
            },
            |detail| ProviderError::NotReady {
                id: want.id.clone(),
                detail,
            },
        )
        .await
}

/// An instance that AWS took back while it started.
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html>.
fn ended(want: &Resource, instance: &ec2::Instance) -> ProviderError {
    let reason = instance.state_reason();
    let code = reason.and_then(ec2::StateReason::code).unwrap_or_default();
    let message = reason
        .and_then(ec2::StateReason::message)
        .unwrap_or("AWS does not say why");
    let what = format!("{}: {message}", want.id);
    match code.split_once('.').map(|it| it.1) {
        Some("InsufficientInstanceCapacity") => ProviderError::NoCapacity { what },
        Some(limit) if limit.ends_with("LimitExceeded") => ProviderError::Quota { what },
        _ => ProviderError::NotReady {
            id: want.id.clone(),
            detail: format!("AWS ended it: {message}"),
        },
    }
}

/// The server of that identity in this place.
pub(super) async fn named(place: &Place, id: &ResourceId) -> Result<Option<ec2::Instance>, Fault> {
    let all = lists::instances(place, &tags::only(&place.workspace, id)).await?;
    Ok(oldest(all.iter()).cloned())
}

/// Afterwards no instance of that identity is there; the key pair goes with the workspace's last server in the place.
pub(super) async fn remove(place: &Place, id: &ResourceId, shared: &Shared) -> Result<(), ProviderError> {
    let found = lists::instances(place, &tags::only(&place.workspace, id)).await?;
    let ids: Vec<String> = found
        .iter()
        .filter_map(|it| it.instance_id().map(str::to_owned))
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let request = place.ec2.terminate_instances().set_instance_ids(Some(ids.clone()));
    match place
        .call("ec2:TerminateInstances", Freely, || request.clone().send())
        .await
    {
        Err(fault) if fault.is(Class::Protected) => return Err(ProviderError::Protected { id: id.clone() }),
        outcome => gone_already(outcome)?,
    }
    // Lists may show the old state for a moment.
    place
        .until(
            place.deadline,
            || async {
                let still = join_all(ids.iter().map(|it| find(place, it))).await;
                let still: Vec<Option<ec2::Instance>> = still.into_iter().collect::<Result<_, _>>()?;
                Ok(match still.iter().flatten().any(lists::is_there) {
                    false => Ok(()),
                    true => Err("AWS still lists it as running".to_owned()),
                })
            },
            |detail| ProviderError::NotReady { id: id.clone(), detail },
        )
        .await?;
    if !lists::has_instances(place, &tags::ours(&place.workspace)).await? {
        shared.keys.remove(place).await?;
    }
    Ok(())
}

pub(super) async fn power(place: &Place, id: &ResourceId, on: bool) -> Result<Option<Live>, ProviderError> {
    let Some(found) = named(place, id).await? else {
        return Ok(None);
    };
    let instance = found.instance_id().unwrap_or_default();
    switch(place, id, instance, on).await?;
    let Some(now) = find(place, instance).await? else {
        return Ok(None);
    };
    let network = network_of(place, &now).await?;
    Ok(shape::lives(&place.workspace, &now, &place.location, network.as_ref()).pop())
}

/// The network of ours that an instance lies in.
pub(super) async fn network_of(place: &Place, instance: &ec2::Instance) -> Result<Option<ResourceId>, Fault> {
    let Some(vpc) = instance.vpc_id() else { return Ok(None) };
    let found = lists::vpcs(place, &[tags::filter("vpc-id", vpc)]).await?;
    let owned = found
        .first()
        .and_then(|it| tags::read(&place.workspace, &tags::from_ec2(it.tags())));
    Ok(owned.map(|it| it.id).filter(|id| id.kind == Kind::Network))
}

/// Writes on a server what runs there: a member of the store, a node of the database.
pub(super) async fn ensure_on(place: &Place, want: &Resource, slot: shape::Slot) -> Result<Live, ProviderError> {
    let server = ResourceId::new(&want.id.region, Kind::Server, spec::text(want, "server")?);
    let missing = || ProviderError::Missing {
        id: want.id.clone(),
        needs: server.to_string(),
    };
    let found = named(place, &server).await?.ok_or_else(missing)?;
    let has = tags::from_ec2(found.tags());
    if let Some(other) = has.get(slot.name).filter(|it| **it != want.id.name) {
        return Err(ProviderError::Taken {
            what: format!("the place of a {} on {server}", slot.kind),
            by: other.clone(),
        });
    }
    let id = found.instance_id().unwrap_or_default();
    write_tags(place, id, &tags::missing(&has, &shape::slot_tags(slot, want))).await?;
    place
        .until(
            place.deadline,
            || async {
                let now = find(place, id).await?.ok_or_else(missing)?;
                let network = network_of(place, &now).await?;
                let all = shape::lives(&place.workspace, &now, &place.location, network.as_ref());
                let live = all
                    .into_iter()
                    .find(|it| it.id == want.id && it.labels.spec == want.spec_hash());
                Ok(live.ok_or_else(|| format!("{id} does not show its tags yet")))
            },
            |detail| ProviderError::NotReady {
                id: want.id.clone(),
                detail,
            },
        )
        .await
}

/// Takes off a server what is written there; true when it was there.
pub(super) async fn remove_from(place: &Place, id: &ResourceId, slot: shape::Slot) -> Result<bool, ProviderError> {
    let filters = [
        tags::ours(&place.workspace),
        tags::filter(format!("tag:{}", tags::REGION), id.region.as_str()),
        tags::filter(format!("tag:{}", slot.name), &id.name),
    ];
    let found = lists::instances(place, &filters).await?;
    for instance in found.iter().filter_map(ec2::Instance::instance_id) {
        erase_tags(place, instance, &[slot.name, slot.spec, slot.protect]).await?;
    }
    Ok(!found.is_empty())
}
