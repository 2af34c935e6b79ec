//! What others own in the same account, and what they do to what is ours. None of it goes through the plugin.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ha_cloud::contract::Others;
use ha_core::resource::{Kind, ResourceId};

use super::{
    Proxy,
    moto::{Account, Answer},
    world::LOCATION,
};

pub(crate) struct Neighbours {
    proxy: Arc<Proxy>,
    planted: Mutex<Vec<Planted>>,
}

/// Something of somebody else.
struct Planted {
    what: &'static str,
    id: String,
    service: &'static str,
    /// The action that lists all of its kind, and the element that holds the id.
    list: (&'static str, &'static str),
    /// The action that ends it, and the field that takes the id.
    end: (&'static str, &'static str),
}

pub(crate) fn ask(account: &Account, service: &str, fields: &[(&str, &str)]) -> Answer {
    let answer = account.ask(service, LOCATION, fields);
    assert_eq!(answer.status, 200, "{fields:?}: {}", answer.body);
    answer
}

/// Whatever in the account carries this workspace's label and is not on its way out.
pub(crate) fn leftovers(account: &Account) -> Vec<String> {
    // Kind by kind: `DescribeTags` of moto goes on telling the tags of what is gone.
    let kinds = [
        ("DescribeVpcs", "vpcId"),
        ("DescribeSubnets", "subnetId"),
        ("DescribeInternetGateways", "internetGatewayId"),
        ("DescribeRouteTables", "routeTableId"),
        ("DescribeSecurityGroups", "groupId"),
        ("DescribeVolumes", "volumeId"),
        ("DescribeKeyPairs", "keyPairId"),
        ("DescribeInstances", "instanceId"),
    ];
    let mut left = Vec::new();
    for (action, element) in kinds {
        let ours = [
            ("Action", action),
            ("Filter.1.Name", "tag:ha:ws"),
            ("Filter.1.Value.1", "shop"),
        ];
        // Instances are listed for another hour.
        let alive = [
            ("Filter.2.Name", "instance-state-name"),
            ("Filter.2.Value.1", "running"),
        ];
        let fields = if action == "DescribeInstances" {
            [&ours[..], &alive].concat()
        } else {
            ours.to_vec()
        };
        left.extend(ask(account, "ec2", &fields).all(element));
    }
    for (action, name) in [
        ("DescribeLoadBalancers", "LoadBalancerArn"),
        ("DescribeTargetGroups", "TargetGroupArn"),
    ] {
        let arns = ask(account, "elasticloadbalancing", &[("Action", action)]).all(name);
        left.extend(arns.into_iter().filter(|arn| {
            let fields = [("Action", "DescribeTags"), ("ResourceArns.member.1", arn.as_str())];
            let tags = ask(account, "elasticloadbalancing", &fields);
            tags.all("Value").contains(&"shop".to_owned())
        }));
    }
    left.extend(ask(account, "rds", &[("Action", "DescribeDBInstances")]).all("DBInstanceIdentifier"));
    left
}

impl Neighbours {
    pub(crate) fn new(proxy: Arc<Proxy>) -> Self {
        Self {
            proxy,
            planted: Mutex::default(),
        }
    }

    fn account(&self) -> &Account {
        &self.proxy.account
    }

    fn planted(&self) -> MutexGuard<'_, Vec<Planted>> {
        self.planted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ec2(&self, fields: &[(&str, &str)]) -> Answer {
        ask(self.account(), "ec2", fields)
    }

    fn elb(&self, fields: &[(&str, &str)]) -> Answer {
        ask(self.account(), "elasticloadbalancing", fields)
    }

    /// The id of what of ours has this name.
    fn ours(&self, action: &str, element: &str, id: &ResourceId) -> String {
        let found = self.ec2(&[
            ("Action", action),
            ("Filter.1.Name", "tag:ha:name"),
            ("Filter.1.Value.1", &id.name),
            ("Filter.2.Name", "tag:ha:kind"),
            ("Filter.2.Value.1", id.kind.as_str()),
            ("Filter.3.Name", "tag:ha:ws"),
            ("Filter.3.Value.1", "shop"),
        ]);
        // Those of before are still listed.
        found.all(element).pop().expect("it is there")
    }

    fn plant(
        &self,
        what: &'static str,
        service: &'static str,
        make: &[(&str, &str)],
        element: &'static str,
        list: &'static str,
        end: (&'static str, &'static str),
    ) {
        let id = ask(self.account(), service, make).one(element);
        self.planted().push(Planted {
            what,
            id,
            service,
            list: (list, element),
            end,
        });
    }

