//! The places of a workspace as a whole, and labels for what has none.
//!
//! Whatever carries no labels of ours is read as if it did: each kind has one way of being read, and this is it.

use async_trait::async_trait;
use aws_sdk_ec2::types as ec2;
use aws_sdk_rds::types::DbInstance;
use futures::future::join_all;
use ha_core::{
    desired::LABELS,
    existing::{Found, FoundKind, Idle, Owner},
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use serde_json::{Map, Value, json};

use super::{
    AwsProvider, balancer,
    call::Repeat::Freely,
    database,
    fault::Fault,
    firewall, lists,
    network::{
        self,
        foreign::{parts_of, retag, write_pieces},
        write_tags,
    },
    place::Place,
    server::shape,
    tags::{self, PART, Tags},
    volume,
};
use crate::{
    ProviderError,
    survey::{Survey, as_it_is, carried_by_another, may_take, must_be_an_object},
};

/// Of the tags of what has none, where nobody reads them.
pub(super) const NOBODY: &str = "nobody";
/// Every network has a security group that is called so, and nobody can remove it.
const DEFAULT_GROUP: &str = "default";

#[async_trait]
impl Survey for AwsProvider {
    async fn everything(&self) -> Result<Vec<Found>, ProviderError> {
        let open = &self.options.open_ports;
        let all = join_all(self.places().into_iter().map(|place| everything(place, open))).await;
        let all: Result<Vec<Vec<Found>>, ProviderError> = all.into_iter().collect();
        Ok(all?.into_iter().flatten().collect())
    }

    async fn adopt(&self, found: &Found, want: &Resource) -> Result<Live, ProviderError> {
        must_be_an_object(want)?;
        let it = Adopting {
            place: self.place_of(want)?,
            want,
        };
        let number = found.number.as_str();
        match want.id.kind {
            Kind::Network => it.network(number, &self.options.open_ports).await,
            Kind::Server => it.server(number).await,
            Kind::Volume => it.volume(number).await,
            Kind::Firewall => it.firewall(number).await,
            Kind::Database => it.database(number).await,
            Kind::LoadBalancer => balancer::survey::adopt(&it, number).await,
            Kind::Store => Err(it.gone()),
        }
    }
}

impl AwsProvider {
    /// The AWS regions that the account can use, as its first place tells it.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html>: without `AllRegions` those that
    /// are enabled.
    pub async fn locations(&self) -> Result<Vec<String>, ProviderError> {
        let mut all = Vec::new();
        if let Some(place) = self.places().first() {
            let request = place.ec2.describe_regions();
            let answer = place
                .call("ec2:DescribeRegions", Freely, || request.clone().send())
                .await?;
            all.extend(
                answer
                    .regions()
                    .iter()
                    .filter_map(|it| it.region_name().map(str::to_owned)),
            );
        }
        all.sort();
        Ok(all)
    }
}

async fn everything(place: &Place, open: &[u16]) -> Result<Vec<Found>, ProviderError> {
    let (parts, instances, volumes, databases, addresses) = tokio::join!(
        network::look(place, &[]),
        lists::instances(place, &[]),
        lists::volumes(place, &[]),
        database::observe(place),
        addresses(place),
    );
    let (parts, instances, volumes) = (parts?, instances?, volumes?);
    let hosts: Vec<ec2::Instance> = instances.iter().map(|it| instance_as_if_ours(place, it)).collect();
    let balancers = balancer::survey::everything(place, &hosts).await?;
    let databases = databases?;
    let mut all = Vec::new();
    for vpc in &parts.vpcs {
        let holds = |id: Option<&str>| id.is_some() && id == vpc.vpc_id();
        let used = instances.iter().any(|it| holds(it.vpc_id()))
            || balancers.iter().any(|it| holds(it.vpc.as_deref()))
            || databases
                .iter()
                .any(|it| holds(it.db_subnet_group().and_then(|group| group.vpc_id())));
        let has = tags::from_ec2(vpc.tags());
        let number = vpc.vpc_id().unwrap_or_default();
        let name = called(&has, number);
        let id = ResourceId::new(&RegionName::new(NOBODY), Kind::Network, &name);
        let mut pieces = parts_of(&parts, number, &name);
        retag(&mut pieces, &pretended(place, Kind::Network, &name, &has));
        let mut live = pieces.live(&place.workspace, &id, &place.location, open);
        if owner(&has).is_none() {
            // That it is not as we would make it is nothing wrong with it.
            (live.status, live.detail) = (Status::Running, None);
        }
        let mut found = found(live, &name, number, &has);
        found.of_the_account = vpc.is_default() == Some(true) && !used && found.owner.is_none();
        all.push(found);
    }
    for (it, now) in instances.iter().zip(&hosts) {
        let has = tags::from_ec2(it.tags());
        let number = it.instance_id().unwrap_or_default();
        let live = shape::lives(&place.workspace, now, &place.location, None).pop();
        all.extend(live.map(|live| found(live, &called(&has, number), number, &has)));
    }
    for it in volumes.iter().filter(|it| !goes_with_its_server(it, &instances)) {
        let has = tags::from_ec2(it.tags());
        let number = it.volume_id().unwrap_or_default();
        let name = called(&has, number);
        let mut tags = pretended(place, Kind::Volume, &name, &has);
        let host = it.attachments().first().and_then(|it| it.instance_id());
        let host = hosts.iter().find(|it| host.is_some() && it.instance_id() == host);
        if let Some(host) = host.map(|it| tags::from_ec2(it.tags())) {
            // As if it were of the same region, and meant for the server that it is at.
            for (key, of) in [(volume::ATTACH_TO, tags::NAME), (tags::REGION, tags::REGION)] {
                tags.insert(key.to_owned(), host.get(of).cloned().unwrap_or_default());
            }
        }
        let mut now = it.clone();
        now.tags = Some(tags::for_ec2(&tags));
        all.extend(volume::live(place, &now, &hosts).map(|live| found(live, &name, number, &has)));
    }
    for it in &databases {
        let has = tags::from_rds(it.tag_list());
        let number = it.db_instance_identifier().unwrap_or_default();
        let mut now = it.clone();
        now.tag_list = Some(tags::for_rds(&pretended(place, Kind::Database, number, &has)));
        let live = database::shape::live(&place.workspace, &now, &place.location, None);
        all.extend(live.map(|live| found(live, number, number, &has)));
    }
    let networks: Vec<String> = parts
        .vpcs
        .iter()
        .map(|it| called(&tags::from_ec2(it.tags()), ""))
        .collect();
    let made_for = |group: &ec2::SecurityGroup| {
        let name = group.group_name().unwrap_or_default();
        let of = |it: &str, end: &str| name == format!("{it}-{end}");
        name == DEFAULT_GROUP
            || networks.iter().any(|it| of(it, network::parts::MEMBERS))
            || balancers.iter().any(|it| of(&it.name, "balancer"))
    };
    for it in parts.groups.iter().filter(|it| !made_for(it)) {
        let has = tags::from_ec2(it.tags());
        if has.get(tags::KIND).is_some_and(|kind| kind != Kind::Firewall.as_str()) {
            continue;
        }
        let name = it.group_name().unwrap_or_default();
        let mut now = it.clone();
        now.tags = Some(tags::for_ec2(&pretended(place, Kind::Firewall, name, &has)));
        let Some(live) = firewall::live(place, &now, &hosts, None) else {
            continue;
        };
        let mut found = found(live, name, it.group_id().unwrap_or_default(), &has);
        if found.owner.is_none() {
            let names: Vec<String> = hosts
                .iter()
                .filter(|host| {
                    firewall::ids_on(host)
                        .iter()
                        .any(|on| Some(on.as_str()) == it.group_id())
                })
                .map(|host| called(&tags::from_ec2(host.tags()), ""))
                .collect();
            found.spec["targets"] = json!(names);
        }
        all.push(found);
    }
    for it in balancers {
        all.push(found(it.live, &it.name, &it.arn, &it.tags));
    }
    all.extend(
        addresses?
            .iter()
            .filter(|it| it.association_id().is_none())
            .map(|it| address(place, it)),
    );
    Ok(all)
}

/// Public addresses that were asked for by themselves; this list has no pages.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeAddresses.html>
async fn addresses(place: &Place) -> Result<Vec<ec2::Address>, Fault> {
    let request = place.ec2.describe_addresses();
    let answer = place
        .call("ec2:DescribeAddresses", Freely, || request.clone().send())
        .await?;
    Ok(answer.addresses.unwrap_or_default())
}

fn address(place: &Place, it: &ec2::Address) -> Found {
    let has = tags::from_ec2(it.tags());
    Found {
        kind: FoundKind::Address,
        provider: ProviderName::Aws,
        name: has.get(tags::CONSOLE_NAME).cloned().unwrap_or_default(),
        location: Some(place.location.clone()),
        number: it.allocation_id().or(it.public_ip()).unwrap_or_default().to_owned(),
        owner: owner(&has),
        labels: Default::default(),
        spec: Value::Object(Map::new()),
        status: Status::Running,
        detail: None,
        address: it.public_ip().map(str::to_owned),
        size: Some("ipv4".into()),
        created_at: None,
        idle: Some(Idle::Unattached),
        of_the_account: false,
    }
}

fn found(live: Live, name: &str, number: &str, has: &Tags) -> Found {
    let mut found = Found::new(live, name, number, owner(has));
    let theirs = |key: &&String| *key != tags::CONSOLE_NAME && !key.starts_with("ha:") && !key.starts_with("aws:");
    let labels = has.iter().filter(|(key, _)| theirs(key));
    found.labels = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
    found
}

/// What AWS's console shows.
fn called(tags: &Tags, otherwise: &str) -> String {
    let named = tags.get(tags::CONSOLE_NAME).filter(|it| !it.is_empty());
    named.cloned().unwrap_or_else(|| otherwise.to_owned())
}

pub(super) fn owner(tags: &Tags) -> Option<Owner> {
    let word = |key: &str| tags.get(key).filter(|it| !it.is_empty()).cloned();
    Some(Owner {
        ws: WorkspaceName::new(word(tags::WS)?),
        region: word(tags::REGION).map(RegionName::new),
        name: word(tags::NAME),
    })
}

/// The tags of something as if it were ours and finished: what is known of it by them stays.
pub(super) fn pretended(place: &Place, kind: Kind, name: &str, has: &Tags) -> Tags {
    let mut tags = has.clone();
    let ws = place.workspace.to_string();
    if tags.get(tags::WS).is_some_and(|it| *it != ws) {
        // What another workspace calls it is no name of ours.
        tags.retain(|key, _| ![tags::REGION, tags::NAME, tags::SPEC].contains(&key.as_str()));
    }
    tags.insert(tags::WS.to_owned(), ws);
    tags.insert(tags::KIND.to_owned(), kind.to_string());
    for (key, value) in [(tags::REGION, NOBODY), (tags::NAME, name), (tags::SPEC, NOBODY)] {
        tags.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    tags
}

fn instance_as_if_ours(place: &Place, it: &ec2::Instance) -> ec2::Instance {
    let has = tags::from_ec2(it.tags());
    let name = called(&has, it.instance_id().unwrap_or_default());
    let mut tags = pretended(place, Kind::Server, &name, &has);
    tags.entry(tags::CONSOLE_NAME.to_owned()).or_insert(name);
    let mut now = it.clone();
    now.tags = Some(tags::for_ec2(&tags));
    now
}

/// The disk that a server was made with ends with it, and is nothing by itself. The volume says so, or the server does.
fn goes_with_its_server(volume: &ec2::Volume, instances: &[ec2::Instance]) -> bool {
    volume.attachments().iter().any(|at| {
        let host = instances.iter().find(|it| it.instance_id() == at.instance_id());
        let root = host.and_then(|it| it.root_device_name());
        let mut disks = host.into_iter().flat_map(|it| it.block_device_mappings());
        let told = disks.any(|disk| {
            let ebs = disk.ebs().filter(|it| it.volume_id() == volume.volume_id());
            ebs.is_some_and(|it| it.delete_on_termination() == Some(true) || disk.device_name() == root)
        });
        told || at.delete_on_termination() == Some(true) || (root.is_some() && root == at.device())
    })
}

/// One thing on its way to being what is wanted.
pub(super) struct Adopting<'a> {
    pub(super) place: &'a Place,
    pub(super) want: &'a Resource,
}

impl Adopting<'_> {
    pub(super) fn gone(&self) -> ProviderError {
        ProviderError::NotReady {
            id: self.want.id.clone(),
            detail: format!("AWS no longer knows it in {}", self.place.location),
        }
    }

    /// These tags, but not the name that people gave it.
    pub(super) fn besides_a_name(&self, has: &Tags, mut tags: Tags) -> Tags {
        if has.contains_key(tags::CONSOLE_NAME) {
            tags.remove(tags::CONSOLE_NAME);
        }
        tags::missing(has, &tags)
    }

    /// Waits until AWS shows the tags that were written.
    pub(super) async fn seen<F>(&self, look: impl Fn() -> F) -> Result<Live, ProviderError>
    where
        F: Future<Output = Result<Option<Live>, ProviderError>>,
    {
        self.place
            .until(
                self.place.deadline,
                || async {
                    let live = look().await?;
                    Ok(live
                        .filter(|it| it.id == self.want.id)
                        .ok_or_else(|| "AWS does not show its tags yet".to_owned()))
                },
                |detail| ProviderError::NotReady {
                    id: self.want.id.clone(),
                    detail,
                },
            )
            .await
    }

    /// The tags to write on something that has `has`, so that it is what is wanted, as it is; none where that is done.
    fn tags(
        &self,
        number: &str,
        has: &Tags,
        read: impl Fn(&Tags) -> Option<Live>,
        tags_of: impl Fn(&Resource) -> Tags,
    ) -> Result<Option<Tags>, ProviderError> {
        let whose = owner(has);
        let what = || format!("the {} {number} in {}", self.want.id.kind, self.place.location);
        may_take(whose.as_ref(), &self.place.workspace, &self.want.id, what)?;
        if whose.is_some_and(|it| it.is_whole()) && has.contains_key(tags::SPEC) {
            return Ok(None);
        }
        let mut as_if = has.clone();
        as_if.extend(tags_of(&with_labels_of(self.want, has)));
        let live = read(&as_if).ok_or_else(|| self.gone())?;
        Ok(Some(self.besides_a_name(has, tags_of(&as_it_is(self.want, live.spec)))))
    }

    /// # Errors
    ///
    /// One of these carries the tags of what is wanted, and is another one.
    fn only<'a>(&self, carry: impl Iterator<Item = Option<&'a str>>, number: &str) -> Result<(), ProviderError> {
        let mut others = carry.flatten().filter(|it| *it != number);
        match others.next() {
            Some(other) => Err(carried_by_another(
                &self.want.id,
                &format!("{other} in {}", self.place.location),
            )),
            None => Ok(()),
        }
    }

    async fn network(&self, number: &str, open: &[u16]) -> Result<Live, ProviderError> {
        let (place, want) = (self.place, self.want);
        let ws = &place.workspace;
        let ours = tags::only(ws, &want.id);
        let (all, ours) = tokio::join!(network::look(place, &[]), lists::vpcs(place, &ours));
        self.only(ours?.iter().map(ec2::Vpc::vpc_id), number)?;
        let all = all?;
        let vpc = all.vpcs.iter().find(|it| it.vpc_id() == Some(number));
        let has = tags::from_ec2(vpc.ok_or_else(|| self.gone())?.tags());
        let mut parts = parts_of(&all, number, &want.id.name);
        let read = |tags: &Tags| {
            let mut parts = parts.clone();
            retag(&mut parts, tags);
            Some(parts.live(ws, &want.id, &place.location, open))
        };
        if let Some(wanted) = self.tags(number, &has, read, |it| tags::of(ws, it))? {
            let identity = tags::identity(ws, &want.id);
            retag(&mut parts, &identity);
            write_pieces(self, &all, &parts).await?;
            // Last: it says that all before it is done.
            let mut wanted = wanted;
            wanted.insert(PART.to_owned(), network::parts::VPC.to_owned());
            write_tags(place, number, &wanted).await?;
        }
        self.seen(|| async {
            let found = network::look(place, &tags::only(ws, &want.id)).await?;
            Ok(Some(found.live(ws, &want.id, &place.location, open)).filter(|_| found.vpc().is_some()))
        })
        .await
    }

    async fn server(&self, number: &str) -> Result<Live, ProviderError> {
        let (place, want) = (self.place, self.want);
        let ours = tags::only(&place.workspace, &want.id);
        let this = [tags::filter("instance-id", number)];
        let (found, ours) = tokio::join!(lists::instances(place, &this), lists::instances(place, &ours));
        self.only(ours?.iter().map(ec2::Instance::instance_id), number)?;
        let found = found?;
        let found = found.first().ok_or_else(|| self.gone())?;
        let network = want.depends_on.iter().find(|it| it.kind == Kind::Network);
        let live = |it: &ec2::Instance| shape::lives(&place.workspace, it, &place.location, network).pop();
        let read = |tags: &Tags| {
            let mut now = found.clone();
            now.tags = Some(tags::for_ec2(tags));
            live(&now)
        };
        let tags_of = |it: &Resource| shape::tags_of(&place.workspace, it);
        if let Some(wanted) = self.tags(number, &tags::from_ec2(found.tags()), read, tags_of)? {
            write_tags(place, number, &wanted).await?;
        }
        self.seen(|| async { Ok(lists::instances(place, &this).await?.first().and_then(live)) })
            .await
    }

    async fn volume(&self, number: &str) -> Result<Live, ProviderError> {
        let (place, want) = (self.place, self.want);
        let ours = tags::only(&place.workspace, &want.id);
        let this = [tags::filter("volume-id", number)];
        let (found, ours, servers) = tokio::join!(
            lists::volumes(place, &this),
            lists::volumes(place, &ours),
            firewall::servers(place, &want.id.region),
        );
        self.only(ours?.iter().map(ec2::Volume::volume_id), number)?;
        let (found, servers) = (found?, servers?);
        let found = found.first().ok_or_else(|| self.gone())?;
        let live = |it: &ec2::Volume| volume::live(place, it, &servers);
        let read = |tags: &Tags| {
            let mut now = found.clone();
            now.tags = Some(tags::for_ec2(tags));
            live(&now)
        };
        let tags_of = |it: &Resource| volume::tags_of(&place.workspace, it);
        if let Some(wanted) = self.tags(number, &tags::from_ec2(found.tags()), read, tags_of)? {
            write_tags(place, number, &wanted).await?;
        }
        self.seen(|| async { Ok(lists::volumes(place, &this).await?.first().and_then(live)) })
            .await
    }

    async fn firewall(&self, number: &str) -> Result<Live, ProviderError> {
        let (place, want) = (self.place, self.want);
        let ours = tags::only(&place.workspace, &want.id);
        let this = [tags::filter("group-id", number)];
        let (found, ours, servers) = tokio::join!(
            lists::groups(place, &this),
            lists::groups(place, &ours),
            firewall::servers(place, &want.id.region),
        );
        self.only(ours?.iter().map(ec2::SecurityGroup::group_id), number)?;
        let (found, servers) = (found?, servers?);
        let found = found.first().ok_or_else(|| self.gone())?;
        let live = |it: &ec2::SecurityGroup| firewall::live(place, it, &servers, None);
        let read = |tags: &Tags| {
            let mut now = found.clone();
            now.tags = Some(tags::for_ec2(tags));
            live(&now)
        };
        let tags_of = |it: &Resource| firewall::tags_of(&place.workspace, it);
        if let Some(wanted) = self.tags(number, &tags::from_ec2(found.tags()), read, tags_of)? {
            write_tags(place, number, &wanted).await?;
        }
        self.seen(|| async { Ok(lists::groups(place, &this).await?.first().and_then(live)) })
            .await
    }

    async fn database(&self, number: &str) -> Result<Live, ProviderError> {
        let (place, want) = (self.place, self.want);
        let all = database::observe(place).await?;
        let is = |it: &&DbInstance| {
            let owned = tags::read(&place.workspace, &tags::from_rds(it.tag_list()));
            owned.is_some_and(|owned| owned.id == want.id)
        };
        self.only(all.iter().filter(is).map(DbInstance::db_instance_identifier), number)?;
        let same = |it: &&DbInstance| it.db_instance_identifier() == Some(number);
        let found = all.iter().find(same).ok_or_else(|| self.gone())?;
        let network = want.depends_on.iter().find(|it| it.kind == Kind::Network);
        let live = |it: &DbInstance| database::shape::live(&place.workspace, it, &place.location, network);
        let read = |tags: &Tags| {
            let mut now = found.clone();
            now.tag_list = Some(tags::for_rds(tags));
            live(&now)
        };
        let tags_of = |it: &Resource| database::shape::tags_of(&place.workspace, it);
        if let Some(wanted) = self.tags(number, &tags::from_rds(found.tag_list()), read, tags_of)? {
            database::add_tags(place, found.db_instance_arn().unwrap_or_default(), &wanted).await?;
        }
        self.seen(|| async { Ok(database::observe(place).await?.iter().find(same).and_then(live)) })
            .await
    }
}

/// Labels that are declared count from now on where the thing has them as well.
fn with_labels_of(want: &Resource, has: &Tags) -> Resource {
    let mut out = want.clone();
    if let Some(Value::Object(declared)) = out.spec.get_mut(LABELS) {
        declared.retain(|key, value| has.get(key).is_some_and(|is| value == is));
    }
    out
}
