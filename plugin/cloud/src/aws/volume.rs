//! Volumes: EBS, in the zone of the server that they are for.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use aws_sdk_ec2::{
    operation::create_volume::builders::CreateVolumeFluentBuilder,
    types::{self as ec2, ResourceType, VolumeState},
};
use ha_core::{
    names::{ProviderName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status, spec_hash},
};
use serde_json::{Map, Value, json};

use super::{
    call::Repeat::{Freely, WhenRefused},
    fault::{Class, Fault},
    fields::{self, LABELS},
    firewall::servers,
    lists,
    network::{self, erase_tags, gone_already, id_of, write_tags},
    place::Place,
    server::shape::{GROUP, INDEX, timestamp},
    spec,
    tags::{self, SPEC, Tags, UNFINISHED},
};
use crate::ProviderError;

/// The server or the group that it is for.
pub(super) const ATTACH_TO: &str = "ha:attach-to";

/// Names that every image takes for more disks.
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html>.
const DEVICES: std::ops::RangeInclusive<char> = 'f'..='p';

/// More volumes of one name and spec than can have been removed within the day that a token is remembered.
const GENERATIONS: u32 = 50;

/// One that was made shows in the lists within seconds; later it is one that is gone.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// The volumes that a server is to have, found by name or as the first of its group.
pub(super) async fn wanted_on(place: &Place, server: &Resource) -> Result<Vec<ec2::Volume>, Fault> {
    let field = |name: &str| server.spec.get(name).cloned().unwrap_or_default();
    let first = field("index") == 1;
    let mut names = vec![server.id.name.clone()];
    names.extend(field("group").as_str().filter(|_| first).map(str::to_owned));
    let filters = [
        tags::ours(&place.workspace),
        tags::filter(format!("tag:{}", tags::REGION), server.id.region.as_str()),
        tags::filter(format!("tag:{}", tags::KIND), Kind::Volume.as_str()),
        ec2::Filter::builder()
            .name(format!("tag:{ATTACH_TO}"))
            .set_values(Some(names))
            .build(),
    ];
    lists::volumes(place, &filters).await
}

/// The server among these that a volume with this `attach_to` is for.
fn host<'a>(servers: &'a [ec2::Instance], name: &str) -> Option<&'a ec2::Instance> {
    let says = |server: &ec2::Instance, key: &str, value: &str| {
        tags::from_ec2(server.tags()).get(key).is_some_and(|it| it == value)
    };
    let named = servers.iter().find(|it| says(it, tags::NAME, name));
    named.or_else(|| servers.iter().find(|it| says(it, GROUP, name) && says(it, INDEX, "1")))
}

pub(super) async fn attach_all(
    place: &Place,
    volumes: &[ec2::Volume],
    instance: &ec2::Instance,
) -> Result<(), ProviderError> {
    let mut taken: Vec<String> = instance
        .block_device_mappings()
        .iter()
        .filter_map(|it| it.device_name().map(str::to_owned))
        .collect();
    for volume in volumes {
        attach(place, volume, instance, &mut taken).await?;
    }
    Ok(())
}

async fn attach(
    place: &Place,
    volume: &ec2::Volume,
    instance: &ec2::Instance,
    taken: &mut Vec<String>,
) -> Result<(), ProviderError> {
    let (id, to) = (
        volume.volume_id().unwrap_or_default(),
        instance.instance_id().unwrap_or_default(),
    );
    if volume.attachments().iter().any(|it| it.instance_id() == Some(to)) {
        return Ok(());
    }
    free(place, id).await?;
    let device = DEVICES
        .map(|letter| format!("/dev/sd{letter}"))
        .find(|it| !taken.contains(it))
        .ok_or_else(|| ProviderError::Refused {
            what: format!("{to} has no device name left for volume {id}"),
            help: "spread the volumes over more servers".into(),
        })?;
    let request = place.ec2.attach_volume().volume_id(id).instance_id(to).device(&device);
    place
        .settled("ec2:AttachVolume", Freely, || request.clone().send())
        .await?;
    taken.push(device);
    Ok(())
}