    fn default_subnets(&self) -> Vec<String> {
        let fields = [
            ("Action", "DescribeSubnets"),
            ("Filter.1.Name", "default-for-az"),
            ("Filter.1.Value.1", "true"),
        ];
        self.ec2(&fields).all("subnetId")
    }

    fn plant_balancer(&self, what: &'static str, name: &str, tags: &[(&str, &str)]) {
        let subnets = self.default_subnets();
        let mut fields = vec![
            ("Action", "CreateLoadBalancer"),
            ("Name", name),
            ("Subnets.member.1", subnets[0].as_str()),
            ("Subnets.member.2", subnets[1].as_str()),
        ];
        fields.extend_from_slice(tags);
        let end = ("DeleteLoadBalancer", "LoadBalancerArn");
        self.plant(
            what,
            "elasticloadbalancing",
            &fields,
            "LoadBalancerArn",
            "DescribeLoadBalancers",
            end,
        );
    }
}

/// Tags of another workspace on what has one of our names.
const THEIRS: [(&str, &str); 5] = [
    ("ha:ws", "shop2"),
    ("ha:region", "asia-southeast"),
    ("ha:name", "asia-net"),
    ("ha:kind", "network"),
    ("Name", "asia-net"),
];

impl Others for Neighbours {
    fn plant_lookalikes(&self) -> bool {
        let tag = |fields: &mut Vec<(String, String)>, kind: &str, tags: &[(&str, &str)]| {
            fields.push(("TagSpecification.1.ResourceType".into(), kind.into()));
            for (at, (key, value)) in tags.iter().enumerate() {
                fields.push((format!("TagSpecification.1.Tag.{}.Key", at + 1), (*key).into()));
                fields.push((format!("TagSpecification.1.Tag.{}.Value", at + 1), (*value).into()));
            }
        };
        let plant = |what: &'static str,
                     fields: &[(&str, &str)],
                     kind: &str,
                     tags: &[(&str, &str)],
                     element: &'static str,
                     list: &'static str,
                     end: (&'static str, &'static str)| {
            let mut all: Vec<(String, String)> = fields.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
            tag(&mut all, kind, tags);
            let all: Vec<(&str, &str)> = all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            self.plant(what, "ec2", &all, element, list, end);
        };
        let vpc = [("Action", "CreateVpc"), ("CidrBlock", "10.2.0.0/16")];
        let end = ("DeleteVpc", "VpcId");
        plant(
            "another workspace's network",
            &vpc,
            "vpc",
            &THEIRS,
            "vpcId",
            "DescribeVpcs",
            end,
        );
        let name = [("Name", "asia-net")];
        plant(
            "a VPC of the same name",
            &vpc,
            "vpc",
            &name,
            "vpcId",
            "DescribeVpcs",
            end,
        );
        let near = [("ha:wsx", "shop"), ("Name", "asia-net")];
        plant(
            "a VPC with a label that begins the same",
            &vpc,
            "vpc",
            &near,
            "vpcId",
            "DescribeVpcs",
            end,
        );
        let group = [
            ("Action", "CreateSecurityGroup"),
            ("GroupName", "asia-access"),
            ("GroupDescription", "theirs"),
        ];
        let old = [
            ("ha:ws", "shop-old"),
            ("ha:region", "asia-southeast"),
            ("ha:name", "asia-access"),
            ("ha:kind", "firewall"),
        ];
        let end = ("DeleteSecurityGroup", "GroupId");
        plant(
            "a firewall of another workspace",
            &group,
            "security-group",
            &old,
            "groupId",
            "DescribeSecurityGroups",
            end,
        );
        let volume = [
            ("Action", "CreateVolume"),
            ("Size", "1"),
            ("AvailabilityZone", "ap-southeast-1a"),
        ];
        let theirs = [
            ("ha:ws", "shop2"),
            ("ha:region", "asia-southeast"),
            ("ha:name", "asia-data"),
            ("ha:kind", "volume"),
        ];
        plant(
            "a volume of another workspace",
            &volume,
            "volume",
            &theirs,
            "volumeId",
            "DescribeVolumes",
            ("DeleteVolume", "VolumeId"),
        );
        let tags = [
            ("Tags.member.1.Key", "ha:ws"),
            ("Tags.member.1.Value", "shop2"),
            ("Tags.member.2.Key", "ha:name"),
            ("Tags.member.2.Value", "asia-lb"),
        ];
        self.plant_balancer("a balancer of another workspace", "asia-lb-2", &tags);
        true
    }

