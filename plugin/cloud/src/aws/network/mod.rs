//! A network: a VPC with two subnets in two zones, a way to the internet, and the group its servers are in.
//!
//! AWS makes each piece by a request of its own and none of them knows a client token. All carry the network's tags
//! from birth, so whatever an interrupted run left is found and used by the next.

pub(super) mod foreign;
pub(super) mod parts;
mod range;
mod remove;

use std::time::Duration;

use aws_sdk_ec2::types::{self as ec2, ResourceType};
use futures::future::join_all;
use ha_core::resource::{Live, Resource, ResourceId, Status};

use self::parts::{EVERYWHERE, GATEWAY, MEMBERS, Parts, ROUTES, SUBNETS, VPC};
pub(super) use self::remove::{delete_group, remove};
use super::{
    call::Repeat::{Freely, WhenRefused},
    fault::{Class, Fault},
    fields, lists,
    place::Place,
    spec,
    tags::{self, PART, Tags},
};
use crate::ProviderError;

/// What was made shows in the lists within seconds; later it is not a delay any more.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// Every piece with these filters, of one network or of all.
pub(super) async fn look(place: &Place, filters: &[ec2::Filter]) -> Result<Parts, Fault> {
    let (vpcs, subnets, gateways, tables, groups) = tokio::join!(
        lists::vpcs(place, filters),
        lists::subnets(place, filters),
        lists::gateways(place, filters),
        lists::tables(place, filters),
        lists::groups(place, filters),
    );
    Ok(Parts {
        vpcs: vpcs?,
        subnets: subnets?,
        gateways: gateways?,
        tables: tables?,
        groups: groups?,
    })
}

/// What a server or a balancer needs to know of its network; none when there is no VPC.
pub(super) async fn ground(place: &Place, id: &ResourceId) -> Result<Option<Parts>, Fault> {
    let filters = tags::only(&place.workspace, id);
    let (vpcs, subnets, groups) = tokio::join!(
        lists::vpcs(place, &filters),
        lists::subnets(place, &filters),
        lists::groups(place, &filters),
    );
    let parts = Parts {
        vpcs: vpcs?,
        subnets: subnets?,
        groups: groups?,
        ..Parts::default()
    };
    Ok(parts.vpc().is_some().then_some(parts))
}

pub(super) async fn ensure(place: &Place, want: &Resource, open: &[u16]) -> Result<Live, ProviderError> {
    let range = spec::text(want, "ip_range")?;
    let ranges = range::subnets(range).map_err(|why| ProviderError::Refused {
        what: format!("{}: {why}", want.id),
        help: format!("change ip_range at {} in workspace.ncl", want.path),
    })?;
    let filters = tags::only(&place.workspace, &want.id);
    let found = look(place, &filters).await?;
    let making = Making {
        place,
        want,
        found: &found,
    };
    if let Some(vpc) = found.vpc()
        && vpc.cidr_block() != Some(range)
    {
        return Err(spec::cannot_change(
            want,
            "ip_range",
            vpc.cidr_block().unwrap_or("none"),
            range,
        ));
    }
    let spare = found.spare();
    if !spare.is_empty() {
        remove::clear(place, &spare).await?;
    }
    let vpc = making.vpc(range).await?;
    if !found.lacking(open).is_empty() {
        let zones = making.zones().await?;
        let [first, second] = [0, 1].map(|at| making.subnet(&vpc, at, &ranges[at], &zones[at]));
        let (first, second, gateway, members) =
            tokio::join!(first, second, making.gateway(&vpc), making.members(&vpc, range, open));
        members?;
        making.routes(&vpc, &gateway?, &[first?, second?]).await?;
    }
    place
        .until(
            SEEN_WITHIN.min(place.deadline),
            || async {
                let found = look(place, &filters).await?;
                let live = found.live(&place.workspace, &want.id, &place.location, open);
                Ok(match live.status {
                    Status::Running => Ok(live),
                    _ => Err(live.detail.unwrap_or_else(|| "AWS is still making it".to_owned())),
                })
            },
            |detail| ProviderError::NotReady {
                id: want.id.clone(),
                detail,
            },
        )
        .await
}

