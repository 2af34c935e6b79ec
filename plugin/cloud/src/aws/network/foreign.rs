//! A VPC that somebody else made, as a network of ours.

use aws_sdk_ec2::types as ec2;
use futures::future::try_join_all;

use super::{
    parts::{GATEWAY, MEMBERS, Parts, Piece, ROUTES, SUBNETS, VPC},
    write_tags,
};
use crate::{
    ProviderError,
    aws::{
        survey::{Adopting, owner},
        tags::{self, PART, Tags},
    },
};

/// The pieces that lie in a VPC, each with the part that it plays in a network of ours, as far as it could play one.
pub(in crate::aws) fn parts_of(all: &Parts, vpc: &str, name: &str) -> Parts {
    let here = |it: &dyn Piece| it.vpc() == Some(vpc);
    let mut subnets: Vec<ec2::Subnet> = all.subnets.iter().filter(|it| here(*it)).cloned().collect();
    subnets.sort_by_key(|it| (it.availability_zone.clone(), it.subnet_id.clone()));
    // One in each zone: what is spread is spread over two of them.
    subnets.dedup_by_key(|it| it.availability_zone.clone());
    subnets.truncate(SUBNETS.len());
    let first = subnets.first().and_then(|it| it.subnet_id.clone());
    let tables = || all.tables.iter().filter(|it| here(*it));
    let of_first = |it: &&ec2::RouteTable| {
        it.associations()
            .iter()
            .any(|link| link.subnet_id == first && first.is_some())
    };
    let table = tables()
        .find(of_first)
        .or_else(|| tables().find(|it| it.associations().iter().any(|link| link.main() == Some(true))));
    let members = format!("{name}-{}", MEMBERS);
    let group = all
        .groups
        .iter()
        .find(|it| here(*it) && it.group_name() == Some(members.as_str()));
    Parts {
        vpcs: all.vpcs.iter().filter(|it| it.vpc_id() == Some(vpc)).cloned().collect(),
        subnets,
        gateways: all.gateways.iter().filter(|it| here(*it)).take(1).cloned().collect(),
        tables: table.cloned().into_iter().collect(),
        groups: group.cloned().into_iter().collect(),
    }
}

/// Writes these tags on all pieces, each with its part.
pub(in crate::aws) fn retag(parts: &mut Parts, tags: &Tags) {
    let with = |part: &str| {
        let mut tags = tags.clone();
        tags.insert(PART.to_owned(), part.to_owned());
        Some(tags::for_ec2(&tags))
    };
    parts.vpcs.iter_mut().for_each(|it| it.tags = with(VPC));
    for (it, part) in parts.subnets.iter_mut().zip(SUBNETS) {
        it.tags = with(part);
    }
    parts.gateways.iter_mut().for_each(|it| it.tags = with(GATEWAY));
    parts.tables.iter_mut().for_each(|it| it.tags = with(ROUTES));
    parts.groups.iter_mut().for_each(|it| it.tags = with(MEMBERS));
}

/// The pieces of a network, besides the VPC, each with the tags that it carries by now.
pub(in crate::aws) async fn write_pieces(it: &Adopting<'_>, all: &Parts, parts: &Parts) -> Result<(), ProviderError> {
    let before: Vec<(Option<&str>, Tags)> = all
        .subnets
        .iter()
        .map(|it| (it.subnet_id(), it.tag_list()))
        .chain(all.gateways.iter().map(|it| (it.internet_gateway_id(), it.tag_list())))
        .chain(all.tables.iter().map(|it| (it.route_table_id(), it.tag_list())))
        .chain(all.groups.iter().map(|it| (it.group_id(), it.tag_list())))
        .collect();
    let wanted = parts
        .subnets
        .iter()
        .map(|it| (it.subnet_id(), it.tag_list()))
        .chain(
            parts
                .gateways
                .iter()
                .map(|it| (it.internet_gateway_id(), it.tag_list())),
        )
        .chain(parts.tables.iter().map(|it| (it.route_table_id(), it.tag_list())))
        .chain(parts.groups.iter().map(|it| (it.group_id(), it.tag_list())));
    let writes = wanted.filter_map(|(id, tags)| {
        let has = before
            .iter()
            .find(|(other, _)| *other == id)
            .map(|(_, has)| has.clone());
        let has = has.unwrap_or_default();
        // One of another workspace is left to it; the network lacks it until provisioning makes another.
        let free = owner(&has).is_none_or(|owner| owner.ws == it.place.workspace);
        let missing = it.besides_a_name(&has, tags);
        Some((id?, missing)).filter(|_| free)
    });
    let place = it.place;
    try_join_all(writes.map(|(id, tags)| async move { write_tags(place, id, &tags).await })).await?;
    Ok(())
}
