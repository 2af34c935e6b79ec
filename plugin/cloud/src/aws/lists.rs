//! Lists, each read to its end.

use aws_sdk_ec2::types as ec2;
use aws_sdk_elasticloadbalancingv2::types as elb;
use aws_sdk_rds::types as rds;

use super::{call::Repeat::Freely, fault::Fault, place::Place};

/// Lists of EC2 have filters and `NextToken`. Whoever names no size is given everything in one answer, and is throttled
/// and timed out sooner: each asks for the largest page that its action has.
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>, and of each action.
macro_rules! ec2_lists {
    ($($(#[$doc:meta])* $name:ident: $method:ident -> $items:ident: $item:ty, $action:literal, $most:literal;)+) => {$(
        $(#[$doc])*
        pub(super) async fn $name(place: &Place, filters: &[ec2::Filter]) -> Result<Vec<$item>, Fault> {
            place
                .pages($action, |token| async move {
                    let request = place
                        .ec2
                        .$method()
                        .set_filters(Some(filters.to_vec()))
                        .max_results($most)
                        .set_next_token(token);
                    let page = place.call($action, Freely, || request.clone().send()).await?;
                    Ok((page.$items.unwrap_or_default(), page.next_token))
                })
                .await
        }
    )+};
}

ec2_lists! {
    vpcs: describe_vpcs -> vpcs: ec2::Vpc, "ec2:DescribeVpcs", 1000;
    subnets: describe_subnets -> subnets: ec2::Subnet, "ec2:DescribeSubnets", 1000;
    gateways: describe_internet_gateways -> internet_gateways: ec2::InternetGateway, "ec2:DescribeInternetGateways", 1000;
    tables: describe_route_tables -> route_tables: ec2::RouteTable, "ec2:DescribeRouteTables", 100;
    groups: describe_security_groups -> security_groups: ec2::SecurityGroup, "ec2:DescribeSecurityGroups", 1000;
    volumes: describe_volumes -> volumes: ec2::Volume, "ec2:DescribeVolumes", 1000;
    reservations: describe_instances -> reservations: ec2::Reservation, "ec2:DescribeInstances", 1000;
    interfaces: describe_network_interfaces -> network_interfaces: ec2::NetworkInterface, "ec2:DescribeNetworkInterfaces", 1000;
}

/// On one page of instances, as few as may be asked for.
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>, `MaxResults`.
const FEWEST: i32 = 5;

/// Instances that are there or coming. One that is being terminated is listed for another hour and is nobody's any more.
/// Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html>.
pub(super) async fn instances(place: &Place, filters: &[ec2::Filter]) -> Result<Vec<ec2::Instance>, Fault> {
    let all = reservations(place, filters).await?;
    let each = all.into_iter().flat_map(|it| it.instances.unwrap_or_default());
    Ok(each.filter(is_there).collect())
}

/// Whether there are any, without reading all of them.
pub(super) async fn has_instances(place: &Place, filter: &ec2::Filter) -> Result<bool, Fault> {
    use ec2::InstanceStateName::{Pending, Running, Stopped, Stopping};
    let states = [Pending, Running, Stopping, Stopped].map(|it| it.as_str().to_owned());
    let there = ec2::Filter::builder()
        .name("instance-state-name")
        .set_values(Some(states.to_vec()))
        .build();
    let request = place
        .ec2
        .describe_instances()
        .filters(filter.clone())
        .filters(there)
        .max_results(FEWEST);
    let mut token = None;
    loop {
        let request = request.clone().set_next_token(token);
        let page = place
            .call("ec2:DescribeInstances", Freely, || request.clone().send())
            .await?;
        // A page may be empty though another one follows.
        if !page.reservations().is_empty() || page.next_token().is_none() {
            return Ok(!page.reservations().is_empty());
        }
        token = page.next_token;
    }
}

pub(super) fn is_there(instance: &ec2::Instance) -> bool {
    use ec2::InstanceStateName::{ShuttingDown, Terminated};
    let state = instance.state().and_then(ec2::InstanceState::name);
    !matches!(state, Some(ShuttingDown | Terminated))
}

/// All balancers of the account: this list has no filter by tag.
pub(super) async fn balancers(place: &Place) -> Result<Vec<elb::LoadBalancer>, Fault> {
    let action = "elasticloadbalancing:DescribeLoadBalancers";
    place
        .pages(action, |marker| async move {
            let request = place.elb.describe_load_balancers().set_marker(marker);
            let page = place.call(action, Freely, || request.clone().send()).await?;
            Ok((page.load_balancers.unwrap_or_default(), page.next_marker))
        })
        .await
}

/// All target groups of the account.
pub(super) async fn target_groups(place: &Place) -> Result<Vec<elb::TargetGroup>, Fault> {
    let action = "elasticloadbalancing:DescribeTargetGroups";
    place
        .pages(action, |marker| async move {
            let request = place.elb.describe_target_groups().set_marker(marker);
            let page = place.call(action, Freely, || request.clone().send()).await?;
            Ok((page.target_groups.unwrap_or_default(), page.next_marker))
        })
        .await
}

pub(super) async fn listeners(place: &Place, balancer: &str) -> Result<Vec<elb::Listener>, Fault> {
    let action = "elasticloadbalancing:DescribeListeners";
    place
        .pages(action, |marker| async move {
            let request = place
                .elb
                .describe_listeners()
                .load_balancer_arn(balancer)
                .set_marker(marker);
            let page = place.call(action, Freely, || request.clone().send()).await?;
            Ok((page.listeners.unwrap_or_default(), page.next_marker))
        })
        .await
}

/// All managed databases of the account, each with its tags.
pub(super) async fn databases(place: &Place) -> Result<Vec<rds::DbInstance>, Fault> {
    let action = "rds:DescribeDBInstances";
    place
        .pages(action, |marker| async move {
            let request = place.rds.describe_db_instances().set_marker(marker);
            let page = place.call(action, Freely, || request.clone().send()).await?;
            Ok((page.db_instances.unwrap_or_default(), page.marker))
        })
        .await
}
