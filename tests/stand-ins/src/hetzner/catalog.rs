//! What Hetzner sells: locations, types, images, prices. The figures are in the likeness of the price list of 2026,
//! for tests to count with; nobody is billed by them.

use serde_json::{Value, json};

use super::reply::{Answer, Paging, Problem, allowed, passes, sorting};
use super::world::World;
use crate::wire::{Ask, Reply};

pub(crate) struct Location {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    description: &'static str,
    country: &'static str,
    city: &'static str,
    coordinates: (f64, f64),
    pub(crate) zone: &'static str,
    /// Prices here, in parts of those in Germany.
    dearer: f64,
}

const fn location(
    id: u64,
    name: &'static str,
    description: &'static str,
    (country, city): (&'static str, &'static str),
    coordinates: (f64, f64),
    zone: &'static str,
    dearer: f64,
) -> Location {
    Location {
        id,
        name,
        description,
        country,
        city,
        coordinates,
        zone,
        dearer,
    }
}

const LOCATIONS: &[Location] = &[
    location(
        1,
        "fsn1",
        "Falkenstein DC Park 1",
        ("DE", "Falkenstein"),
        (50.47612, 12.370071),
        "eu-central",
        1.0,
    ),
    location(
        2,
        "nbg1",
        "Nuremberg DC Park 1",
        ("DE", "Nuremberg"),
        (49.452102, 11.076665),
        "eu-central",
        1.0,
    ),
    location(
        3,
        "hel1",
        "Helsinki DC Park 1",
        ("FI", "Helsinki"),
        (60.169855, 24.938379),
        "eu-central",
        1.0,
    ),
    location(
        4,
        "ash",
        "Ashburn, VA",
        ("US", "Ashburn, VA"),
        (39.045821, -77.487073),
        "us-east",
        1.2,
    ),
    location(
        5,
        "hil",
        "Hillsboro, OR",
        ("US", "Hillsboro, OR"),
        (45.54222, -122.951924),
        "us-west",
        1.2,
    ),
    location(
        6,
        "sin",
        "Singapore",
        ("SG", "Singapore"),
        (1.283333, 103.833333),
        "ap-southeast",
        1.7,
    ),
];

pub(crate) struct ServerType {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) cores: u32,
    pub(crate) memory: u32,
    pub(crate) disk: u32,
    pub(crate) cpu: &'static str,
    pub(crate) architecture: &'static str,
    hourly: f64,
    monthly: f64,
    places: &'static [&'static str],
    /// Not to be had any more.
    pub(crate) gone: bool,
}

const EU: &[&str] = &["fsn1", "nbg1", "hel1"];
const ALL: &[&str] = &["fsn1", "nbg1", "hel1", "ash", "hil", "sin"];

const fn server_type(
    (id, name): (u64, &'static str),
    (cores, memory, disk): (u32, u32, u32),
    cpu: &'static str,
    (hourly, monthly): (f64, f64),
    places: &'static [&'static str],
) -> ServerType {
    ServerType {
        id,
        name,
        cores,
        memory,
        disk,
        cpu,
        architecture: "x86",
        hourly,
        monthly,
        places,
        gone: false,
    }
}

const SERVER_TYPES: &[ServerType] = &[
    ServerType {
        gone: true,
        ..server_type((1, "cx11"), (1, 2, 20), "shared", (0.0052, 3.29), EU)
    },
    server_type((22, "cpx11"), (2, 2, 40), "shared", (0.007, 4.35), ALL),
    server_type((23, "cpx21"), (3, 4, 80), "shared", (0.012, 7.55), ALL),
    server_type((24, "cpx31"), (4, 8, 160), "shared", (0.0216, 13.6), ALL),
    server_type((25, "cpx41"), (8, 16, 240), "shared", (0.0404, 25.2), ALL),
    server_type((104, "cx22"), (2, 4, 40), "shared", (0.006, 3.79), EU),
    server_type((105, "cx32"), (4, 8, 80), "shared", (0.0105, 6.8), EU),
    ServerType {
        architecture: "arm",
        ..server_type((45, "cax11"), (2, 4, 40), "shared", (0.006, 3.79), EU)
    },
    server_type((96, "ccx13"), (2, 8, 80), "dedicated", (0.02, 12.49), ALL),
    server_type((97, "ccx23"), (4, 16, 160), "dedicated", (0.0392, 24.49), ALL),
];