/// Afterwards nothing has it attached. Whoever had it is gone, or is not the one that shall have it.
async fn free(place: &Place, id: &str) -> Result<(), ProviderError> {
    let asked = AtomicBool::new(false);
    place
        .until(
            place.deadline,
            || async {
                let found = lists::volumes(place, &[tags::filter("volume-id", id)]).await?;
                let Some(volume) = found.first() else { return Ok(Ok(())) };
                match volume.state() {
                    Some(VolumeState::Available) => return Ok(Ok(())),
                    Some(VolumeState::InUse) if !asked.swap(true, Relaxed) => {
                        let holder = volume.attachments().first().and_then(|it| it.instance_id());
                        let request = place
                            .ec2
                            .detach_volume()
                            .volume_id(id)
                            .set_instance_id(holder.map(str::to_owned));
                        match place.call("ec2:DetachVolume", Freely, || request.clone().send()).await {
                            Err(fault) if fault.is(Class::Busy) => {}
                            outcome => gone_already(outcome)?,
                        }
                    }
                    _ => {}
                }
                let state = volume.state().map_or("unknown", VolumeState::as_str);
                Ok(Err(format!("volume {id} is {state}")))
            },
            |what| ProviderError::Refused {
                what: format!("{what} and does not come free"),
                help: "unmount it on its server, and run it again".into(),
            },
        )
        .await
}

pub(super) async fn ensure(place: &Place, want: &Resource) -> Result<Live, ProviderError> {
    let size = spec::whole(want, "size_gb")?;
    let network = spec::network(want)?;
    let only = tags::only(&place.workspace, &want.id);
    let (found, servers, ground) = tokio::join!(
        lists::volumes(place, &only),
        servers(place, &want.id.region),
        network::ground(place, network),
    );
    let (found, servers) = (found?, servers?);
    let ground = ground?.ok_or_else(|| ProviderError::Missing {
        id: want.id.clone(),
        needs: network.to_string(),
    })?;
    let host = attach_to(&want.spec).and_then(|name| host(&servers, name));
    let wanted = tags_of(&place.workspace, want);
    let id = match found.iter().find(|it| is_there(it)) {
        Some(volume) => {
            let id = volume.volume_id().unwrap_or_default();
            let now = volume.size().unwrap_or_default();
            if now > size {
                return Err(spec::cannot_change(
                    want,
                    "size_gb",
                    &now.to_string(),
                    &size.to_string(),
                ));
            }
            if now < size {
                write_tags(place, id, &Tags::from([(SPEC.to_owned(), UNFINISHED.to_owned())])).await?;
                grow(place, id, size).await?;
            }
            id.to_owned()
        }
        None => {
            let zone = host
                .and_then(|it| it.placement())
                .and_then(ec2::Placement::availability_zone)
                .or_else(|| ground.subnet(zone_index(attach_to(&want.spec)))?.availability_zone());
            let request = place
                .ec2
                .create_volume()
                .set_availability_zone(zone.map(str::to_owned))
                .size(size)
                .volume_type(ec2::VolumeType::Gp3)
                .encrypted(true)
                .tag_specifications(tags::at_birth(ResourceType::Volume, &wanted));
            create(place, want, &request).await?
        }
    };
    let ready = place
        .until(
            place.deadline,
            || async {
                let found = lists::volumes(place, &[tags::filter("volume-id", &id)]).await?;
                let ready = found
                    .into_iter()
                    .find(|it| matches!(it.state(), Some(VolumeState::Available | VolumeState::InUse)));
                Ok(ready.ok_or_else(|| "AWS is still making it".to_owned()))
            },
            |detail| not_ready(want, detail),
        )
        .await?;
    match host {
        Some(host) => attach_all(place, std::slice::from_ref(&ready), host).await?,
        None if attach_to(&want.spec).is_none() => free(place, &id).await?,
        // Its server comes later, and takes it.
        None => {}
    }
    let has = tags::from_ec2(ready.tags());
    write_tags(place, &id, &tags::missing(&has, &wanted)).await?;
    erase_tags(place, &id, &fields::obsolete(&has, &wanted)).await?;
    place
        .until(
            place.deadline,
            || async {
                let found = lists::volumes(place, &[tags::filter("volume-id", &id)]).await?;
                let live = found.first().and_then(|it| live(place, it, &servers));
                let done = live.filter(|it| it.spec == want.spec && it.labels.spec == want.spec_hash());
                Ok(done
                    .map(|it| Live {
                        depends_on: vec![network.clone()],
                        ..it
                    })
                    .ok_or_else(|| format!("{id} does not show the change yet")))
            },
            |detail| not_ready(want, detail),
        )
        .await
}

