//! Balancers: an application load balancer with its listeners, target groups and a security group of its own.
//!
//! AWS makes them in several requests. The balancer says `unfinished` in place of its spec's hash until the last one.

mod certificate;
mod groups;
mod listeners;
pub(super) mod shape;
pub(super) mod survey;

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{self as ec2, ResourceType};
use aws_sdk_elasticloadbalancingv2::types as elb;
use futures::future::{join_all, try_join_all};
use ha_core::resource::{Kind, Live, Resource, ResourceId, Status};

use self::shape::{Group, Pieces, Servers, Wanted};
use super::{
    call::Repeat::{Freely, WhenRefused},
    fault::{Class, Fault},
    fields,
    firewall::servers,
    lists,
    network::{self, authorize, delete_group, each, gone_already, id_of, parts},
    place::Place,
    rules, server, spec,
    tags::{self, SPEC, Tags, UNFINISHED},
};
use crate::ProviderError;

/// Tags of at most so many things are told in one answer.
/// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTags.html>.
const TAGS_AT_ONCE: usize = 20;

/// All balancers and target groups of a place with their tags; those of others as well, since names are shared.
#[derive(Debug, Default)]
pub(super) struct Listed {
    balancers: Vec<(elb::LoadBalancer, Tags)>,
    groups: Vec<(elb::TargetGroup, Tags)>,
    security: Vec<ec2::SecurityGroup>,
}

pub(super) async fn list(place: &Place) -> Result<Listed, Fault> {
    let filters = [
        tags::ours(&place.workspace),
        tags::filter(format!("tag:{}", tags::KIND), Kind::LoadBalancer.as_str()),
    ];
    let (balancers, groups, security) = tokio::join!(
        lists::balancers(place),
        lists::target_groups(place),
        lists::groups(place, &filters),
    );
    let (balancers, groups) = (balancers?, groups?);
    let arns = balancers.iter().filter_map(|it| it.load_balancer_arn());
    let arns: Vec<&str> = arns
        .chain(groups.iter().filter_map(|it| it.target_group_arn()))
        .collect();
    let told = try_join_all(arns.chunks(TAGS_AT_ONCE).map(|some| told_tags(place, some))).await?;
    let mut told: BTreeMap<String, Tags> = told.into_iter().flatten().collect();
    let mut of = |arn: Option<&str>| arn.and_then(|it| told.remove(it)).unwrap_or_default();
    let balancers = balancers.into_iter().map(|it| {
        let tags = of(it.load_balancer_arn());
        (it, tags)
    });
    let balancers = balancers.collect();
    let groups = groups.into_iter().map(|it| {
        let tags = of(it.target_group_arn());
        (it, tags)
    });
    Ok(Listed {
        balancers,
        groups: groups.collect(),
        security: security?,
    })
}

async fn told_tags(place: &Place, arns: &[&str]) -> Result<Vec<(String, Tags)>, Fault> {
    let arns: Vec<String> = arns.iter().map(|it| (*it).to_owned()).collect();
    let request = place.elb.describe_tags().set_resource_arns(Some(arns.clone()));
    let answer = place
        .call("elasticloadbalancing:DescribeTags", Freely, || request.clone().send())
        .await;
    let answer = match answer {
        // One of them was removed since it was listed, and that refuses all of them.
        Err(fault) if fault.is(Class::NotFound) && arns.len() > 1 => {
            let each = arns.iter().map(|arn| Box::pin(told_tags_of(place, arn)));
            return Ok(try_join_all(each).await?.into_iter().flatten().collect());
        }
        Err(fault) if fault.is(Class::NotFound) => return Ok(Vec::new()),
        answer => answer?,
    };
    let all = answer.tag_descriptions().iter();
    Ok(all
        .filter_map(|it| Some((it.resource_arn()?.to_owned(), tags::from_elb(it.tags()))))
        .collect())
}

async fn told_tags_of(place: &Place, arn: &str) -> Result<Vec<(String, Tags)>, Fault> {
    told_tags(place, &[arn]).await
}

