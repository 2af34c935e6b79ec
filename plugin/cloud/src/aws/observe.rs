//! Everything of a workspace, each kind by one list, all kinds and places side by side.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use futures::future::try_join_all;
use ha_core::resource::{Kind, Live, ResourceId};

use super::{
    balancer, database,
    fault::Fault,
    firewall, lists, network,
    place::Place,
    server::{self, shape},
    tags, volume,
};

/// In order of identity. What AWS is still taking away is not among it.
pub(super) async fn observe(places: &[&Place], open: &[u16]) -> Result<Vec<Live>, Fault> {
    let all = try_join_all(places.iter().map(|place| observe_one(place, open))).await?;
    let mut all: Vec<Live> = all.into_iter().flatten().collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

async fn observe_one(place: &Place, open: &[u16]) -> Result<Vec<Live>, Fault> {
    let ws = &place.workspace;
    let filters = [tags::ours(ws)];
    let balancers = async {
        let listed = balancer::list(place).await?;
        balancer::pieces(place, &listed, None).await
    };
    let (parts, instances, volumes, balancers, databases) = tokio::join!(
        network::look(place, &filters),
        lists::instances(place, &filters),
        lists::volumes(place, &filters),
        balancers,
        database::observe(place),
    );
    let (parts, instances) = (parts?, instances?);
    let groups = parts.groups.clone();
    let networks = parts.by_network(ws);
    let by_vpc: BTreeMap<String, ResourceId> = networks
        .iter()
        .flat_map(|(id, parts)| parts.vpcs.iter().map(move |vpc| (vpc, id)))
        .filter_map(|(vpc, id)| Some((vpc.vpc_id()?.to_owned(), id.clone())))
        .collect();
    let network = |vpc: Option<&str>| vpc.and_then(|it| by_vpc.get(it));
    let mut all: Vec<Live> = networks
        .iter()
        .map(|(id, parts)| parts.live(ws, id, &place.location, open))
        .collect();
    all.extend(servers(place, &instances, network));
    let firewalls = groups
        .iter()
        .filter_map(|it| firewall::live(place, it, &instances, network(it.vpc_id())));
    all.extend(firewalls);
    for volume in &volumes? {
        let Some(mut live) = volume::live(place, volume, &instances) else {
            continue;
        };
        // A volume lies in a zone, not in a network: the network of its region is the one it was made for.
        let beside = networks.keys().find(|it| it.region == live.id.region);
        live.depends_on = beside.cloned().into_iter().collect();
        all.push(live);
    }
    let by_instance = balancer::by_instance(place, &instances);
    for (id, pieces) in &balancers? {
        let here: balancer::shape::Servers = by_instance
            .iter()
            .filter(|(_, server)| server.region == id.region)
            .cloned()
            .collect();
        let vpc = pieces.balancer.as_ref().and_then(|it| it.vpc_id());
        all.push(pieces.live(ws, id, &place.location, &here, network(vpc)));
    }
    let managed = databases?;
    all.extend(managed.iter().filter_map(|it| {
        let vpc = it.db_subnet_group().and_then(|group| group.vpc_id());
        database::shape::live(ws, it, &place.location, network(vpc))
    }));
    Ok(all)
}

/// One for each identity, though a lost answer may have left two instances; then it says so.
fn servers<'a>(
    place: &Place,
    instances: &[ec2::Instance],
    network: impl Fn(Option<&str>) -> Option<&'a ResourceId>,
) -> Vec<Live> {
    let mut by_id: BTreeMap<ResourceId, Vec<&ec2::Instance>> = BTreeMap::new();
    for instance in instances {
        let owned = tags::read(&place.workspace, &tags::from_ec2(instance.tags()));
        if let Some(owned) = owned.filter(|it| it.id.kind == Kind::Server) {
            by_id.entry(owned.id).or_default().push(instance);
        }
    }
    let mut all = Vec::new();
    for same in by_id.into_values() {
        let Some(first) = server::oldest(same.iter().copied()) else {
            continue;
        };
        let mut lives = shape::lives(&place.workspace, first, &place.location, network(first.vpc_id()));
        if same.len() > 1
            && let Some(server) = lives.last_mut()
        {
            let ids: Vec<&str> = same.iter().filter_map(|it| it.instance_id()).collect();
            server.detail = Some(format!("there are {} of it: {}", ids.len(), ids.join(", ")));
        }
        all.extend(lives);
    }
    all
}
