//! From plain data to the typed model.
//!
//! The contract library has checked shapes; what is left are rules about regions as a whole, and
//! reading each provider's words for the same thing.

mod resource;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ha_core::{
    check::codes,
    finding::{Finding, Severity},
    geo::{self, Coordinates},
    model::{Dns, FailoverPolicy, Objectives, Region, Role, SyncMode, Timing, TimingProfile, Workspace},
    names::{ProviderName, RegionName, WorkspaceName},
};
use serde_json::{Map, Value};

use crate::nickel::{Raw, join};
use resource::{Members, Reading};

/// The model, and what is wrong with it.
pub(crate) struct Typed {
    /// None when a part is missing that rules across regions would stumble over.
    pub(crate) workspace: Option<Workspace>,
    pub(crate) findings: Vec<Finding>,
}

/// Builds the model out of what could be evaluated.
pub(crate) fn typed(raw: &Raw) -> Typed {
    let mut reading = Reading::new(raw.findings.iter().filter_map(|finding| finding.path.clone()).collect());
    let workspace = match &raw.tree {
        Some(Value::Object(tree)) => workspace(tree, &mut reading),
        Some(_) => {
            reading.findings.push(
                Finding::error("ha::workspace::not_a_record", "a workspace is a record: { … }")
                    .at("")
                    .help("end the file with `{ workspace = \"…\", … } | Workspace`; `ha init` writes an example"),
            );
            None
        }
        None => None,
    };
    Typed {
        workspace: workspace.filter(|_| reading.complete),
        findings: reading.findings,
    }
}

fn workspace(tree: &Map<String, Value>, reading: &mut Reading) -> Option<Workspace> {
    if !tree.contains_key("timing") && !reading.is_faulty("timing") {
        // Every field below would be reported as missing, and none of that is the mistake.
        reading.findings.push(
            Finding::error(
                "ha::workspace::no_contract",
                "the workspace is not checked by its contract",
            )
            .at("")
            .help("end the file with `} | Workspace`, and take `Workspace` from `import \"ha.ncl\"`"),
        );
        reading.complete = false;
        return None;
    }
    let name = reading.string(tree, "", "workspace", "a workspace");
    let mut dns = None;
    let mut regions = Vec::new();
    for (field, value) in tree {
        let Value::Object(fields) = value else { continue };
        if field.starts_with("region_") {
            regions.extend(region(field, fields, reading));
        } else if fields.get("kind").and_then(Value::as_str) == Some("aws.Route53") {
            dns = read_dns(field, fields, reading).or(dns);
        } else if fields.contains_key("kind") {
            let finding = Finding::warning(
                "ha::workspace::outside_region",
                format!("`{field}` is in no region, so nothing is made of it"),
            )
            .at(field)
            .help("move it into a region: region_us_east.app_servers = …");
            reading.findings.push(finding);
        }
    }
    if regions.is_empty() && reading.complete && !tree.keys().any(|field| field.starts_with("region_")) {
        reading.findings.push(
            Finding::error(codes::NO_REGION, "the workspace has no region")
                .at("")
                .help("add one: region_us_east = { role = 'Primary, … }"),
        );
        reading.complete = false;
    }
    regions.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    let (profile, timing) = timing(tree.get("timing"));
    Some(Workspace {
        name: WorkspaceName::new(name?),
        objectives: objectives(tree.get("objectives")),
        profile,
        timing,
        sync_mode: text(tree, "sync_mode")
            .and_then(SyncMode::parse)
            .unwrap_or(SyncMode::Strict),
        failover: failover(tree.get("failover")),
        dns,
        regions,
    })
}

/// The contract fills in whatever is left out; its defaults stand here again for fields that had a mistake.
fn objectives(value: Option<&Value>) -> Objectives {
    let whole = |field: &str, default: u64| {
        value
            .and_then(|it| it.get(field))
            .and_then(Value::as_u64)
            .unwrap_or(default)
    };
    let number = |field: &str| value.and_then(|it| it.get(field)).and_then(Value::as_f64);
    Objectives {
        rto_seconds: whole("rto_seconds", 300),
        rpo_seconds: whole("rpo_seconds", 60),
        lag_warn_seconds: whole("lag_warn_seconds", 30),
        lag_expected_seconds: whole("lag_expected_seconds", 300),
        lag_critical_seconds: whole("lag_critical_seconds", 600),
        min_distance_km: number("min_distance_km").unwrap_or(500.0),
        max_latency_ms: number("max_latency_ms").unwrap_or(100.0),
        monthly_budget_usd: number("monthly_budget_usd"),
    }
}

