//! Takes a network apart, piece by piece.

use aws_sdk_ec2::types as ec2;
use ha_core::resource::ResourceId;

use super::{each, gone_already, look, parts::Parts};
use crate::{
    ProviderError,
    aws::{fault::Fault, lists, place::Place, tags},
};

pub(in crate::aws) async fn remove(place: &Place, id: &ResourceId) -> Result<(), ProviderError> {
    let found = look(place, &tags::only(&place.workspace, id)).await?;
    if let Some(by) = users(place, &found).await? {
        return Err(ProviderError::Refused {
            what: format!("{id} is in use by {by}"),
            help: "remove it, or move it to another VPC, and run it again".into(),
        });
    }
    clear(place, &found).await
}

/// Instances in the VPC that are not ours: they would keep it for as long as anybody waits.
async fn users(place: &Place, found: &Parts) -> Result<Option<String>, Fault> {
    for vpc in found.vpcs.iter().filter_map(ec2::Vpc::vpc_id) {
        let inside = lists::instances(place, &[tags::filter("vpc-id", vpc)]).await?;
        let foreign = inside
            .iter()
            .find(|it| tags::read(&place.workspace, &tags::from_ec2(it.tags())).is_none());
        if let Some(id) = foreign.and_then(ec2::Instance::instance_id) {
            return Ok(Some(format!("instance {id}, which is not this workspace's")));
        }
    }
    Ok(None)
}

/// Removes pieces in the order in which AWS lets go of them. What still uses them is waited for: a balancer keeps its
/// addresses in the subnets for some minutes after its end.
pub(super) async fn clear(place: &Place, parts: &Parts) -> Result<(), ProviderError> {
    let links = parts.tables.iter().flat_map(ec2::RouteTable::associations);
    let links = links
        .filter(|it| it.main() != Some(true))
        .filter_map(|it| it.route_table_association_id());
    each(links, |link| async move {
        let request = place.ec2.disassociate_route_table().association_id(link);
        gone_already(
            place
                .freed("ec2:DisassociateRouteTable", || request.clone().send())
                .await,
        )
    })
    .await?;
    let subnets = each(
        parts.subnets.iter().filter_map(ec2::Subnet::subnet_id),
        |id| async move {
            let request = place.ec2.delete_subnet().subnet_id(id);
            gone_already(place.freed("ec2:DeleteSubnet", || request.clone().send()).await)
        },
    );
    let groups = each(
        parts.groups.iter().filter_map(ec2::SecurityGroup::group_id),
        |id| async move { delete_group(place, id).await },
    );
    let tables = each(
        parts.tables.iter().filter_map(ec2::RouteTable::route_table_id),
        |id| async move {
            let request = place.ec2.delete_route_table().route_table_id(id);
            gone_already(place.freed("ec2:DeleteRouteTable", || request.clone().send()).await)
        },
    );
    let (subnets, groups, tables) = tokio::join!(subnets, groups, tables);
    subnets.and(groups).and(tables)?;
    // With no subnet left nobody has a public address that would keep the gateway.
    for gateway in &parts.gateways {
        let Some(id) = gateway.internet_gateway_id() else {
            continue;
        };
        for vpc in gateway.attachments().iter().filter_map(|it| it.vpc_id()) {
            let request = place.ec2.detach_internet_gateway().internet_gateway_id(id).vpc_id(vpc);
            gone_already(
                place
                    .freed("ec2:DetachInternetGateway", || request.clone().send())
                    .await,
            )?;
        }
        let request = place.ec2.delete_internet_gateway().internet_gateway_id(id);
        gone_already(
            place
                .freed("ec2:DeleteInternetGateway", || request.clone().send())
                .await,
        )?;
    }
    each(parts.vpcs.iter().filter_map(ec2::Vpc::vpc_id), |id| async move {
        let request = place.ec2.delete_vpc().vpc_id(id);
        gone_already(place.freed("ec2:DeleteVpc", || request.clone().send()).await)
    })
    .await?;
    Ok(())
}

pub(in crate::aws) async fn delete_group(place: &Place, id: &str) -> Result<(), Fault> {
    let request = place.ec2.delete_security_group().group_id(id);
    gone_already(place.freed("ec2:DeleteSecurityGroup", || request.clone().send()).await)
}