/// One network on its way to being as wanted.
struct Making<'a> {
    place: &'a Place,
    want: &'a Resource,
    found: &'a Parts,
}

impl Making<'_> {
    fn tags(&self, part: &str) -> Tags {
        let mut tags = if part == VPC {
            tags::of(&self.place.workspace, self.want)
        } else {
            tags::identity(&self.place.workspace, &self.want.id)
        };
        if part == VPC {
            tags.extend(fields::label_tags(&self.want.spec));
        }
        tags.insert(PART.to_owned(), part.to_owned());
        tags
    }

    async fn vpc(&self, range: &str) -> Result<String, ProviderError> {
        let tags = self.tags(VPC);
        if let Some(found) = self.found.vpc() {
            let id = found.vpc_id().unwrap_or_default().to_owned();
            let has = tags::from_ec2(found.tags());
            write_tags(self.place, &id, &tags::missing(&has, &tags)).await?;
            erase_tags(self.place, &id, &fields::obsolete(&has, &tags)).await?;
            return Ok(id);
        }
        let request = self
            .place
            .ec2
            .create_vpc()
            .cidr_block(range)
            .tag_specifications(tags::at_birth(ResourceType::Vpc, &tags));
        let made = self
            .place
            .call("ec2:CreateVpc", WhenRefused, || request.clone().send())
            .await?;
        id_of(made.vpc.and_then(|it| it.vpc_id), "ec2:CreateVpc", self.place)
    }

    /// Two zones, by name: everybody chooses the same.
    async fn zones(&self) -> Result<[String; 2], ProviderError> {
        let request = self.place.ec2.describe_availability_zones();
        let answer = self
            .place
            .call("ec2:DescribeAvailabilityZones", Freely, || request.clone().send())
            .await?;
        let mut zones: Vec<String> = answer
            .availability_zones()
            .iter()
            .filter(|it| it.state() == Some(&ec2::AvailabilityZoneState::Available))
            // Local zones and wavelength zones are listed as well where the account has enabled them.
            .filter(|it| it.zone_type().is_none_or(|kind| kind == "availability-zone"))
            .filter_map(|it| it.zone_name().map(str::to_owned))
            .collect();
        zones.sort();
        match zones.as_slice() {
            [first, second, ..] => Ok([first.clone(), second.clone()]),
            few => Err(ProviderError::NoCapacity {
                what: format!("two zones in {}: {} can be used", self.place.location, few.len()),
            }),
        }
    }

    async fn subnet(&self, vpc: &str, at: usize, range: &str, zone: &str) -> Result<String, ProviderError> {
        if let Some(id) = self.found.subnet(at).and_then(ec2::Subnet::subnet_id) {
            return Ok(id.to_owned());
        }
        // The one that is there keeps its zone, whichever is first by name today.
        let taken = self.found.subnet(1 - at).and_then(ec2::Subnet::availability_zone);
        let request = self
            .place
            .ec2
            .create_subnet()
            .vpc_id(vpc)
            .cidr_block(range)
            .set_availability_zone((taken != Some(zone)).then(|| zone.to_owned()))
            .tag_specifications(tags::at_birth(ResourceType::Subnet, &self.tags(SUBNETS[at])));
        match self
            .place
            .settled("ec2:CreateSubnet", WhenRefused, || request.clone().send())
            .await
        {
            Ok(made) => id_of(made.subnet.and_then(|it| it.subnet_id), "ec2:CreateSubnet", self.place),
            Err(fault) if fault.is(Class::Exists) => {
                self.appears(range, |all| Some(all.subnet(at)?.subnet_id()?.to_owned()))
                    .await
            }
            Err(fault) => Err(fault.into()),
        }
    }

    async fn gateway(&self, vpc: &str) -> Result<String, ProviderError> {
        let id = match self.found.gateway().and_then(ec2::InternetGateway::internet_gateway_id) {
            Some(id) => id.to_owned(),
            None => {
                let request = self
                    .place
                    .ec2
                    .create_internet_gateway()
                    .tag_specifications(tags::at_birth(ResourceType::InternetGateway, &self.tags(GATEWAY)));
                let action = "ec2:CreateInternetGateway";
                let made = self.place.call(action, WhenRefused, || request.clone().send()).await?;
                let id = made.internet_gateway.and_then(|it| it.internet_gateway_id);
                id_of(id, action, self.place)?
            }
        };
        if !self.found.is_attached() {
            let request = self
                .place
                .ec2
                .attach_internet_gateway()
                .vpc_id(vpc)
                .internet_gateway_id(&id);
            let outcome = self
                .place
                .settled("ec2:AttachInternetGateway", Freely, || request.clone().send())
                .await;
            // Asked a second time after a lost answer, AWS says `Resource.AlreadyAssociated`.
            done_already(outcome)?;
        }
        Ok(id)
    }

    async fn members(&self, vpc: &str, range: &str, open: &[u16]) -> Result<(), ProviderError> {
        let (id, rules) = match self.found.members() {
            Some(group) => (
                group.group_id().unwrap_or_default().to_owned(),
                self.found.missing_rules(open),
            ),
            None => {
                let request = self
                    .place
                    .ec2
                    .create_security_group()
                    .vpc_id(vpc)
                    .group_name(format!("{}-members", self.want.id.name))
                    .description(format!("servers of {}", self.want.id.name))
                    .tag_specifications(tags::at_birth(ResourceType::SecurityGroup, &self.tags(MEMBERS)));
                let action = "ec2:CreateSecurityGroup";
                let id = match self.place.settled(action, WhenRefused, || request.clone().send()).await {
                    Ok(made) => id_of(made.group_id, action, self.place)?,
                    Err(fault) if fault.is(Class::Exists) => {
                        let name = format!("security group {}-members", self.want.id.name);
                        self.appears(&name, |all| Some(all.members()?.group_id()?.to_owned()))
                            .await?
                    }
                    Err(fault) => return Err(fault.into()),
                };
                (id, all_rules(range, open))
            }
        };
        authorize(self.place, &id, rules).await.map_err(ProviderError::from)
    }

    async fn routes(&self, vpc: &str, gateway: &str, subnets: &[String]) -> Result<(), ProviderError> {
        let table = match self.found.table().and_then(ec2::RouteTable::route_table_id) {
            Some(id) => id.to_owned(),
            None => {
                let request = self
                    .place
                    .ec2
                    .create_route_table()
                    .vpc_id(vpc)
                    .tag_specifications(tags::at_birth(ResourceType::RouteTable, &self.tags(ROUTES)));
                let action = "ec2:CreateRouteTable";
                let made = self
                    .place
                    .settled(action, WhenRefused, || request.clone().send())
                    .await?;
                id_of(made.route_table.and_then(|it| it.route_table_id), action, self.place)?
            }
        };
        let table = table.as_str();
        let route = async {
            if self.found.has_route() {
                return Ok(());
            }
            let request = self
                .place
                .ec2
                .create_route()
                .route_table_id(table)
                .destination_cidr_block(EVERYWHERE)
                .gateway_id(gateway);
            match self
                .place
                .settled("ec2:CreateRoute", Freely, || request.clone().send())
                .await
            {
                // To a gateway that is gone, or put there by hand.
                Err(fault) if fault.is(Class::Exists) => {
                    let request = self
                        .place
                        .ec2
                        .replace_route()
                        .route_table_id(table)
                        .destination_cidr_block(EVERYWHERE)
                        .gateway_id(gateway);
                    let outcome = self
                        .place
                        .call("ec2:ReplaceRoute", Freely, || request.clone().send())
                        .await;
                    outcome.map(drop)
                }
                outcome => outcome.map(drop),
            }
        };
        let links = join_all(
            subnets
                .iter()
                .filter(|it| !self.found.is_associated(it))
                .map(|subnet| async move {
                    let request = self
                        .place
                        .ec2
                        .associate_route_table()
                        .route_table_id(table)
                        .subnet_id(subnet);
                    let outcome = self
                        .place
                        .settled("ec2:AssociateRouteTable", Freely, || request.clone().send())
                        .await;
                    done_already(outcome)
                }),
        );
        let (route, links) = tokio::join!(route, links);
        route?;
        links
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(ProviderError::from)
    }

    /// What AWS says is there already: made by a request whose answer was lost, and not in the lists yet; or somebody
    /// else's. A second look tells.
    async fn appears(
        &self,
        what: &str,
        pick: impl Fn(&Parts) -> Option<String> + Sync,
    ) -> Result<String, ProviderError> {
        let filters = tags::only(&self.place.workspace, &self.want.id);
        self.place
            .until(
                SEEN_WITHIN.min(self.place.deadline),
                || async { Ok(pick(&look(self.place, &filters).await?).ok_or_else(String::new)) },
                |_| ProviderError::Taken {
                    what: format!("{what} in {}", self.want.id.name),
                    by: "something in that VPC without this workspace's tags".into(),
                },
            )
            .await
    }
}