pub(crate) struct BalancerType {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) services: usize,
    pub(crate) targets: usize,
    connections: u32,
    certificates: u32,
    hourly: f64,
    monthly: f64,
}

const fn balancer_type(
    (id, name): (u64, &'static str),
    (services, targets): (usize, usize),
    (connections, certificates): (u32, u32),
    (hourly, monthly): (f64, f64),
) -> BalancerType {
    BalancerType {
        id,
        name,
        services,
        targets,
        connections,
        certificates,
        hourly,
        monthly,
    }
}

const BALANCER_TYPES: &[BalancerType] = &[
    balancer_type((1, "lb11"), (5, 25), (10_000, 10), (0.0088, 5.49)),
    balancer_type((2, "lb21"), (15, 75), (20_000, 25), (0.0264, 16.49)),
    balancer_type((3, "lb31"), (30, 150), (40_000, 50), (0.0526, 32.89)),
];

pub(crate) struct Image {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    description: &'static str,
    flavor: &'static str,
    version: &'static str,
    pub(crate) architecture: &'static str,
}

const fn image(
    id: u64,
    name: &'static str,
    description: &'static str,
    (flavor, version): (&'static str, &'static str),
    architecture: &'static str,
) -> Image {
    Image {
        id,
        name,
        description,
        flavor,
        version,
        architecture,
    }
}

const IMAGES: &[Image] = &[
    image(67_794_396, "ubuntu-22.04", "Ubuntu 22.04", ("ubuntu", "22.04"), "x86"),
    image(103_908_130, "ubuntu-22.04", "Ubuntu 22.04", ("ubuntu", "22.04"), "arm"),
    image(114_690_387, "debian-12", "Debian 12", ("debian", "12"), "x86"),
    image(161_547_269, "ubuntu-24.04", "Ubuntu 24.04", ("ubuntu", "24.04"), "x86"),
    image(161_547_270, "ubuntu-24.04", "Ubuntu 24.04", ("ubuntu", "24.04"), "arm"),
    image(310_557_660, "debian-13", "Debian 13", ("debian", "13"), "x86"),
];

fn named<'a, T>(all: &'a [T], text: &str, key: impl Fn(&T) -> (u64, &'static str)) -> Option<&'a T> {
    all.iter()
        .find(|one| key(one).1 == text || text.parse() == Ok(key(one).0))
}

/// By name or number, like the others.
pub(crate) fn find_location(text: &str) -> Option<&'static Location> {
    named(LOCATIONS, text, |one| (one.id, one.name))
}

pub(crate) fn location_in_zone(zone: &str) -> Option<&'static Location> {
    LOCATIONS.iter().find(|one| one.zone == zone)
}

pub(crate) fn find_server_type(text: &str) -> Option<&'static ServerType> {
    named(SERVER_TYPES, text, |one| (one.id, one.name))
}

pub(crate) fn find_balancer_type(text: &str) -> Option<&'static BalancerType> {
    named(BALANCER_TYPES, text, |one| (one.id, one.name))
}

/// Names are the same for both architectures; a number is of one.
pub(crate) fn find_image(text: &str, architecture: &str) -> Option<&'static Image> {
    let by_name = IMAGES
        .iter()
        .find(|one| one.name == text && one.architecture == architecture);
    by_name.or_else(|| IMAGES.iter().find(|one| text.parse() == Ok(one.id)))
}

impl ServerType {
    pub(crate) fn is_sold_in(&self, location: &str) -> bool {
        self.places.contains(&location)
    }
}

fn money(net: f64) -> Value {
    json!({"net": format!("{net:.4}"), "gross": format!("{:.4}", net * 1.19)})
}

fn prices(places: &[&str], hourly: f64, monthly: f64) -> Vec<Value> {
    let places = LOCATIONS.iter().filter(|one| places.contains(&one.name));
    places
        .map(|one| {
            json!({
                "location": one.name,
                "price_hourly": money(hourly * one.dearer),
                "price_monthly": money(monthly * one.dearer),
                "included_traffic": 21_990_232_555_520_u64,
                "price_per_tb_traffic": money(one.dearer),
            })
        })
        .collect()
}

