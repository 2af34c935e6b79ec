//! Target groups: where the requests of a balancer go, and how it is known who is well.

use aws_sdk_elasticloadbalancingv2::types as elb;
use futures::future::try_join_all;
use ha_core::resource::Resource;

use super::shape::{self, Group, Pieces, Target, Wanted};
use crate::{
    ProviderError,
    aws::{
        call::Repeat::{Freely, WhenRefused},
        fault::{Class, Fault},
        network::{gone_already, id_of},
        place::Place,
        tags::{self, PART},
    },
};

const ALGORITHM: &str = "load_balancing.algorithm.type";

/// A target group with its attributes and members; none when it was removed since it was listed.
pub(super) async fn told(place: &Place, group: &elb::TargetGroup) -> Result<Option<Group>, Fault> {
    let arn = group.target_group_arn().unwrap_or_default();
    let attributes = place.elb.describe_target_group_attributes().target_group_arn(arn);
    let health = place.elb.describe_target_health().target_group_arn(arn);
    let (attributes, health) = tokio::join!(
        place.call("elasticloadbalancing:DescribeTargetGroupAttributes", Freely, || {
            attributes.clone().send()
        }),
        place.call("elasticloadbalancing:DescribeTargetHealth", Freely, || health
            .clone()
            .send()),
    );
    let (attributes, health) = match (attributes, health) {
        (Err(fault), _) | (_, Err(fault)) if fault.is(Class::NotFound) => return Ok(None),
        (attributes, health) => (attributes?, health?),
    };
    let algorithm = attributes.attributes().iter().find(|it| it.key() == Some(ALGORITHM));
    // One that is draining was deregistered, and is listed until its last request has ended.
    let members = health.target_health_descriptions().iter().filter(|it| {
        let state = it.target_health().and_then(|it| it.state());
        state != Some(&elb::TargetHealthStateEnum::Draining)
    });
    Ok(Some(Group {
        group: group.clone(),
        algorithm: algorithm.and_then(|it| it.value()).map(str::to_owned),
        members: members.filter_map(|it| it.target()?.id().map(str::to_owned)).collect(),
    }))
}

/// Afterwards there is one for each target of the rules, with exactly these members; their ARNs.
pub(super) async fn ensure(
    place: &Place,
    want: &Resource,
    wanted: &Wanted,
    found: &Pieces,
    vpc: &str,
    members: &[String],
) -> Result<Vec<(Target, String)>, ProviderError> {
    try_join_all(wanted.targets().into_iter().map(|target| async move {
        let now = found.group(&target);
        let arn = match now {
            Some(group) => {
                adjust(place, wanted, group).await?;
                group.arn().to_owned()
            }
            None => create(place, want, wanted, &target, vpc).await?,
        };
        let algorithm = shape::algorithm_of(&wanted.algorithm);
        if now.is_none_or(|it| it.algorithm.as_deref() != Some(algorithm)) {
            let attribute = elb::TargetGroupAttribute::builder()
                .key(ALGORITHM)
                .value(algorithm)
                .build();
            let request = place
                .elb
                .modify_target_group_attributes()
                .target_group_arn(&arn)
                .attributes(attribute);
            place
                .settled("elasticloadbalancing:ModifyTargetGroupAttributes", Freely, || {
                    request.clone().send()
                })
                .await?;
        }
        let has = now.map(|it| it.members.as_slice()).unwrap_or_default();
        register(place, &arn, has, members).await?;
        Ok((target, arn))
    }))
    .await
}

async fn register(place: &Place, arn: &str, has: &[String], members: &[String]) -> Result<(), Fault> {
    let described = |ids: Vec<&String>| -> Vec<elb::TargetDescription> {
        ids.into_iter()
            .map(|id| elb::TargetDescription::builder().id(id).build())
            .collect()
    };
    let late = described(members.iter().filter(|it| !has.contains(it)).collect());
    if !late.is_empty() {
        let request = place
            .elb
            .register_targets()
            .target_group_arn(arn)
            .set_targets(Some(late));
        place
            .settled("elasticloadbalancing:RegisterTargets", Freely, || {
                request.clone().send()
            })
            .await?;
    }
    let extra = described(has.iter().filter(|it| !members.contains(it)).collect());
    if !extra.is_empty() {
        let request = place
            .elb
            .deregister_targets()
            .target_group_arn(arn)
            .set_targets(Some(extra));
        let outcome = place
            .call("elasticloadbalancing:DeregisterTargets", Freely, || {
                request.clone().send()
            })
            .await;
        gone_already(outcome)?;
    }
    Ok(())
}

/// Its protocol and port are what it is known by; the health check can change.
async fn adjust(place: &Place, wanted: &Wanted, group: &Group) -> Result<(), Fault> {
    let check = wanted.check.on(&group.target());
    if group.check() == check && group.group.health_check_path() == Some(wanted.path.as_str()) {
        return Ok(());
    }
    let request = place
        .elb
        .modify_target_group()
        .target_group_arn(group.arn())
        .health_check_protocol(check.protocol())
        .health_check_port(check.port())
        .health_check_path(&wanted.path)
        .health_check_interval_seconds(check.interval)
        .health_check_timeout_seconds(check.timeout)
        .healthy_threshold_count(check.rise)
        .unhealthy_threshold_count(check.fall);
    place
        .call("elasticloadbalancing:ModifyTargetGroup", Freely, || {
            request.clone().send()
        })
        .await
        .map(drop)
}

async fn create(
    place: &Place,
    want: &Resource,
    wanted: &Wanted,
    target: &Target,
    vpc: &str,
) -> Result<String, ProviderError> {
    let check = wanted.check.on(target);
    let (protocol, version) = match target.protocol.as_str() {
        "https" => (elb::ProtocolEnum::Https, "HTTP1"),
        "http2" => (elb::ProtocolEnum::Http, "HTTP2"),
        _ => (elb::ProtocolEnum::Http, "HTTP1"),
    };
    let mut tags = tags::identity(&place.workspace, &want.id);
    tags.insert(PART.to_owned(), "targets".to_owned());
    let request = place
        .elb
        .create_target_group()
        .name(shape::group_name(&place.workspace, &want.id, target))
        .protocol(protocol)
        .protocol_version(version)
        .port(target.port)
        .vpc_id(vpc)
        .target_type(elb::TargetTypeEnum::Instance)
        .health_check_enabled(true)
        .health_check_protocol(check.protocol())
        .health_check_port(check.port())
        .health_check_path(&wanted.path)
        .health_check_interval_seconds(check.interval)
        .health_check_timeout_seconds(check.timeout)
        .healthy_threshold_count(check.rise)
        .unhealthy_threshold_count(check.fall)
        .set_tags(Some(tags::for_elb(&tags)));
    let action = "elasticloadbalancing:CreateTargetGroup";
    let made = place.settled(action, WhenRefused, || request.clone().send()).await?;
    let made = made.target_groups.unwrap_or_default().into_iter().next();
    id_of(made.and_then(|it| it.target_group_arn), action, place)
}

/// Waits for whatever still leads to it.
pub(super) async fn delete(place: &Place, arn: &str) -> Result<(), Fault> {
    let request = place.elb.delete_target_group().target_group_arn(arn);
    let outcome = place
        .freed("elasticloadbalancing:DeleteTargetGroup", || request.clone().send())
        .await;
    gone_already(outcome)
}
