//! Firewalls: security groups that the members of some server groups are in as well.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{self as ec2, ResourceType};
use futures::future::join_all;
use ha_core::{
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status, spec_hash},
};
use serde_json::{Map, Value, json};

use super::{
    call::Repeat::{Freely, WhenRefused},
    fault::{Class, Fault},
    fields::{self, LABELS},
    lists,
    network::{self, authorize, delete_group, gone_already, id_of, write_tags},
    place::Place,
    rules,
    server::shape,
    spec,
    tags::{self, BETWEEN, SPEC, Tags, UNFINISHED},
};
use crate::ProviderError;

/// The server groups it is for.
pub(super) const TARGETS: &str = "ha:targets";

/// All firewalls of a region of the workspace.
pub(super) async fn of_region(place: &Place, region: &RegionName) -> Result<Vec<ec2::SecurityGroup>, Fault> {
    let filters = [
        tags::ours(&place.workspace),
        tags::filter(format!("tag:{}", tags::REGION), region.as_str()),
        tags::filter(format!("tag:{}", tags::KIND), Kind::Firewall.as_str()),
    ];
    lists::groups(place, &filters).await
}

/// The ids of those that are for this server group.
pub(super) fn of_group(firewalls: &[ec2::SecurityGroup], group: &str) -> Vec<String> {
    let wanted = firewalls
        .iter()
        .filter(|it| targets(it).iter().any(|name| name == group));
    wanted.filter_map(|it| it.group_id().map(str::to_owned)).collect()
}

fn targets(firewall: &ec2::SecurityGroup) -> Vec<String> {
    let tags = tags::from_ec2(firewall.tags());
    let words = tags.get(TARGETS).map(|it| {
        it.split(BETWEEN)
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect()
    });
    words.unwrap_or_default()
}

fn group_of(instance: &ec2::Instance) -> Option<String> {
    tags::from_ec2(instance.tags()).remove(shape::GROUP)
}

/// Puts an instance into the firewalls that are for it and out of those that are not; groups of others stay.
pub(super) async fn regroup(
    place: &Place,
    instance: &ec2::Instance,
    firewalls: &[ec2::SecurityGroup],
) -> Result<(), Fault> {
    let Some(group) = group_of(instance) else { return Ok(()) };
    let now: Vec<String> = ids_on(instance);
    let all: Vec<&str> = firewalls.iter().filter_map(ec2::SecurityGroup::group_id).collect();
    let mut next: Vec<String> = now.iter().filter(|id| !all.contains(&id.as_str())).cloned().collect();
    next.extend(of_group(firewalls, &group));
    set_groups(place, interface_id(instance), now, next).await
}

/// An interface is in one group at least; one that would be in none stays as it is.
async fn set_groups(place: &Place, interface: &str, mut now: Vec<String>, mut next: Vec<String>) -> Result<(), Fault> {
    now.sort();
    next.sort();
    next.dedup();
    if now == next || next.is_empty() {
        return Ok(());
    }
    let request = place
        .ec2
        .modify_network_interface_attribute()
        .network_interface_id(interface)
        .set_groups(Some(next));
    place
        .settled("ec2:ModifyNetworkInterfaceAttribute", Freely, || request.clone().send())
        .await
        .map(drop)
}

/// The interface that an instance was made with; others may be added by hand, and are not ours to change.
fn interface(instance: &ec2::Instance) -> Option<&ec2::InstanceNetworkInterface> {
    let primary = |it: &&ec2::InstanceNetworkInterface| it.attachment().and_then(|it| it.device_index()) == Some(0);
    instance.network_interfaces().iter().find(primary)
}

fn interface_id(instance: &ec2::Instance) -> &str {
    interface(instance)
        .and_then(|it| it.network_interface_id())
        .unwrap_or_default()
}

pub(super) fn ids_on(instance: &ec2::Instance) -> Vec<String> {
    let groups = interface(instance).map(|it| it.groups()).unwrap_or_default();
    groups
        .iter()
        .filter_map(|it| it.group_id().map(str::to_owned))
        .collect()
}