pub(crate) fn render_location(one: &Location) -> Value {
    json!({
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "country": one.country,
        "city": one.city,
        "latitude": one.coordinates.0,
        "longitude": one.coordinates.1,
        "network_zone": one.zone,
    })
}

pub(crate) fn render_server_type(one: &ServerType, world: &World) -> Value {
    let deprecation = if one.gone {
        json!({"announced": "2024-06-06T00:00:00Z", "unavailable_after": "2024-09-06T00:00:00Z"})
    } else {
        Value::Null
    };
    let locations: Vec<Value> = LOCATIONS
        .iter()
        .filter(|place| one.is_sold_in(place.name))
        .map(|place| {
            let full = world.knobs.capacity.get(place.name) == Some(&0);
            json!({
                "id": place.id,
                "name": place.name,
                "deprecation": deprecation,
                "recommended": !one.gone,
                "available": !one.gone && !full,
            })
        })
        .collect();
    let category = if one.cpu == "shared" {
        "Shared vCPU"
    } else {
        "Dedicated vCPU"
    };
    json!({
        "id": one.id,
        "name": one.name,
        "description": one.name.to_uppercase(),
        "cores": one.cores,
        "memory": one.memory,
        "disk": one.disk,
        "deprecated": one.gone,
        "prices": prices(one.places, one.hourly, one.monthly),
        "storage_type": "local",
        "cpu_type": one.cpu,
        "category": category,
        "architecture": one.architecture,
        "deprecation": deprecation,
        "locations": locations,
    })
}

pub(crate) fn render_balancer_type(one: &BalancerType) -> Value {
    json!({
        "id": one.id,
        "name": one.name,
        "description": one.name.to_uppercase(),
        "max_connections": one.connections,
        "max_services": one.services,
        "max_targets": one.targets,
        "max_assigned_certificates": one.certificates,
        "deprecated": null,
        "deprecation": null,
        "prices": prices(ALL, one.hourly, one.monthly),
    })
}

pub(crate) fn render_image(one: &Image) -> Value {
    json!({
        "id": one.id,
        "type": "system",
        "status": "available",
        "name": one.name,
        "description": one.description,
        "image_size": null,
        "disk_size": 5,
        "created": "2024-04-25T13:26:27Z",
        "created_from": null,
        "bound_to": null,
        "os_flavor": one.flavor,
        "os_version": one.version,
        "rapid_deploy": true,
        "protection": {"delete": false},
        "deprecated": null,
        "deleted": null,
        "labels": {},
        "architecture": one.architecture,
    })
}

fn page_of(ask: &Ask, many: &str, rows: Vec<Value>) -> Answer {
    let paging = Paging::of(ask)?;
    let total = rows.len();
    Ok(paging.reply(many, paging.cut(rows), total))
}