fn all_rules(range: &str, open: &[u16]) -> Vec<ec2::IpPermission> {
    let mut rules = vec![parts::rule("-1", None, range)];
    rules.extend(open.iter().map(|port| {
        let port = i32::from(*port);
        parts::rule("tcp", Some((port, port)), EVERYWHERE)
    }));
    rules
}

/// Lets in what `rules` say, one by one: a rule that is there already would refuse all of them.
pub(super) async fn authorize(place: &Place, group: &str, rules: Vec<ec2::IpPermission>) -> Result<(), Fault> {
    let outcomes = join_all(rules.into_iter().map(|rule| async move {
        let request = place
            .ec2
            .authorize_security_group_ingress()
            .group_id(group)
            .ip_permissions(rule);
        let outcome = place
            .settled("ec2:AuthorizeSecurityGroupIngress", Freely, || request.clone().send())
            .await;
        done_already(outcome)
    }))
    .await;
    outcomes.into_iter().collect()
}

/// Writes tags on anything that EC2 keeps.
pub(super) async fn write_tags(place: &Place, id: &str, tags: &Tags) -> Result<(), Fault> {
    if tags.is_empty() {
        return Ok(());
    }
    let request = place
        .ec2
        .create_tags()
        .resources(id)
        .set_tags(Some(tags::for_ec2(tags)));
    place
        .settled("ec2:CreateTags", Freely, || request.clone().send())
        .await?;
    Ok(())
}