/// Afterwards there is one; its id. A client token makes one volume of two requests, and for a day it answers with that
/// volume even when it is gone: then the next token's turn has come.
/// Source: <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>.
async fn create(place: &Place, want: &Resource, request: &CreateVolumeFluentBuilder) -> Result<String, ProviderError> {
    let who = spec_hash(&json!([place.workspace, want.id]));
    for generation in 0..GENERATIONS {
        let request = request
            .clone()
            .client_token(format!("{}-{who}-{generation}", want.spec_hash()));
        let id = match place
            .call("ec2:CreateVolume", WhenRefused, || request.clone().send())
            .await
        {
            Err(fault) if fault.is(Class::TokenReused) => continue,
            made => id_of(made?.volume_id, "ec2:CreateVolume", place)?,
        };
        let listed = place
            .until(
                SEEN_WITHIN.min(place.deadline),
                || async {
                    let found = lists::volumes(place, &[tags::filter("volume-id", &id)]).await;
                    let there = found.map_err(Some)?.iter().any(is_there);
                    Ok(if there { Ok(()) } else { Err(String::new()) })
                },
                |_| None::<Fault>,
            )
            .await;
        match listed {
            Ok(()) => return Ok(id),
            Err(Some(fault)) => return Err(fault.into()),
            Err(None) => {}
        }
    }
    Err(not_ready(
        want,
        format!("AWS answers {GENERATIONS} client tokens with volumes that are gone; wait a day"),
    ))
}

fn not_ready(want: &Resource, detail: String) -> ProviderError {
    ProviderError::NotReady {
        id: want.id.clone(),
        detail,
    }
}

async fn grow(place: &Place, id: &str, size: i32) -> Result<(), ProviderError> {
    let request = place.ec2.modify_volume().volume_id(id).size(size);
    place
        .call("ec2:ModifyVolume", Freely, || request.clone().send())
        .await?;
    Ok(())
}

pub(super) async fn remove(place: &Place, id: &ResourceId) -> Result<(), ProviderError> {
    let found = lists::volumes(place, &tags::only(&place.workspace, id)).await?;
    for volume in found
        .iter()
        .filter(|it| is_there(it))
        .filter_map(ec2::Volume::volume_id)
    {
        free(place, volume).await?;
        let request = place.ec2.delete_volume().volume_id(volume);
        gone_already(place.freed("ec2:DeleteVolume", || request.clone().send()).await)?;
    }
    Ok(())
}

fn is_there(volume: &ec2::Volume) -> bool {
    !matches!(volume.state(), Some(VolumeState::Deleting | VolumeState::Deleted))
}

fn attach_to(spec: &Value) -> Option<&str> {
    spec.get("attach_to").and_then(Value::as_str)
}

/// The subnet that its server will start in: members of a group alternate, by the number at the end of their name.
fn zone_index(attach_to: Option<&str>) -> usize {
    let number = attach_to.and_then(|it| it.rsplit('-').next()?.parse::<usize>().ok());
    usize::from(number.unwrap_or(1).is_multiple_of(2))
}

pub(super) fn tags_of(ws: &WorkspaceName, want: &Resource) -> Tags {
    let mut all = tags::of(ws, want);
    if let Some(name) = attach_to(&want.spec) {
        all.insert(ATTACH_TO.to_owned(), name.to_owned());
    }
    all.extend(fields::label_tags(&want.spec));
    all
}

pub(super) fn live(place: &Place, volume: &ec2::Volume, servers: &[ec2::Instance]) -> Option<Live> {
    if !is_there(volume) {
        return None;
    }
    let tags = tags::from_ec2(volume.tags());
    let owned = tags::read(&place.workspace, &tags).filter(|it| it.id.kind == Kind::Volume)?;
    let here: Vec<ec2::Instance> = servers
        .iter()
        .filter(|it| {
            tags::from_ec2(it.tags())
                .get(tags::REGION)
                .is_some_and(|it| *it == owned.id.region.as_str())
        })
        .cloned()
        .collect();
    let spec = spec_of(volume, &tags, &here, &place.location);
    let mut labels = owned.labels;
    if owned.unfinished {
        labels.spec = spec_hash(&spec);
    }
    let (status, detail) = match volume.state() {
        _ if owned.unfinished => (Status::Pending, Some("a change of it was not finished".to_owned())),
        Some(VolumeState::Available | VolumeState::InUse) => (Status::Running, None),
        Some(VolumeState::Error) => (Status::Failed, Some("AWS says that it is broken".to_owned())),
        _ => (Status::Pending, None),
    };
    Some(Live {
        id: owned.id,
        provider: ProviderName::Aws,
        labels,
        spec,
        status,
        detail,
        address: None,
        private_address: None,
        size: volume.size().map(|it| format!("{it} GB")),
        created_at: volume.create_time().and_then(timestamp),
        depends_on: Vec::new(),
        protect: owned.protect,
        role: None,
        endpoints: BTreeMap::new(),
    })
}