    fn plant_namesake(&self, id: &ResourceId) -> bool {
        match id.kind {
            Kind::LoadBalancer => self.plant_balancer("a balancer of that name", &id.name, &[]),
            Kind::Firewall => {
                let network = ResourceId::new(&id.region, Kind::Network, "asia-net");
                let vpc = self.ours("DescribeVpcs", "vpcId", &network);
                let fields = [
                    ("Action", "CreateSecurityGroup"),
                    ("GroupName", id.name.as_str()),
                    ("GroupDescription", "theirs"),
                    ("VpcId", vpc.as_str()),
                ];
                let end = ("DeleteSecurityGroup", "GroupId");
                self.plant(
                    "a group of that name",
                    "ec2",
                    &fields,
                    "groupId",
                    "DescribeSecurityGroups",
                    end,
                );
            }
            // Anybody may call a VPC, an instance or a volume the same.
            _ => return false,
        }
        true
    }

    fn uproot(&self) {
        for it in self.planted().drain(..) {
            ask(self.account(), it.service, &[("Action", it.end.0), (it.end.1, &it.id)]);
        }
    }

    fn touched(&self) -> Vec<String> {
        let gone = |it: &&Planted| {
            !ask(self.account(), it.service, &[("Action", it.list.0)])
                .all(it.list.1)
                .contains(&it.id)
        };
        self.planted()
            .iter()
            .filter(gone)
            .map(|it| format!("{} ({})", it.what, it.id))
            .collect()
    }

    fn leftovers(&self) -> Vec<String> {
        leftovers(self.account())
    }

    fn tamper(&self, id: &ResourceId) -> bool {
        match id.kind {
            Kind::Server => {
                let instance = self.ours("DescribeInstances", "instanceId", id);
                self.ec2(&[("Action", "StopInstances"), ("InstanceId.1", &instance)]);
                let size = ("InstanceType.Value", "t3.small");
                self.ec2(&[("Action", "ModifyInstanceAttribute"), ("InstanceId", &instance), size]);
                self.ec2(&[("Action", "StartInstances"), ("InstanceId.1", &instance)]);
            }
            Kind::Firewall => {
                let group = self.ours("DescribeSecurityGroups", "groupId", id);
                self.ec2(&[
                    ("Action", "AuthorizeSecurityGroupIngress"),
                    ("GroupId", &group),
                    ("IpPermissions.1.IpProtocol", "tcp"),
                    ("IpPermissions.1.FromPort", "3306"),
                    ("IpPermissions.1.ToPort", "3306"),
                    ("IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"),
                ]);
            }
            Kind::Volume => {
                let volume = self.ours("DescribeVolumes", "volumeId", id);
                let held = [("Action", "DescribeVolumes"), ("VolumeId.1", volume.as_str())];
                let holder = self.ec2(&held).one("instanceId");
                self.ec2(&[
                    ("Action", "DetachVolume"),
                    ("VolumeId", &volume),
                    ("InstanceId", &holder),
                ]);
            }
            Kind::LoadBalancer => {
                let groups = self.elb(&[("Action", "DescribeTargetGroups")]).all("TargetGroupArn");
                let group = groups.first().expect("it has one");
                self.elb(&[
                    ("Action", "ModifyTargetGroup"),
                    ("TargetGroupArn", group),
                    ("HealthCheckPath", "/up"),
                ]);
            }
            // The range of a VPC cannot be changed, and of what runs on a server nobody tells a spec.
            Kind::Network | Kind::Store | Kind::Database => return false,
        }
        true
    }

    fn throttle(&self) -> bool {
        self.proxy.state().throttle = Some(("DescribeRouteTables", 5));
        true
    }

    fn linger(&self, id: &ResourceId) -> bool {
        let refusals: &[(&str, &str)] = match id.kind {
            Kind::Network => &[
                ("DeleteSubnet", "DependencyViolation"),
                ("DetachInternetGateway", "DependencyViolation"),
                ("DeleteVpc", "DependencyViolation"),
            ],
            Kind::Firewall => &[("DeleteSecurityGroup", "DependencyViolation")],
            Kind::LoadBalancer => &[
                ("DeleteTargetGroup", "ResourceInUse"),
                ("DeleteSecurityGroup", "DependencyViolation"),
            ],
            Kind::Volume => &[("DeleteVolume", "VolumeInUse")],
            Kind::Server | Kind::Store | Kind::Database => return false,
        };
        let mut state = self.proxy.state();
        state
            .refuse
            .extend(refusals.iter().map(|(action, code)| (*action, (*code, 400, 2))));
        true
    }

    fn lose_answer(&self, nth: u64) -> bool {
        self.proxy.state().lose = Some(nth);
        true
    }

    fn keep_answers(&self) -> bool {
        self.proxy.state().lose.take().is_some()
    }
}