/// A profile by its name, or a record with one and what differs from it.
fn timing(value: Option<&Value>) -> (TimingProfile, Timing) {
    let written = value.and_then(Value::as_object);
    let name = match written {
        Some(written) => text(written, "profile"),
        None => value.and_then(Value::as_str),
    };
    let profile = name.and_then(TimingProfile::parse).unwrap_or(TimingProfile::Default);
    let timing = profile.timing();
    // The constants have the same names here and there.
    let constants = serde_json::to_value(timing)
        .ok()
        .zip(written)
        .map(|(mut all, written)| {
            for (name, value) in written {
                if let Some(constant) = all.get_mut(name).filter(|_| value.is_u64()) {
                    constant.clone_from(value);
                }
            }
            all
        });
    let overridden = constants.and_then(|all| serde_json::from_value(all).ok());
    (profile, overridden.unwrap_or(timing))
}

fn failover(value: Option<&Value>) -> FailoverPolicy {
    let default = FailoverPolicy::default();
    let field = |name: &str| value.and_then(|it| it.get(name));
    let whole = |name: &str| field(name).and_then(Value::as_u64);
    let seconds = |name: &str, default: Duration| whole(name).map_or(default, Duration::from_secs);
    FailoverPolicy {
        automatic: field("automatic").and_then(Value::as_bool).unwrap_or(default.automatic),
        cooldown: seconds("cooldown_seconds", default.cooldown),
        daily_limit: match field("daily_limit") {
            Some(Value::String(_)) => None,
            _ => whole("daily_limit")
                .and_then(|it| u32::try_from(it).ok())
                .or(default.daily_limit),
        },
        restart_budget: seconds("restart_seconds", default.restart_budget),
        degrade_after: seconds("degrade_after_seconds", default.degrade_after),
        stall_limit: seconds("stall_seconds", default.stall_limit),
        max_loss_bytes: whole("max_loss_bytes").unwrap_or(default.max_loss_bytes),
    }
}

fn read_dns(field: &str, fields: &Map<String, Value>, reading: &mut Reading) -> Option<Dns> {
    let check = fields.get("health_check");
    let probe = |name: &str| check.and_then(|it| it.get(name));
    let word = |name: &str, default: &str| probe(name).and_then(Value::as_str).unwrap_or(default).to_owned();
    let whole = |name: &str| probe(name).and_then(Value::as_u64);
    Some(Dns {
        kind: "aws.Route53".to_owned(),
        path: field.to_owned(),
        domain: reading.string(fields, field, "domain", "aws.Route53")?,
        zone: text(fields, "zone").map(str::to_owned),
        ttl_seconds: fields.get("ttl").and_then(Value::as_u64).unwrap_or(60),
        routing: text(fields, "routing").unwrap_or("geolocation").to_owned(),
        default_region: text(fields, "default_region").map(str::to_owned),
        locations: by_region(fields, "locations"),
        names: by_region(fields, "names"),
        weights: by_region(fields, "weights"),
        probes: probe("enabled").and_then(Value::as_bool).unwrap_or(true),
        probe_protocol: word("protocol", "HTTPS"),
        probe_port: whole("port").and_then(|it| u16::try_from(it).ok()).unwrap_or(443),
        probe_path: word("path", "/health"),
        probe_interval_seconds: whole("request_interval").unwrap_or(30),
        probe_failures: whole("failure_threshold")
            .and_then(|it| u32::try_from(it).ok())
            .unwrap_or(3),
    })
}

/// A record of something for each region. What is not of its type is left out: the contract has said so already.
fn by_region<T: serde::de::DeserializeOwned>(fields: &Map<String, Value>, name: &str) -> BTreeMap<String, T> {
    let written = fields.get(name).and_then(Value::as_object).into_iter().flatten();
    let read =
        written.filter_map(|(region, value)| Some((region.clone(), serde_json::from_value(value.clone()).ok()?)));
    read.collect()
}

