//! Balancers of the whole account, and labels for one that has none.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use aws_sdk_elasticloadbalancingv2::types as elb;
use ha_core::resource::{Kind, Live, Resource, ResourceId};

use super::{Listed, Pieces, Wanted, add_tags, by_instance, list, pieces, shape::Servers};
use crate::{
    ProviderError,
    aws::{
        lists, network,
        place::Place,
        survey::{Adopting, NOBODY, owner, pretended},
        tags::{self, Tags},
    },
    survey::{as_it_is, carried_by_another, may_take},
};

/// A balancer, its own tags, and how it would be if it were ours.
pub(in crate::aws) struct Seen {
    pub(in crate::aws) arn: String,
    pub(in crate::aws) name: String,
    pub(in crate::aws) tags: Tags,
    pub(in crate::aws) vpc: Option<String>,
    pub(in crate::aws) live: Live,
}

/// All of them; `instances` are all of the place, each with tags that name it.
pub(in crate::aws) async fn everything(place: &Place, instances: &[ec2::Instance]) -> Result<Vec<Seen>, ProviderError> {
    let listed = list(place).await?;
    let mut as_if = Listed {
        security: listed.security.clone(),
        ..Listed::default()
    };
    for (balancer, tags) in &listed.balancers {
        let name = balancer.load_balancer_name().unwrap_or(NOBODY);
        as_if
            .balancers
            .push((balancer.clone(), pretended(place, Kind::LoadBalancer, name, tags)));
    }
    for (group, tags) in &listed.groups {
        let of = group.load_balancer_arns().first();
        let balancer = as_if
            .balancers
            .iter()
            .find(|(it, _)| it.load_balancer_arn() == of.map(String::as_str));
        let theirs = balancer.map(|(_, theirs)| identity(theirs)).unwrap_or_default();
        let mut tags = tags.clone();
        tags.extend(theirs);
        as_if.groups.push((group.clone(), tags));
    }
    let pieces = pieces(place, &as_if, None).await?;
    let servers = by_instance(place, instances);
    let mut all = Vec::new();
    for (id, pieces) in &pieces {
        let Some(balancer) = &pieces.balancer else { continue };
        let found = listed
            .balancers
            .iter()
            .find(|(it, _)| it.load_balancer_arn() == balancer.load_balancer_arn());
        let Some((_, tags)) = found else { continue };
        all.push(Seen {
            arn: balancer.load_balancer_arn().unwrap_or_default().to_owned(),
            name: balancer.load_balancer_name().unwrap_or_default().to_owned(),
            tags: tags.clone(),
            vpc: balancer.vpc_id().map(str::to_owned),
            live: pieces.live(&place.workspace, id, &place.location, &servers, None),
        });
    }
    Ok(all)
}

fn identity(tags: &Tags) -> Tags {
    let keys = [tags::WS, tags::REGION, tags::KIND, tags::NAME];
    let pair = |key: &str| Some((key.to_owned(), tags.get(key)?.clone()));
    keys.into_iter().filter_map(pair).collect()
}

/// Gives a balancer its tags, and those of its pieces that nothing else uses: its target groups, and the security group
/// that is named after it.
pub(in crate::aws) async fn adopt(it: &Adopting<'_>, arn: &str) -> Result<Live, ProviderError> {
    let (place, want) = (it.place, it.want);
    let ws = &place.workspace;
    let (listed, instances) = tokio::join!(list(place), super::servers(place, &want.id.region));
    let (listed, instances) = (listed?, instances?);
    let is = |tags: &Tags| tags::read(ws, tags).is_some_and(|it| it.id == want.id);
    if let Some((other, _)) = listed
        .balancers
        .iter()
        .find(|(it, tags)| is(tags) && it.load_balancer_arn() != Some(arn))
    {
        return Err(carried_by_another(
            &want.id,
            other.load_balancer_arn().unwrap_or_default(),
        ));
    }
    let found = listed
        .balancers
        .iter()
        .find(|(it, _)| it.load_balancer_arn() == Some(arn));
    let (balancer, has) = found.ok_or_else(|| it.gone())?;
    may_take(owner(has).as_ref(), ws, &want.id, || format!("the load balancer {arn}"))?;
    let servers = by_instance(place, &instances);
    if !is(has) || !has.contains_key(tags::SPEC) {
        let own = |group: &&elb::TargetGroup| matches!(group.load_balancer_arns(), [only] if only == arn);
        let groups: Vec<&elb::TargetGroup> = listed.groups.iter().map(|(group, _)| group).filter(own).collect();
        let theirs = tags::identity(ws, &want.id);
        let mut tags = has.clone();
        tags.extend(Wanted::read(want)?.tags(ws, want));
        let is = as_it_is(want, as_if(it, balancer, &groups, tags, &servers).await?.spec);
        let wanted = it.besides_a_name(has, Wanted::read(&is)?.tags(ws, &is));
        for group in &groups {
            add_tags(
                place,
                group.target_group_arn().unwrap_or_default(),
                &it.besides_a_name(&Tags::new(), theirs.clone()),
            )
            .await?;
        }
        let named = format!("{}-balancer", balancer.load_balancer_name().unwrap_or_default());
        for id in balancer.security_groups() {
            let found = lists::groups(place, &[tags::filter("group-id", id)]).await?;
            let after = found.iter().find(|it| it.group_name() == Some(named.as_str()));
            if let Some(group) = after.filter(|it| owner(&tags::from_ec2(it.tags())).is_none()) {
                network::write_tags(place, group.group_id().unwrap_or_default(), &theirs).await?;
            }
        }
        // Last: it says that all before it is done.
        add_tags(place, arn, &wanted).await?;
    }
    it.seen(|| async {
        let listed = list(place).await?;
        let all = pieces(place, &listed, Some(&want.id)).await?;
        Ok(all
            .get(&want.id)
            .map(|it| it.live(ws, &want.id, &place.location, &servers, network_of(want))))
    })
    .await
}

fn network_of(want: &Resource) -> Option<&ResourceId> {
    want.depends_on.iter().find(|it| it.kind == Kind::Network)
}

/// The balancer as it would be with these tags.
async fn as_if(
    it: &Adopting<'_>,
    balancer: &elb::LoadBalancer,
    groups: &[&elb::TargetGroup],
    tags: Tags,
    servers: &Servers,
) -> Result<Live, ProviderError> {
    let (place, want) = (it.place, it.want);
    let theirs = tags::identity(&place.workspace, &want.id);
    let listed = Listed {
        balancers: vec![(balancer.clone(), tags)],
        groups: groups.iter().map(|it| ((*it).clone(), theirs.clone())).collect(),
        security: Vec::new(),
    };
    let all: BTreeMap<ResourceId, Pieces> = pieces(place, &listed, Some(&want.id)).await?;
    let live = all
        .get(&want.id)
        .map(|it| it.live(&place.workspace, &want.id, &place.location, servers, None));
    live.ok_or_else(|| it.gone())
}