/// The pieces of each balancer that is ours, or of the one of that identity.
pub(super) async fn pieces(
    place: &Place,
    listed: &Listed,
    only: Option<&ResourceId>,
) -> Result<BTreeMap<ResourceId, Pieces>, Fault> {
    let id_of = |tags: &Tags| {
        let owned = tags::read(&place.workspace, tags).filter(|it| it.id.kind == Kind::LoadBalancer)?;
        only.is_none_or(|id| *id == owned.id).then_some(owned.id)
    };
    let mut all: BTreeMap<ResourceId, Pieces> = BTreeMap::new();
    for (balancer, tags) in &listed.balancers {
        if let Some(id) = id_of(tags) {
            let pieces = all.entry(id).or_default();
            pieces.balancer = Some(balancer.clone());
            pieces.tags = tags.clone();
        }
    }
    for group in &listed.security {
        if let Some(id) = id_of(&tags::from_ec2(group.tags())) {
            let security = &mut all.entry(id).or_default().security;
            security.extend(group.group_id().map(str::to_owned));
        }
    }
    let ours = listed
        .groups
        .iter()
        .filter_map(|(group, tags)| Some((id_of(tags)?, group)));
    let groups = try_join_all(ours.map(async |(id, group)| Ok((id, groups::told(place, group).await?))));
    let arns = all
        .iter()
        .filter_map(|(id, it)| Some((id.clone(), it.arn()?.to_owned())));
    let listening = try_join_all(arns.map(|(id, arn)| async move {
        let found = match lists::listeners(place, &arn).await {
            // Removed since it was listed.
            Err(fault) if fault.is(Class::NotFound) => Vec::new(),
            found => found?,
        };
        Ok((id, found))
    }));
    let (groups, listening) = tokio::join!(groups, listening);
    for (id, group) in groups? {
        all.entry(id).or_default().groups.extend(group);
    }
    for (id, found) in listening? {
        all.entry(id).or_default().listeners = found;
    }
    Ok(all)
}

/// The servers among these instances, in the order of their groups.
pub(super) fn by_instance(place: &Place, instances: &[ec2::Instance]) -> Servers {
    let mut all: Vec<(String, u64, String, ResourceId)> = instances
        .iter()
        .filter_map(|it| {
            let tags = tags::from_ec2(it.tags());
            let owned = tags::read(&place.workspace, &tags).filter(|it| it.id.kind == Kind::Server)?;
            let index = tags
                .get(server::shape::INDEX)
                .and_then(|it| it.parse().ok())
                .unwrap_or_default();
            let group = tags.get(server::shape::GROUP).cloned().unwrap_or_default();
            Some((group, index, it.instance_id()?.to_owned(), owned.id))
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, _, instance, id)| (instance, id)).collect()
}