fn sorted_by<T>(
    ask: &Ask,
    fields: &[&str],
    all: &mut [&T],
    key: impl Fn(&T) -> (u64, &'static str),
) -> Result<(), Problem> {
    for (field, descending) in sorting(ask, fields)?.into_iter().rev() {
        all.sort_by(|a, b| {
            let by_this = if field == "name" {
                key(a).1.cmp(key(b).1)
            } else {
                key(a).0.cmp(&key(b).0)
            };
            if descending { by_this.reverse() } else { by_this }
        });
    }
    Ok(())
}

pub(crate) fn locations(_: &mut World, ask: &Ask) -> Answer {
    let mut found: Vec<&Location> = LOCATIONS.iter().filter(|one| passes(ask, "name", one.name)).collect();
    sorted_by(ask, &["id", "name"], &mut found, |one| (one.id, one.name))?;
    page_of(ask, "locations", found.into_iter().map(render_location).collect())
}

pub(crate) fn one_location(_: &mut World, ask: &Ask) -> Answer {
    let found = LOCATIONS.iter().find(|one| ask.id(0) == Some(one.id));
    let found = found.ok_or_else(|| Problem::not_found("location", ask.part(0)))?;
    Ok(Reply::json(200, json!({"location": render_location(found)})))
}

pub(crate) fn server_types(world: &mut World, ask: &Ask) -> Answer {
    let found = SERVER_TYPES.iter().filter(|one| passes(ask, "name", one.name));
    page_of(
        ask,
        "server_types",
        found.map(|one| render_server_type(one, world)).collect(),
    )
}

pub(crate) fn one_server_type(world: &mut World, ask: &Ask) -> Answer {
    let found = SERVER_TYPES.iter().find(|one| ask.id(0) == Some(one.id));
    let found = found.ok_or_else(|| Problem::not_found("server_type", ask.part(0)))?;
    Ok(Reply::json(
        200,
        json!({"server_type": render_server_type(found, world)}),
    ))
}

pub(crate) fn balancer_types(_: &mut World, ask: &Ask) -> Answer {
    let found = BALANCER_TYPES.iter().filter(|one| passes(ask, "name", one.name));
    page_of(ask, "load_balancer_types", found.map(render_balancer_type).collect())
}

pub(crate) fn one_balancer_type(_: &mut World, ask: &Ask) -> Answer {
    let found = BALANCER_TYPES.iter().find(|one| ask.id(0) == Some(one.id));
    let found = found.ok_or_else(|| Problem::not_found("load_balancer_type", ask.part(0)))?;
    Ok(Reply::json(
        200,
        json!({"load_balancer_type": render_balancer_type(found)}),
    ))
}

pub(crate) fn images(_: &mut World, ask: &Ask) -> Answer {
    allowed(ask, "type", &["system", "app", "snapshot", "backup"])?;
    allowed(ask, "status", &["available", "creating", "unavailable"])?;
    allowed(ask, "architecture", &["x86", "arm"])?;
    allowed(ask, "include_deprecated", &["true", "false"])?;
    let mut found: Vec<&Image> = IMAGES
        .iter()
        .filter(|one| passes(ask, "name", one.name) && passes(ask, "architecture", one.architecture))
        .filter(|_| passes(ask, "type", "system") && passes(ask, "status", "available"))
        .filter(|_| ask.first("bound_to").is_none() && ask.first("label_selector").is_none_or(str::is_empty))
        .collect();
    sorted_by(ask, &["id", "name", "created"], &mut found, |one| (one.id, one.name))?;
    page_of(ask, "images", found.into_iter().map(render_image).collect())
}

pub(crate) fn one_image(_: &mut World, ask: &Ask) -> Answer {
    let found = IMAGES.iter().find(|one| ask.id(0) == Some(one.id));
    let found = found.ok_or_else(|| Problem::not_found("image", ask.part(0)))?;
    Ok(Reply::json(200, json!({"image": render_image(found)})))
}

pub(crate) fn pricing(_: &mut World, _: &Ask) -> Answer {
    let of_address = |kind: &str, hourly: f64, monthly: f64| {
        let prices: Vec<Value> = LOCATIONS
            .iter()
            .map(|one| json!({"location": one.name, "price_hourly": money(hourly), "price_monthly": money(monthly)}))
            .collect();
        json!({"type": kind, "prices": prices})
    };
    let floating = |kind: &str, monthly: f64| {
        let prices: Vec<Value> = LOCATIONS
            .iter()
            .map(|one| json!({"location": one.name, "price_monthly": money(monthly)}))
            .collect();
        json!({"type": kind, "prices": prices})
    };
    let of_server = |one: &ServerType| json!({"id": one.id, "name": one.name, "prices": prices(one.places, one.hourly, one.monthly)});
    let of_balancer =
        |one: &BalancerType| json!({"id": one.id, "name": one.name, "prices": prices(ALL, one.hourly, one.monthly)});
    Ok(Reply::json(
        200,
        json!({"pricing": {
            "currency": "EUR",
            "vat_rate": "19.00",
            "primary_ips": [of_address("ipv4", 0.0008, 0.5), of_address("ipv6", 0.0, 0.0)],
            "floating_ips": [floating("ipv4", 3.0), floating("ipv6", 1.0)],
            "floating_ip": {"price_monthly": money(3.0)},
            "image": {"price_per_gb_month": money(0.011)},
            "volume": {"price_per_gb_month": money(0.044)},
            "server_backup": {"percentage": "20.00"},
            "server_types": SERVER_TYPES.iter().map(of_server).collect::<Vec<_>>(),
            "load_balancer_types": BALANCER_TYPES.iter().map(of_balancer).collect::<Vec<_>>(),
        }}),
    ))
}