pub(super) async fn ensure(place: &Place, want: &Resource) -> Result<Live, ProviderError> {
    let wanted = rules::wanted(want)?;
    let network = spec::network(want)?;
    let only = tags::only(&place.workspace, &want.id);
    let (found, ground, servers) = tokio::join!(
        lists::groups(place, &only),
        network::ground(place, network),
        servers(place, &want.id.region),
    );
    let (found, servers) = (found?, servers?);
    let ground = ground?.ok_or_else(|| ProviderError::Missing {
        id: want.id.clone(),
        needs: network.to_string(),
    })?;
    let all_tags = tags_of(&place.workspace, want);
    let mut unfinished = all_tags.clone();
    unfinished.insert(SPEC.to_owned(), UNFINISHED.to_owned());
    let id = match found.first() {
        Some(group) => {
            let id = group.group_id().unwrap_or_default().to_owned();
            let now = spec_of(group, &servers, place);
            if now != want.spec || tags::from_ec2(group.tags()).get(SPEC) != all_tags.get(SPEC) {
                write_tags(place, &id, &tags::missing(&tags::from_ec2(group.tags()), &unfinished)).await?;
            }
            id
        }
        None => make(place, want, &ground, &unfinished).await?,
    };
    let has = found
        .first()
        .map(ec2::SecurityGroup::ip_permissions)
        .unwrap_or_default();
    let extra = rules::without(has, &wanted);
    if !extra.is_empty() {
        let request = place
            .ec2
            .revoke_security_group_ingress()
            .group_id(&id)
            .set_ip_permissions(Some(extra));
        let outcome = place
            .call("ec2:RevokeSecurityGroupIngress", Freely, || request.clone().send())
            .await;
        gone_already(outcome)?;
    }
    authorize(place, &id, rules::without(&wanted, has)).await?;
    let for_groups = spec::texts(&want.spec, "targets");
    let (id, for_groups) = (id.as_str(), &for_groups);
    gather(place, id, for_groups, &servers).await?;
    write_tags(place, id, &all_tags).await?;
    place
        .until(
            place.deadline,
            || async {
                let (groups, servers) =
                    tokio::join!(lists::groups(place, &only), self::servers(place, &want.id.region));
                let (groups, servers) = (groups?, servers?);
                // One that was made meanwhile may have looked for firewalls before this one was there to be seen.
                gather(place, id, for_groups, &servers).await?;
                let group = groups.iter().find(|it| it.group_id() == Some(id));
                let live = group.and_then(|it| live(place, it, &servers, Some(network)));
                Ok(live
                    .filter(|it| it.spec == want.spec)
                    .ok_or_else(|| format!("{id} does not show its rules yet")))
            },
            |detail| ProviderError::NotReady {
                id: want.id.clone(),
                detail,
            },
        )
        .await
}

/// Puts the servers of these groups into the firewall, and all others out of it; where it is so, nothing is asked.
async fn gather(place: &Place, id: &str, for_groups: &[String], servers: &[ec2::Instance]) -> Result<(), Fault> {
    let moves = servers.iter().map(|server| async move {
        let now = ids_on(server);
        let mut next: Vec<String> = now.iter().filter(|it| **it != id).cloned().collect();
        if group_of(server).is_some_and(|it| for_groups.contains(&it)) {
            next.push(id.to_owned());
        }
        set_groups(place, interface_id(server), now, next).await
    });
    join_all(moves).await.into_iter().collect()
}

async fn make(
    place: &Place,
    want: &Resource,
    ground: &network::parts::Parts,
    tags: &Tags,
) -> Result<String, ProviderError> {
    let request = place
        .ec2
        .create_security_group()
        .set_vpc_id(ground.vpc().and_then(ec2::Vpc::vpc_id).map(str::to_owned))
        .group_name(&want.id.name)
        .description(format!("firewall {}", want.id.name))
        .tag_specifications(tags::at_birth(ResourceType::SecurityGroup, tags));
    let action = "ec2:CreateSecurityGroup";
    match place.call(action, WhenRefused, || request.clone().send()).await {
        Ok(made) => id_of(made.group_id, action, place),
        Err(fault) if fault.is(Class::Exists) => Err(ProviderError::Taken {
            what: format!("the name {} among the security groups of its VPC", want.id.name),
            by: "a group without this workspace's tags".into(),
        }),
        Err(fault) => Err(fault.into()),
    }
}

