//! What DigitalOcean sells: regions, sizes, images. The figures are in the likeness of the price list of 2026,
//! for tests to count with; nobody is billed by them.

use serde_json::{Value, json};

use super::reply::{Answer, Page, Problem, allowed};
use super::world::World;
use crate::wire::{Ask, Reply};

/// Every region that the description knows, also those that are closed.
pub(crate) const SLUGS: &[&str] = &[
    "ams1", "ams2", "ams3", "blr1", "fra1", "lon1", "nyc1", "nyc2", "nyc3", "sfo1", "sfo2", "sfo3", "sgp1", "tor1",
    "syd1",
];

pub(crate) struct Region {
    pub(crate) slug: &'static str,
    name: &'static str,
    pub(crate) available: bool,
}

const fn region(slug: &'static str, name: &'static str, available: bool) -> Region {
    Region { slug, name, available }
}

const REGIONS: &[Region] = &[
    region("nyc1", "New York 1", true),
    region("sfo1", "San Francisco 1", false),
    region("nyc3", "New York 3", true),
    region("ams3", "Amsterdam 3", true),
    region("sgp1", "Singapore 1", true),
    region("lon1", "London 1", true),
    region("fra1", "Frankfurt 1", true),
    region("tor1", "Toronto 1", true),
    region("blr1", "Bangalore 1", true),
    region("sfo3", "San Francisco 3", true),
    region("syd1", "Sydney 1", true),
];

pub(crate) struct Size {
    pub(crate) slug: &'static str,
    pub(crate) memory: u64,
    pub(crate) vcpus: u64,
    pub(crate) disk: u64,
    monthly: f64,
    description: &'static str,
}

const fn size(
    slug: &'static str,
    (memory, vcpus, disk): (u64, u64, u64),
    monthly: f64,
    description: &'static str,
) -> Size {
    Size {
        slug,
        memory,
        vcpus,
        disk,
        monthly,
        description,
    }
}

const SIZES: &[Size] = &[
    size("s-1vcpu-1gb", (1024, 1, 25), 6.0, "Basic"),
    size("s-1vcpu-2gb", (2048, 1, 50), 12.0, "Basic"),
    size("s-2vcpu-2gb", (2048, 2, 60), 18.0, "Basic"),
    size("s-2vcpu-4gb", (4096, 2, 80), 24.0, "Basic"),
    size("s-4vcpu-8gb", (8192, 4, 160), 48.0, "Basic"),
    size("s-8vcpu-16gb", (16_384, 8, 320), 96.0, "Basic"),
    size("c-2", (4096, 2, 25), 42.0, "CPU-Optimized"),
    size("g-2vcpu-8gb", (8192, 2, 25), 63.0, "General Purpose"),
];

pub(crate) struct Image {
    pub(crate) id: u64,
    pub(crate) slug: &'static str,
    name: &'static str,
    distribution: &'static str,
}

const IMAGES: &[Image] = &[
    Image {
        id: 155_133_621,
        slug: "ubuntu-24-04-x64",
        name: "24.04 (LTS) x64",
        distribution: "Ubuntu",
    },
    Image {
        id: 112_929_454,
        slug: "ubuntu-22-04-x64",
        name: "22.04 (LTS) x64",
        distribution: "Ubuntu",
    },
    Image {
        id: 195_932_981,
        slug: "debian-13-x64",
        name: "13 x64",
        distribution: "Debian",
    },
    Image {
        id: 133_466_119,
        slug: "debian-12-x64",
        name: "12 x64",
        distribution: "Debian",
    },
];

pub(crate) fn find_region(slug: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|one| one.slug == slug)
}

pub(crate) fn find_size(slug: &str) -> Option<&'static Size> {
    SIZES.iter().find(|one| one.slug == slug)
}

/// By slug or number.
pub(crate) fn find_image(text: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|one| one.slug == text || text.parse() == Ok(one.id))
}

/// Whether a region takes Droplets now.
pub(crate) fn has_room(world: &World, region: &Region) -> bool {
    region.available && world.knobs.capacity.get(region.slug) != Some(&0)
}

pub(crate) fn render_region(region: &Region, world: &World) -> Value {
    let sizes: Vec<&str> = if has_room(world, region) {
        SIZES.iter().map(|one| one.slug).collect()
    } else {
        Vec::new()
    };
    json!({
        "name": region.name,
        "slug": region.slug,
        "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
        "available": region.available,
        "sizes": sizes,
    })
}

pub(crate) fn region_of(slug: &str, world: &World) -> Value {
    find_region(slug).map_or(Value::Null, |region| render_region(region, world))
}

fn disk_info(disk: u64) -> Value {
    json!([{"type": "local", "size": {"amount": disk, "unit": "gib"}}])
}

pub(crate) fn render_size(size: &Size, world: &World) -> Value {
    let regions: Vec<&str> = REGIONS
        .iter()
        .filter(|region| has_room(world, region))
        .map(|region| region.slug)
        .collect();
    json!({
        "slug": size.slug,
        "memory": size.memory,
        "vcpus": size.vcpus,
        "disk": size.disk,
        "transfer": 4.0,
        "price_monthly": size.monthly,
        "price_hourly": (size.monthly / 672.0 * 100_000.0).round() / 100_000.0,
        "regions": regions,
        "available": !regions.is_empty(),
        "description": size.description,
        "disk_info": disk_info(size.disk),
    })
}

pub(crate) fn render_image(image: &Image) -> Value {
    let regions: Vec<&str> = REGIONS.iter().map(|region| region.slug).collect();
    json!({
        "id": image.id,
        "name": image.name,
        "distribution": image.distribution,
        "slug": image.slug,
        "public": true,
        "regions": regions,
        "created_at": "2026-01-15T05:47:50Z",
        "type": "base",
        "min_disk_size": 7,
        "size_gigabytes": 0.66,
        "description": format!("{} {}", image.distribution, image.name),
        "tags": [],
        "status": "available",
        "error_message": "",
    })
}

pub(crate) fn regions(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, REGIONS, |one| render_region(one, world))?.reply(world, ask, "regions")
}

pub(crate) fn sizes(world: &mut World, ask: &Ask) -> Answer {
    Page::of(ask, SIZES, |one| render_size(one, world))?.reply(world, ask, "sizes")
}

pub(crate) fn images(world: &mut World, ask: &Ask) -> Answer {
    allowed(ask, "type", &["application", "distribution"])?;
    allowed(ask, "private", &["true", "false"])?;
    let none = ask.first("type") == Some("application")
        || ask.first("private") == Some("true")
        || ask.first("tag_name").is_some();
    let found = IMAGES.iter().filter(|_| !none);
    Page::of(ask, found, render_image)?.reply(world, ask, "images")
}

pub(crate) fn image(_: &mut World, ask: &Ask) -> Answer {
    let image = find_image(ask.part(0)).ok_or_else(Problem::not_found)?;
    Ok(Reply::json(200, json!({"image": render_image(image)})))
}
