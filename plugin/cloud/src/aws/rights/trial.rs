//! The requests that tell whether a key may do something, and do nothing themselves.

use aws_sdk_ec2::{primitives::Blob, types as ec2};

use crate::aws::{call::Repeat::Freely, fault::Fault, place::Place};

macro_rules! ask {
    ($place:ident, $name:ident, $request:expr) => {{
        let request = $request;
        Some($place.call($name, Freely, || request.clone().send()).await.map(drop))
    }};
}

/// Asks for a little of a list. None of what is no list, or is one only of something that exists.
pub(super) async fn list(place: &Place, name: &'static str) -> Option<Result<(), Fault>> {
    let (ec2, elb, rds) = (&place.ec2, &place.elb, &place.rds);
    match name {
        "ec2:DescribeInstanceTypeOfferings" => {
            ask!(place, name, ec2.describe_instance_type_offerings().max_results(5))
        }
        "ec2:DescribeImages" => ask!(place, name, ec2.describe_images().owners("self").max_results(5)),
        "ec2:DescribeAvailabilityZones" => ask!(place, name, ec2.describe_availability_zones()),
        "ec2:DescribeVpcs" => ask!(place, name, ec2.describe_vpcs().max_results(5)),
        "ec2:DescribeSubnets" => ask!(place, name, ec2.describe_subnets().max_results(5)),
        "ec2:DescribeInternetGateways" => ask!(place, name, ec2.describe_internet_gateways().max_results(5)),
        "ec2:DescribeRouteTables" => ask!(place, name, ec2.describe_route_tables().max_results(5)),
        "ec2:DescribeSecurityGroups" => ask!(place, name, ec2.describe_security_groups().max_results(5)),
        "ec2:DescribeNetworkInterfaces" => ask!(place, name, ec2.describe_network_interfaces().max_results(5)),
        "ec2:DescribeInstances" => ask!(place, name, ec2.describe_instances().max_results(5)),
        "ec2:DescribeVolumes" => ask!(place, name, ec2.describe_volumes().max_results(5)),
        "ec2:DescribeAddresses" => ask!(place, name, ec2.describe_addresses()),
        "ec2:DescribeKeyPairs" => ask!(place, name, ec2.describe_key_pairs()),
        "elasticloadbalancing:DescribeLoadBalancers" => {
            ask!(place, name, elb.describe_load_balancers().page_size(1))
        }
        "elasticloadbalancing:DescribeTargetGroups" => ask!(place, name, elb.describe_target_groups().page_size(1)),
        "rds:DescribeDBInstances" => ask!(place, name, rds.describe_db_instances().max_records(20)),
        "rds:DescribeDBSubnetGroups" => ask!(place, name, rds.describe_db_subnet_groups().max_records(20)),
        "route53:ListHostedZones" => {
            ask!(place, name, place.route53.list_hosted_zones().max_items(1))
        }
        "route53:ListHealthChecks" => {
            ask!(place, name, place.route53.list_health_checks().max_items(1))
        }
        _ => None,
    }
}

// Ids of the right form that nothing has.
const VPC: &str = "vpc-00000000000000000";
const SUBNET: &str = "subnet-00000000000000000";
const GATEWAY: &str = "igw-00000000000000000";
const TABLE: &str = "rtb-00000000000000000";
const GROUP: &str = "sg-00000000000000000";
const INSTANCE: &str = "i-00000000000000000";
const INTERFACE: &str = "eni-00000000000000000";
const VOLUME: &str = "vol-00000000000000000";
const KEY: &str = "key-00000000000000000";
const IMAGE: &str = "ami-00000000000000000";
/// No range of addresses is that large.
const NO_RANGE: &str = "0.0.0.0/0";