pub(super) async fn servers(place: &Place, region: &RegionName) -> Result<Vec<ec2::Instance>, Fault> {
    let filters = [
        tags::ours(&place.workspace),
        tags::filter(format!("tag:{}", tags::REGION), region.as_str()),
        tags::filter(format!("tag:{}", tags::KIND), Kind::Server.as_str()),
    ];
    lists::instances(place, &filters).await
}

pub(super) async fn remove(place: &Place, id: &ResourceId) -> Result<(), ProviderError> {
    let found = lists::groups(place, &tags::only(&place.workspace, id)).await?;
    for group in found.iter().filter_map(ec2::SecurityGroup::group_id) {
        for interface in lists::interfaces(place, &[tags::filter("group-id", group)]).await? {
            let now: Vec<String> = interface
                .groups()
                .iter()
                .filter_map(|it| it.group_id().map(str::to_owned))
                .collect();
            let next: Vec<String> = now.iter().filter(|it| *it != group).cloned().collect();
            let interface_id = interface.network_interface_id().unwrap_or_default();
            if next.is_empty() {
                return Err(ProviderError::Refused {
                    what: format!("{id} is the only group of network interface {interface_id}"),
                    help: "put that interface into another security group, and run it again".into(),
                });
            }
            set_groups(place, interface_id, now, next).await?;
        }
        delete_group(place, group).await?;
    }
    Ok(())
}

pub(super) fn tags_of(ws: &WorkspaceName, want: &Resource) -> Tags {
    let mut all = tags::of(ws, want);
    all.insert(TARGETS.to_owned(), spec::texts(&want.spec, "targets").join(BETWEEN));
    all.extend(fields::label_tags(&want.spec));
    all
}

/// In the words of `workspace.ncl`: this kind's spec is what was written there.
fn spec_of(group: &ec2::SecurityGroup, servers: &[ec2::Instance], place: &Place) -> Value {
    let tags = tags::from_ec2(group.tags());
    let id = group.group_id().unwrap_or_default();
    // A group of servers counts as long as all of its members are in.
    let holds = |name: &String| {
        let mut members = servers.iter().filter(|it| group_of(it).as_ref() == Some(name));
        members.all(|it| ids_on(it).iter().any(|on| on == id))
    };
    let targets: Vec<String> = targets(group).into_iter().filter(holds).collect();
    let mut spec = Map::from_iter([
        ("kind".to_owned(), json!("aws.SecurityGroup")),
        ("name".to_owned(), json!(tags.get(tags::NAME))),
        ("region".to_owned(), json!(place.location)),
        ("targets".to_owned(), json!(targets)),
        ("inbound".to_owned(), rules::written(group.ip_permissions())),
        (
            "protect".to_owned(),
            json!(tags.get(tags::PROTECT).is_some_and(|it| it == "true")),
        ),
    ]);
    spec.insert(LABELS.to_owned(), fields::labels(&tags));
    Value::Object(spec)
}

pub(super) fn live(
    place: &Place,
    group: &ec2::SecurityGroup,
    servers: &[ec2::Instance],
    network: Option<&ResourceId>,
) -> Option<Live> {
    let tags = tags::from_ec2(group.tags());
    let owned = tags::read(&place.workspace, &tags).filter(|it| it.id.kind == Kind::Firewall)?;
    let region: Vec<ec2::Instance> = servers
        .iter()
        .filter(|it| {
            tags::from_ec2(it.tags())
                .get(tags::REGION)
                .is_some_and(|it| *it == owned.id.region.as_str())
        })
        .cloned()
        .collect();
    let spec = spec_of(group, &region, place);
    let mut labels = owned.labels;
    if owned.unfinished {
        labels.spec = spec_hash(&spec);
    }
    Some(Live {
        id: owned.id,
        provider: ProviderName::Aws,
        labels,
        spec,
        status: if owned.unfinished {
            Status::Pending
        } else {
            Status::Running
        },
        detail: owned.unfinished.then(|| "a change of it was not finished".to_owned()),
        address: None,
        private_address: None,
        size: None,
        created_at: None,
        depends_on: network.cloned().into_iter().collect(),
        protect: owned.protect,
        role: None,
        endpoints: BTreeMap::new(),
    })
}