pub(super) async fn ensure(place: &Place, want: &Resource) -> Result<Live, ProviderError> {
    let wanted = Wanted::read(want)?;
    let network = spec::network(want)?;
    certificate::check(place, want, &wanted).await?;
    let (listed, ground, instances) = tokio::join!(
        list(place),
        network::ground(place, network),
        servers(place, &want.id.region),
    );
    let listed = listed?;
    let missing = |needs: String| ProviderError::Missing {
        id: want.id.clone(),
        needs,
    };
    let ground = ground?.ok_or_else(|| missing(network.to_string()))?;
    let servers = by_instance(place, &instances?);
    let mut members = Vec::new();
    for name in &wanted.servers {
        let id = ResourceId::new(&want.id.region, Kind::Server, name.clone());
        let found = servers.iter().find(|(_, server)| *server == id);
        members.push(found.ok_or_else(|| missing(id.to_string()))?.0.clone());
    }
    untaken(place, &listed, want, &wanted)?;
    let found = pieces(place, &listed, Some(&want.id))
        .await?
        .remove(&want.id)
        .unwrap_or_default();
    let now = found.live(&place.workspace, &want.id, &place.location, &servers, Some(network));
    let as_wanted = |live: &Live| {
        live.status == Status::Running
            && live.spec == want.spec
            && live.labels.spec == want.spec_hash()
            && live.protect == want.protect
    };
    if as_wanted(&now) {
        return Ok(now);
    }
    let making = Making {
        place,
        want,
        wanted: &wanted,
        found: &found,
    };
    let vpc = ground.vpc().and_then(ec2::Vpc::vpc_id).unwrap_or_default();
    let security = making.security(vpc).await?;
    let balancer = making.balancer(&ground, &security).await?;
    let groups = groups::ensure(place, want, &wanted, &found, vpc, &members).await?;
    listeners::ensure(place, &wanted, &found, &balancer, &groups).await?;
    // Nothing leads there any more.
    let targets = wanted.targets();
    let unused = found.groups.iter().filter(|it| !targets.contains(&it.target()));
    each(unused, async |it| groups::delete(place, it.arn()).await).await?;
    place
        .until(
            place.deadline,
            || async {
                let request = place.elb.describe_load_balancers().load_balancer_arns(&balancer);
                let answer = place
                    .call("elasticloadbalancing:DescribeLoadBalancers", Freely, || {
                        request.clone().send()
                    })
                    .await?;
                let state = answer.load_balancers().first().and_then(|it| it.state());
                Ok(match state.and_then(|it| it.code()) {
                    Some(elb::LoadBalancerStateEnum::Active | elb::LoadBalancerStateEnum::ActiveImpaired) => Ok(()),
                    Some(elb::LoadBalancerStateEnum::Failed) => {
                        let reason = state.and_then(|it| it.reason()).unwrap_or("AWS does not say why");
                        return Err(making.not_ready(reason.to_owned()));
                    }
                    code => Err(format!("it is {}", code.map_or("unknown", |it| it.as_str()))),
                })
            },
            |detail| making.not_ready(detail),
        )
        .await?;
    let tags = wanted.tags(&place.workspace, want);
    add_tags(place, &balancer, &tags).await?;
    remove_tags(place, &balancer, &fields::obsolete(&found.tags, &tags)).await?;
    place
        .until(
            place.deadline,
            || async {
                let listed = list(place).await?;
                let mut all = pieces(place, &listed, Some(&want.id)).await?;
                let found = all.remove(&want.id).unwrap_or_default();
                let live = found.live(&place.workspace, &want.id, &place.location, &servers, Some(network));
                Ok(if as_wanted(&live) {
                    Ok(live)
                } else {
                    Err("AWS does not show the change yet".to_owned())
                })
            },
            |detail| making.not_ready(detail),
        )
        .await
}

/// Names of balancers and target groups are unique in an account and location; a create with a taken one is answered
/// with the other's, if the two are alike.
fn untaken(place: &Place, listed: &Listed, want: &Resource, wanted: &Wanted) -> Result<(), ProviderError> {
    let ours = |tags: &Tags| tags::read(&place.workspace, tags).is_some_and(|it| it.id == want.id);
    let taken = |what: &str, name: &str| ProviderError::Taken {
        what: format!("the name {name} among the {what} in {}", place.location),
        by: "one without the tags of this resource".into(),
    };
    let name = Some(want.id.name.as_str());
    if listed
        .balancers
        .iter()
        .any(|(it, tags)| it.load_balancer_name() == name && !ours(tags))
    {
        return Err(taken("load balancers", &want.id.name));
    }
    for target in wanted.targets() {
        let name = shape::group_name(&place.workspace, &want.id, &target);
        let same = |group: &elb::TargetGroup| group.target_group_name() == Some(name.as_str());
        if listed.groups.iter().any(|(it, tags)| same(it) && !ours(tags)) {
            return Err(taken("target groups", &name));
        }
    }
    Ok(())
}

struct Making<'a> {
    place: &'a Place,
    want: &'a Resource,
    wanted: &'a Wanted,
    found: &'a Pieces,
}