/// Takes tags off anything that EC2 keeps.
pub(super) async fn erase_tags(place: &Place, id: &str, keys: &[&str]) -> Result<(), Fault> {
    if keys.is_empty() {
        return Ok(());
    }
    // Without a value: whatever it is.
    let tags = keys.iter().map(|key| ec2::Tag::builder().key(*key).build()).collect();
    let request = place.ec2.delete_tags().resources(id).set_tags(Some(tags));
    gone_already(place.call("ec2:DeleteTags", Freely, || request.clone().send()).await)
}

/// All at once; the first failure, after all of them have ended.
pub(super) async fn each<T, F: Future<Output = Result<(), Fault>>>(
    items: impl Iterator<Item = T>,
    act: impl Fn(T) -> F,
) -> Result<(), Fault> {
    join_all(items.map(&act)).await.into_iter().collect()
}

/// Deleting what is not there has succeeded.
pub(super) fn gone_already<T>(outcome: Result<T, Fault>) -> Result<(), Fault> {
    match outcome {
        Err(fault) if !fault.is(Class::NotFound) => Err(fault),
        _ => Ok(()),
    }
}

/// Setting what is set has succeeded.
pub(super) fn done_already<T>(outcome: Result<T, Fault>) -> Result<(), Fault> {
    match outcome {
        Err(fault) if !fault.is(Class::Exists) => Err(fault),
        _ => Ok(()),
    }
}

/// The id in the answer to a create. AWS always gives one; without it nobody knows what was made.
pub(super) fn id_of(id: Option<String>, action: &str, place: &Place) -> Result<String, ProviderError> {
    id.ok_or_else(|| ProviderError::OutcomeUnknown {
        what: format!("{action} in {}: no id in the answer", place.location),
        after: Duration::ZERO,
    })
}
