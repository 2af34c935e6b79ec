//! What pieces add up to, whichever are there.

use ha_core::names::RegionName;

use super::*;

const OPEN: [u16; 1] = [22];

fn ws() -> WorkspaceName {
    WorkspaceName::new("shop")
}

fn id() -> ResourceId {
    ResourceId::new(&RegionName::new("asia-southeast"), Kind::Network, "asia-net")
}

fn tags(part: &str) -> Option<Vec<ec2::Tag>> {
    let mut tags = tags::identity(&ws(), &id());
    tags.insert(PART.to_owned(), part.to_owned());
    Some(tags::for_ec2(&tags))
}

/// All pieces of one network in this VPC.
fn whole(vpc: &str) -> Parts {
    let subnet = |part: &str| {
        ec2::Subnet::builder()
            .vpc_id(vpc)
            .subnet_id(format!("{vpc}-{part}"))
            .set_tags(tags(part))
            .build()
    };
    let subnets: Vec<ec2::Subnet> = SUBNETS.iter().map(|it| subnet(it)).collect();
    let attachment = ec2::InternetGatewayAttachment::builder().vpc_id(vpc).build();
    let link = |subnet: &ec2::Subnet| {
        ec2::RouteTableAssociation::builder()
            .set_subnet_id(subnet.subnet_id.clone())
            .build()
    };
    let route = ec2::Route::builder()
        .destination_cidr_block(EVERYWHERE)
        .gateway_id(format!("{vpc}-igw"))
        .build();
    Parts {
        vpcs: vec![
            ec2::Vpc::builder()
                .vpc_id(vpc)
                .cidr_block("10.2.0.0/16")
                .state(ec2::VpcState::Available)
                .set_tags(tags(VPC))
                .build(),
        ],
        gateways: vec![
            ec2::InternetGateway::builder()
                .internet_gateway_id(format!("{vpc}-igw"))
                .attachments(attachment)
                .set_tags(tags(GATEWAY))
                .build(),
        ],
        tables: vec![
            ec2::RouteTable::builder()
                .vpc_id(vpc)
                .routes(route)
                .set_associations(Some(subnets.iter().map(link).collect()))
                .set_tags(tags(ROUTES))
                .build(),
        ],
        groups: vec![
            ec2::SecurityGroup::builder()
                .vpc_id(vpc)
                .ip_permissions(rule("-1", None, "10.2.0.0/16"))
                .ip_permissions(rule("tcp", Some((22, 22)), EVERYWHERE))
                .set_tags(tags(MEMBERS))
                .build(),
        ],
        subnets,
    }
}

fn live(parts: &Parts) -> Live {
    parts.live(&ws(), &id(), "ap-southeast-1", &OPEN)
}

#[test]
fn all_pieces_are_one_network_that_runs() {
    let live = live(&whole("vpc-1"));
    assert_eq!((live.status, live.detail), (Status::Running, None));
    assert_eq!(
        live.spec,
        json!({ "ip_range": "10.2.0.0/16", "location": "ap-southeast-1" })
    );
}

#[test]
fn whichever_piece_is_missing_it_is_pending_and_says_which() {
    type Break = (&'static str, fn(&mut Parts));
    let breaks: [Break; 8] = [
        ("its VPC", |it| it.vpcs.clear()),
        ("a subnet", |it| drop(it.subnets.pop())),
        ("its internet gateway", |it| it.gateways.clear()),
        ("its internet gateway", |it| it.gateways[0].attachments = None),
        ("a route", |it| it.tables[0].routes = None),
        ("a route", |it| drop(it.tables[0].associations.as_mut().map(Vec::pop))),
        ("a rule of its security group", |it| it.groups.clear()),
        ("a rule of its security group", |it| {
            drop(it.groups[0].ip_permissions.as_mut().map(Vec::pop))
        }),
    ];
    for (words, act) in breaks {
        let mut parts = whole("vpc-1");
        act(&mut parts);
        let live = live(&parts);
        assert_eq!(live.status, Status::Pending, "{words}");
        assert!(
            live.detail.as_deref().is_some_and(|it| it.contains(words)),
            "{words}: {:?}",
            live.detail
        );
        // It is not finished, and nobody changed it by hand.
        assert_eq!(spec_hash(&live.spec), live.labels.spec);
    }
}

#[test]
fn of_two_copies_the_fuller_one_counts_and_the_other_is_spare() {
    let mut parts = whole("vpc-2");
    let mut empty = whole("vpc-1");
    (empty.subnets, empty.groups, empty.tables, empty.gateways) = Default::default();
    parts.vpcs.extend(empty.vpcs);
    assert_eq!(parts.vpc().and_then(ec2::Vpc::vpc_id), Some("vpc-2"));
    let spare = parts.spare();
    assert_eq!(spare.vpcs.len(), 1);
    assert_eq!(spare.vpcs[0].vpc_id(), Some("vpc-1"));
    assert!(spare.subnets.is_empty() && spare.gateways.is_empty() && spare.groups.is_empty());
    assert_eq!(live(&parts).status, Status::Pending);
}

#[test]
fn a_gateway_that_was_made_and_not_attached_is_used_and_a_second_one_is_spare() {
    let mut parts = whole("vpc-1");
    parts.gateways[0].attachments = None;
    assert!(parts.spare().is_empty() && parts.gateway().is_some() && !parts.is_attached());
    let mut parts = whole("vpc-1");
    let mut second = parts.gateways[0].clone();
    (second.internet_gateway_id, second.attachments) = (Some("igw-second".into()), None);
    parts.gateways.insert(0, second);
    assert_eq!(parts.spare().gateways.len(), 1);
    assert_eq!(
        parts.gateway().and_then(ec2::InternetGateway::internet_gateway_id),
        Some("vpc-1-igw")
    );
}

#[test]
fn rules_that_people_added_are_no_reason_to_begin_again() {
    let mut parts = whole("vpc-1");
    let more = rule("tcp", Some((9100, 9100)), "192.0.2.0/24");
    parts.groups[0].ip_permissions.get_or_insert_default().push(more);
    assert_eq!(live(&parts).status, Status::Running);
}