fn region(field: &str, fields: &Map<String, Value>, reading: &mut Reading) -> Option<Region> {
    let name = field.strip_prefix("region_")?.replace('_', "-");
    if name.is_empty()
        || !name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    {
        reading.findings.push(
            Finding::error(
                "ha::workspace::region_name",
                format!("`{field}` makes no name for a region: lower-case letters, digits and underscores do"),
            )
            .at(field)
            .help("region_us_east is the region us-east"),
        );
        reading.complete = false;
        return None;
    }
    if let Some(repeated) = text(fields, "region_name").filter(|repeated| *repeated != name) {
        reading.findings.push(
            Finding::error(
                "ha::workspace::region_name",
                format!("the field `{field}` is the region {name}, and here it is called {repeated}"),
            )
            .at(join(field, "region_name"))
            .help("leave `region_name` out, or rename the field"),
        );
    }
    let role = text(fields, "role").and_then(Role::parse);
    if role.is_none() {
        // Already a finding; without it nobody can say how many primaries there are.
        reading.complete = false;
    }
    let (coordinates, country) = declared_place(fields);
    let mut members = Members::read(field, fields, reading);
    let Some((provider, location)) = sold_at(field, &members, reading) else {
        reading.complete = false;
        return None;
    };
    // What runs on the region's own servers is where they are.
    for database in members.databases.iter_mut().filter(|it| it.location.is_empty()) {
        database.location.clone_from(&location);
    }
    let known = geo::location(provider, &location);
    Some(Region {
        name: RegionName::new(name),
        field: field.to_owned(),
        role: role?,
        failover_priority: fields
            .get("failover_priority")
            .and_then(Value::as_u64)
            .and_then(|it| u32::try_from(it).ok())
            .unwrap_or(role?.failover_priority()),
        can_lead: fields.get("can_lead").and_then(Value::as_bool).unwrap_or(true),
        provider,
        coordinates: coordinates.or(known.map(|it| it.at)),
        country: country.or(known.map(|it| it.country.to_owned())),
        residency: fields
            .get("residency")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect(),
        networks: members.networks,
        servers: members.servers,
        load_balancers: members.load_balancers,
        databases: members.databases,
        stores: members.stores,
        others: members.others,
        location,
    })
}

/// `location = { latitude = …, longitude = …, country = … }`
fn declared_place(fields: &Map<String, Value>) -> (Option<Coordinates>, Option<String>) {
    let Some(Value::Object(place)) = fields.get("location") else {
        return (None, None);
    };
    let number = |name: &str| place.get(name).and_then(Value::as_f64);
    let coordinates = match (number("latitude"), number("longitude")) {
        (Some(latitude), Some(longitude)) => Some(Coordinates { latitude, longitude }),
        _ => None,
    };
    (coordinates, text(place, "country").map(str::to_owned))
}

/// Who sells this region, and where: said by its resources, and by all of them alike.
fn sold_at(field: &str, members: &Members, reading: &mut Reading) -> Option<(ProviderName, String)> {
    let providers: BTreeSet<ProviderName> = members.sold.iter().map(|sold| sold.provider).collect();
    let Some(first) = members.sold.iter().find(|sold| sold.location.is_some()) else {
        if members.intact {
            let finding = Finding::error(
                "ha::workspace::empty_region",
                format!("`{field}` has no servers, so nobody knows at which provider it is"),
            )
            .at(field)
            .help("add servers: app_servers = digitalocean.Droplet & { … }, hetzner.Server or aws.EC2");
            reading.findings.push(finding);
        }
        return None;
    };
    if providers.len() > 1 {
        let mut finding = Finding::error(
            "ha::workspace::mixed_providers",
            format!("`{field}` mixes providers; a region is at one"),
        )
        .at(field)
        .help("make a second region of the other provider's resources");
        for sold in &members.sold {
            finding = finding.label(join(&sold.path, "kind"), format!("at {}", sold.provider));
        }
        reading.findings.push(finding);
    }
    let location = first.location.clone()?;
    for sold in &members.sold {
        let Some(other) = sold.location.as_ref().filter(|_| sold.provider == first.provider) else {
            continue;
        };
        if *other != location {
            reading.findings.push(
                Finding::new(
                    Severity::Warning,
                    "ha::workspace::mixed_locations",
                    format!("{other} is not {location}, where the rest of this region is"),
                )
                .at(join(&sold.path, sold.location_field))
                .label(join(&first.path, first.location_field), "the region is here")
                .help(format!("write \"{location}\", or make a second region of it")),
            );
        }
    }
    Some((first.provider, location))
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}