/// In the words of `workspace.ncl`. A volume whose server is there and does not have it is attached to nothing.
fn spec_of(volume: &ec2::Volume, tags: &Tags, servers: &[ec2::Instance], location: &str) -> Value {
    let attached: Vec<&str> = volume.attachments().iter().filter_map(|it| it.instance_id()).collect();
    let declared = tags.get(ATTACH_TO).map(String::as_str);
    let holder = declared.and_then(|name| host(servers, name));
    let attach_to = match (declared, holder) {
        (Some(name), None) if attached.is_empty() => Some(name.to_owned()),
        (Some(name), Some(server)) if server.instance_id().is_some_and(|it| attached.contains(&it)) => {
            Some(name.to_owned())
        }
        _ => attached.first().map(|it| (*it).to_owned()),
    };
    let mut spec = Map::from_iter([
        ("kind".to_owned(), json!("aws.Volume")),
        ("name".to_owned(), json!(tags.get(tags::NAME))),
        ("region".to_owned(), json!(location)),
        ("size_gb".to_owned(), json!(volume.size())),
        (
            "protect".to_owned(),
            json!(tags.get(tags::PROTECT).is_some_and(|it| it == "true")),
        ),
    ]);
    spec.insert(LABELS.to_owned(), fields::labels(tags));
    spec.extend(attach_to.map(|it| ("attach_to".to_owned(), json!(it))));
    Value::Object(spec)
}

#[cfg(test)]
mod tests {
    use ha_core::names::RegionName;
    use proptest::prelude::*;

    use super::*;

    fn ws() -> WorkspaceName {
        WorkspaceName::new("shop")
    }

    fn want(spec: Value) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("us-east"), Kind::Volume, "use-data"),
            provider: ProviderName::Aws,
            spec,
            depends_on: Vec::new(),
            protect: true,
            path: "region_us_east.data".into(),
        }
    }

    fn server(id: &str, group: &str, index: &str) -> ec2::Instance {
        let tags = [
            (tags::NAME, format!("{group}-{index}")),
            (GROUP, group.to_owned()),
            (INDEX, index.to_owned()),
        ];
        let tags = tags.map(|(key, value)| (key.to_owned(), value)).into();
        ec2::Instance::builder()
            .instance_id(id)
            .set_tags(Some(tags::for_ec2(&tags)))
            .build()
    }

    #[test]
    fn it_is_where_its_server_will_be() {
        let at = |name| zone_index(Some(name));
        assert_eq!(
            (at("use-db-1"), at("use-db-2"), at("use-db"), zone_index(None)),
            (0, 1, 0, 0)
        );
    }

    #[test]
    fn one_that_its_server_lost_is_seen() {
        let want = want(json!({ "name": "use-data", "size_gb": 10, "attach_to": "use-db" }));
        let tags = tags_of(&ws(), &want);
        let servers = [server("i-1", "use-db", "1")];
        let lost = ec2::Volume::builder().size(10).build();
        let spec = |volume: &ec2::Volume, servers: &[ec2::Instance]| spec_of(volume, &tags, servers, "us-east-1");
        assert_eq!(spec(&lost, &servers).get("attach_to"), None);
        // Before its server is made it is as wanted.
        assert_eq!(spec(&lost, &[])["attach_to"], "use-db");
        let attachment = ec2::VolumeAttachment::builder().instance_id("i-1").build();
        let held = ec2::Volume::builder().size(10).attachments(attachment).build();
        assert_eq!(spec(&held, &servers)["attach_to"], "use-db");
    }

    proptest! {
        #[test]
        fn a_spec_comes_back_as_it_went(
            size in 1i32..16384,
            attach_to in proptest::option::of("[a-z][a-z0-9-]{0,40}"),
            labels in proptest::collection::btree_map("[a-z]{1,10}", "[a-z]{0,10}", 0..4),
            protect: bool,
        ) {
            let mut spec = json!({
                "kind": "aws.Volume", "name": "use-data", "region": "us-east-1", "size_gb": size, "labels": labels, "protect": protect,
            });
            if let Some(name) = attach_to {
                spec["attach_to"] = json!(name);
            }
            let mut want = want(spec);
            want.protect = protect;
            let tags = tags_of(&ws(), &want);
            let answer = ec2::Volume::builder().size(size).set_tags(Some(tags::for_ec2(&tags))).build();
            prop_assert_eq!(spec_of(&answer, &tags::from_ec2(answer.tags()), &[], "us-east-1"), want.spec);
        }
    }
}
