//! The servers as a dynamic inventory of Ansible: the JSON that an inventory script prints for `--list`.
//!
//! Source: <https://docs.ansible.com/ansible/latest/dev_guide/developing_inventory.html> (Inventory script conventions).

use std::collections::{BTreeMap, BTreeSet};

use ha_core::{
    config::Target,
    model::Workspace,
    names::ProviderName,
    report::NodeRole,
    resource::{Kind, Live, Resource},
};
use serde_json::{Map, Value, json};

use crate::context::Thing;

/// Groups by what runs on a server, with the word for it in a server's spec.
const USES: [(&str, &str); 3] = [
    ("app", "app_servers"),
    ("database", "db_servers"),
    ("store", "store_servers"),
];

/// A server that can be reached.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Host {
    name: String,
    region: String,
    provider: ProviderName,
    group: Option<String>,
    image: Option<String>,
    size: Option<String>,
    location: Option<String>,
    status: String,
    address: String,
    private_address: Option<String>,
    /// `app`, `database`, `store`.
    uses: Vec<String>,
    /// Of the database on it, as observed.
    role: Option<NodeRole>,
}

/// In the order of `things`. One without an address is left out: there is no way to it, and Ansible would take its name
/// for somebody's host name.
pub(super) fn hosts(things: &[Thing<'_>], desired: &[Resource], region: Option<&str>) -> Vec<Host> {
    let databases = things.iter().filter(|it| it.kind() == Some(Kind::Database));
    let roles: BTreeMap<(String, String), NodeRole> = databases
        .filter_map(|it| {
            let live = it.live?;
            Some(((live.id.region.to_string(), under(live, desired)?), live.role?))
        })
        .collect();
    let servers = things.iter().filter(|it| it.kind() == Some(Kind::Server));
    let servers = servers.filter_map(|it| {
        let live = it.live?;
        let (region, name) = (live.id.region.to_string(), live.id.name.clone());
        Some(Host {
            role: roles.get(&(region.clone(), name.clone())).copied(),
            uses: uses(it),
            group: it.field("group"),
            image: it.field("image"),
            size: live.size.clone().or_else(|| it.field("size")),
            location: it.field("location"),
            status: live.status.as_str().to_owned(),
            address: live.address.clone()?,
            private_address: live.private_address.clone(),
            provider: live.provider,
            name,
            region,
        })
    });
    servers
        .filter(|it| region.is_none_or(|name| it.region == name))
        .collect()
}

/// The server that a database runs on.
fn under(live: &Live, desired: &[Resource]) -> Option<String> {
    let wanted = desired.iter().find(|it| it.id == live.id).map(|it| &it.spec);
    let specs = [Some(&live.spec), wanted].into_iter().flatten();
    let named = specs
        .filter_map(|it| it.get("server")?.as_str())
        .map(str::to_owned)
        .next();
    named.or_else(|| {
        let server = live.depends_on.iter().find(|it| it.kind == Kind::Server)?;
        Some(server.name.clone())
    })
}

fn uses(server: &Thing<'_>) -> Vec<String> {
    let specs = [server.live.map(|it| &it.spec), server.desired.map(|it| &it.spec)];
    let told = specs.into_iter().flatten().find_map(|it| it.get("roles")?.as_array());
    let words = told.into_iter().flatten().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

/// The whole inventory. Every declared region, server group and use is a group of it, also while nothing is in it, so
/// that a play that names one is right before the first `ha provision`.
pub(super) fn inventory(workspace: &Workspace, target: Target, hosts: &[Host]) -> Value {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for region in &workspace.regions {
        groups.entry(word("region", region.name.as_str())).or_default();
        groups.entry(word("provider", region.provider.as_str())).or_default();
        for group in &region.servers {
            groups.entry(word("group", &group.declared.name)).or_default();
        }
    }
    for (_, group) in USES {
        groups.entry(group.to_owned()).or_default();
    }
    // Who leads comes first wherever it is named; the others keep the order of the workspace.
    let mut ordered: Vec<&Host> = hosts.iter().collect();
    ordered.sort_by_key(|it| it.role != Some(NodeRole::Primary));
    let mut variables = Map::new();
    for host in ordered {
        let name = host_name(host, hosts);
        let mut join = |group: String| groups.entry(group).or_default().push(name.clone());
        join(word("region", &host.region));
        join(word("provider", host.provider.as_str()));
        if let Some(group) = &host.group {
            join(word("group", group));
        }
        for (_, group) in USES.iter().filter(|(it, _)| host.uses.iter().any(|word| word == it)) {
            join((*group).to_owned());
        }
        variables.insert(name, host_variables(host, target));
    }
    let mut inventory: Map<String, Value> = groups
        .into_iter()
        .map(|(name, hosts)| (name, json!({ "hosts": hosts })))
        .collect();
    let target = match target {
        Target::Local => "local",
        Target::Cloud => "cloud",
    };
    let all = json!({ "vars": { "workspace": workspace.name, "target": target } });
    inventory.insert("all".to_owned(), all);
    inventory.insert("_meta".to_owned(), json!({ "hostvars": variables }));
    Value::Object(inventory)
}

/// What is not known is left out: null would be a value to Ansible.
fn host_variables(host: &Host, target: Target) -> Value {
    let user = match target {
        Target::Cloud => host.image.as_deref().and_then(|image| user(host.provider, image)),
        Target::Local => None,
    };
    let role = host.role.map(|it| match it {
        NodeRole::Primary => "primary",
        NodeRole::Replica => "replica",
    });
    let known = [
        ("ansible_host", Some(host.address.as_str())),
        ("ansible_user", user),
        ("private_address", host.private_address.as_deref()),
        ("region", Some(host.region.as_str())),
        ("provider", Some(host.provider.as_str())),
        ("location", host.location.as_deref()),
        ("server_group", host.group.as_deref()),
        ("size", host.size.as_deref()),
        ("status", Some(host.status.as_str())),
        ("role", role),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    let mut variables: Map<String, Value> = known.collect();
    variables.insert("uses".to_owned(), json!(host.uses));
    Value::Object(variables)
}

/// Names of servers are unique in their region; those of hosts are in the whole inventory.
fn host_name(host: &Host, hosts: &[Host]) -> String {
    let regions = hosts.iter().filter(|it| it.name == host.name).map(|it| &it.region);
    match regions.collect::<BTreeSet<_>>().len() {
        0 | 1 => host.name.clone(),
        _ => format!("{}.{}", host.name, host.region),
    }
}

/// A group's name is to be a Python identifier; Ansible warns of others and may rewrite them.
/// Source: <https://docs.ansible.com/ansible/latest/reference_appendices/config.html#transform-invalid-group-chars>.
fn word(prefix: &str, name: &str) -> String {
    let plain = |it: char| if it.is_ascii_alphanumeric() { it } else { '_' };
    let name: String = name.chars().map(plain).collect();
    format!("{prefix}_{name}")
}

/// Whom an image lets in by default.
///
/// Sources: <https://docs.digitalocean.com/products/droplets/how-to/connect-with-ssh/>,
/// <https://docs.hetzner.com/cloud/servers/getting-started/connecting-to-the-server/>,
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/managing-users.html#ami-default-user-names>.
fn user(provider: ProviderName, image: &str) -> Option<&'static str> {
    match provider {
        ProviderName::Digitalocean | ProviderName::Hetzner => Some("root"),
        // An AMI's number says nothing of what is in it; the parameters of its makers do.
        ProviderName::Aws => [
            ("/aws/service/canonical/ubuntu/", "ubuntu"),
            ("/aws/service/ami-amazon-linux-latest/", "ec2-user"),
            ("/aws/service/debian/", "admin"),
        ]
        .into_iter()
        .find(|(maker, _)| image.contains(maker))
        .map(|(_, user)| user),
        ProviderName::Local => None,
    }
}

#[cfg(test)]
#[path = "ansible_tests.rs"]
mod tests;