impl Making<'_> {
    fn not_ready(&self, detail: String) -> ProviderError {
        ProviderError::NotReady {
            id: self.want.id.clone(),
            detail,
        }
    }

    fn unfinished(&self) -> Tags {
        let mut tags = self.wanted.tags(&self.place.workspace, self.want);
        tags.insert(SPEC.to_owned(), UNFINISHED.to_owned());
        tags
    }

    /// Its own security group: everybody may reach the ports that it listens on, and no others.
    async fn security(&self, vpc: &str) -> Result<String, ProviderError> {
        let place = self.place;
        let ports = self.wanted.listeners();
        let open: Vec<ec2::IpPermission> = ports
            .iter()
            .map(|(port, _)| parts::rule("tcp", Some((*port, *port)), parts::EVERYWHERE))
            .collect();
        let id = match self.found.security.first() {
            Some(id) => id.clone(),
            None => {
                let request = place
                    .ec2
                    .create_security_group()
                    .vpc_id(vpc)
                    .group_name(format!("{}-balancer", self.want.id.name))
                    .description(format!("balancer {}", self.want.id.name))
                    .tag_specifications(tags::at_birth(
                        ResourceType::SecurityGroup,
                        &tags::identity(&place.workspace, &self.want.id),
                    ));
                let action = "ec2:CreateSecurityGroup";
                match place.call(action, WhenRefused, || request.clone().send()).await {
                    Ok(made) => id_of(made.group_id, action, place)?,
                    Err(fault) if fault.is(Class::Exists) => {
                        return Err(ProviderError::Taken {
                            what: format!("the security group name {}-balancer", self.want.id.name),
                            by: "a group without this workspace's tags".into(),
                        });
                    }
                    Err(fault) => return Err(fault.into()),
                }
            }
        };
        let now = lists::groups(place, &[tags::filter("group-id", &id)]).await?;
        let has = now.first().map(ec2::SecurityGroup::ip_permissions).unwrap_or_default();
        let extra = rules::without(has, &open);
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
        authorize(place, &id, rules::without(&open, has)).await?;
        Ok(id)
    }

    async fn balancer(&self, ground: &parts::Parts, security: &str) -> Result<String, ProviderError> {
        let place = self.place;
        if let Some(arn) = self.found.arn() {
            add_tags(place, arn, &tags::missing(&self.found.tags, &self.unfinished())).await?;
            return Ok(arn.to_owned());
        }
        let subnets: Vec<String> = [0, 1]
            .iter()
            .filter_map(|at| ground.subnet(*at)?.subnet_id().map(str::to_owned))
            .collect();
        let request = place
            .elb
            .create_load_balancer()
            .name(&self.want.id.name)
            .r#type(elb::LoadBalancerTypeEnum::Application)
            .scheme(elb::LoadBalancerSchemeEnum::InternetFacing)
            .set_subnets(Some(subnets))
            .security_groups(security)
            .set_tags(Some(tags::for_elb(&self.unfinished())));
        let action = "elasticloadbalancing:CreateLoadBalancer";
        let made = place.settled(action, WhenRefused, || request.clone().send()).await?;
        let made = made.load_balancers.unwrap_or_default().into_iter().next();
        id_of(made.and_then(|it| it.load_balancer_arn), action, place)
    }
}

/// Writes tags on a balancer or a target group.
async fn add_tags(place: &Place, arn: &str, tags: &Tags) -> Result<(), Fault> {
    if tags.is_empty() {
        return Ok(());
    }
    let request = place
        .elb
        .add_tags()
        .resource_arns(arn)
        .set_tags(Some(tags::for_elb(tags)));
    place
        .settled("elasticloadbalancing:AddTags", Freely, || request.clone().send())
        .await
        .map(drop)
}

async fn remove_tags(place: &Place, arn: &str, keys: &[&str]) -> Result<(), Fault> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys = keys.iter().map(|it| (*it).to_owned()).collect();
    let request = place.elb.remove_tags().resource_arns(arn).set_tag_keys(Some(keys));
    place
        .call("elasticloadbalancing:RemoveTags", Freely, || request.clone().send())
        .await
        .map(drop)
}

/// Afterwards no piece of it is left. Its listeners go with it; its target groups and its security group are let go of
/// only once it is gone, which takes a while.
pub(super) async fn remove(place: &Place, id: &ResourceId) -> Result<(), ProviderError> {
    let listed = list(place).await?;
    let Some(found) = pieces(place, &listed, Some(id)).await?.remove(id) else {
        return Ok(());
    };
    if let Some(arn) = found.arn() {
        let request = place.elb.delete_load_balancer().load_balancer_arn(arn);
        let action = "elasticloadbalancing:DeleteLoadBalancer";
        match place.call(action, Freely, || request.clone().send()).await {
            Err(fault) if fault.is(Class::Protected) => return Err(ProviderError::Protected { id: id.clone() }),
            outcome => gone_already(outcome)?,
        }
    }
    let groups = found
        .groups
        .iter()
        .map(Group::arn)
        .map(|arn| groups::delete(place, arn));
    join_all(groups).await.into_iter().collect::<Result<(), _>>()?;
    let security = found.security.iter().map(|it| delete_group(place, it));
    join_all(security).await.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}