/// A dry run. None of what has none.
pub(super) async fn trial(place: &Place, name: &'static str) -> Option<Result<(), Fault>> {
    let ec2 = &place.ec2;
    let tag = || ec2::Tag::builder().key("ha:rights").value("none").build();
    match name {
        "ec2:CreateVpc" => ask!(place, name, ec2.create_vpc().cidr_block(NO_RANGE).dry_run(true)),
        "ec2:CreateSubnet" => {
            ask!(
                place,
                name,
                ec2.create_subnet().vpc_id(VPC).cidr_block(NO_RANGE).dry_run(true)
            )
        }
        "ec2:CreateInternetGateway" => ask!(place, name, ec2.create_internet_gateway().dry_run(true)),
        "ec2:AttachInternetGateway" => {
            let request = ec2.attach_internet_gateway().vpc_id(VPC).internet_gateway_id(GATEWAY);
            ask!(place, name, request.dry_run(true))
        }
        "ec2:DetachInternetGateway" => {
            let request = ec2.detach_internet_gateway().vpc_id(VPC).internet_gateway_id(GATEWAY);
            ask!(place, name, request.dry_run(true))
        }
        "ec2:DeleteInternetGateway" => {
            ask!(
                place,
                name,
                ec2.delete_internet_gateway().internet_gateway_id(GATEWAY).dry_run(true)
            )
        }
        "ec2:CreateRouteTable" => ask!(place, name, ec2.create_route_table().vpc_id(VPC).dry_run(true)),
        "ec2:DeleteRouteTable" => {
            ask!(
                place,
                name,
                ec2.delete_route_table().route_table_id(TABLE).dry_run(true)
            )
        }
        "ec2:CreateRoute" => {
            let request = ec2
                .create_route()
                .route_table_id(TABLE)
                .destination_cidr_block(NO_RANGE);
            ask!(place, name, request.gateway_id(GATEWAY).dry_run(true))
        }
        "ec2:ReplaceRoute" => {
            let request = ec2
                .replace_route()
                .route_table_id(TABLE)
                .destination_cidr_block(NO_RANGE);
            ask!(place, name, request.gateway_id(GATEWAY).dry_run(true))
        }
        "ec2:AssociateRouteTable" => {
            let request = ec2.associate_route_table().route_table_id(TABLE).subnet_id(SUBNET);
            ask!(place, name, request.dry_run(true))
        }
        "ec2:DisassociateRouteTable" => {
            let request = ec2
                .disassociate_route_table()
                .association_id("rtbassoc-00000000000000000");
            ask!(place, name, request.dry_run(true))
        }
        "ec2:DeleteSubnet" => ask!(place, name, ec2.delete_subnet().subnet_id(SUBNET).dry_run(true)),
        "ec2:DeleteVpc" => ask!(place, name, ec2.delete_vpc().vpc_id(VPC).dry_run(true)),
        "ec2:CreateSecurityGroup" => {
            let request = ec2.create_security_group().vpc_id(VPC).group_name("ha-rights");
            ask!(place, name, request.description("nothing").dry_run(true))
        }
        "ec2:AuthorizeSecurityGroupIngress" => {
            let request = ec2.authorize_security_group_ingress().group_id(GROUP);
            ask!(place, name, request.ip_permissions(nothing_let_in()).dry_run(true))
        }
        "ec2:RevokeSecurityGroupIngress" => {
            let request = ec2.revoke_security_group_ingress().group_id(GROUP);
            ask!(place, name, request.ip_permissions(nothing_let_in()).dry_run(true))
        }
        "ec2:DeleteSecurityGroup" => ask!(place, name, ec2.delete_security_group().group_id(GROUP).dry_run(true)),
        "ec2:CreateTags" => ask!(place, name, ec2.create_tags().resources(VPC).tags(tag()).dry_run(true)),
        "ec2:DeleteTags" => ask!(place, name, ec2.delete_tags().resources(VPC).tags(tag()).dry_run(true)),
        "ec2:ImportKeyPair" => {
            let request = ec2.import_key_pair().key_name("ha-rights");
            ask!(
                place,
                name,
                request.public_key_material(Blob::new("none")).dry_run(true)
            )
        }
        "ec2:DeleteKeyPair" => ask!(place, name, ec2.delete_key_pair().key_pair_id(KEY).dry_run(true)),
        "ec2:RunInstances" => {
            let request = ec2.run_instances().image_id(IMAGE).min_count(1).max_count(1);
            ask!(
                place,
                name,
                request.instance_type(ec2::InstanceType::T3Micro).dry_run(true)
            )
        }
        "ec2:StartInstances" => ask!(place, name, ec2.start_instances().instance_ids(INSTANCE).dry_run(true)),
        "ec2:StopInstances" => ask!(place, name, ec2.stop_instances().instance_ids(INSTANCE).dry_run(true)),
        "ec2:TerminateInstances" => {
            ask!(
                place,
                name,
                ec2.terminate_instances().instance_ids(INSTANCE).dry_run(true)
            )
        }
        "ec2:ModifyInstanceAttribute" => {
            let same = ec2::AttributeValue::builder().value("t3.micro").build();
            let request = ec2
                .modify_instance_attribute()
                .instance_id(INSTANCE)
                .instance_type(same);
            ask!(place, name, request.dry_run(true))
        }
        "ec2:ModifyNetworkInterfaceAttribute" => {
            let request = ec2.modify_network_interface_attribute().network_interface_id(INTERFACE);
            ask!(place, name, request.groups(GROUP).dry_run(true))
        }
        "ec2:CreateVolume" => {
            let zone = format!("{}a", place.location);
            ask!(
                place,
                name,
                ec2.create_volume().availability_zone(zone).size(1).dry_run(true)
            )
        }
        "ec2:AttachVolume" => {
            let request = ec2.attach_volume().volume_id(VOLUME).instance_id(INSTANCE);
            ask!(place, name, request.device("/dev/sdf").dry_run(true))
        }
        "ec2:DetachVolume" => ask!(place, name, ec2.detach_volume().volume_id(VOLUME).dry_run(true)),
        "ec2:ModifyVolume" => ask!(place, name, ec2.modify_volume().volume_id(VOLUME).size(1).dry_run(true)),
        "ec2:DeleteVolume" => ask!(place, name, ec2.delete_volume().volume_id(VOLUME).dry_run(true)),
        _ => None,
    }
}

/// RFC 5737: an address that nobody has.
fn nothing_let_in() -> ec2::IpPermission {
    let nobody = ec2::IpRange::builder().cidr_ip("192.0.2.1/32").build();
    let all = ec2::IpPermission::builder().ip_protocol("tcp").from_port(1).to_port(1);
    all.ip_ranges(nobody).build()
}
