//! What exists at the providers and carries no labels: shown, written down as a workspace, given its labels.
//!
//! Stand-ins for DigitalOcean and Hetzner Cloud, the real shell.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ha_stand_ins::{
    Token, digitalocean,
    hetzner::{self, Target, TargetOf},
};
use ha_tests::{Cluster, Row};
use serde_json::Value;
use tokio::runtime::Runtime;

const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K existing";
/// Long before the test: what is young is nobody's yet.
const THEN: &str = "2026-01-01T00:00:00Z";

/// Two clouds, and a folder beside the workspace in which nothing is but who asks. Fields are dropped in order.
struct Clouds {
    cluster: Cluster,
    hetzner: hetzner::StandIn,
    digitalocean: digitalocean::StandIn,
    _runtime: Runtime,
}

impl Clouds {
    fn new(theme: &str) -> Self {
        let runtime = Runtime::new().expect("threads");
        let (hetzner, digitalocean) =
            runtime.block_on(async { (hetzner::StandIn::start().await, digitalocean::StandIn::start().await) });
        let certificate = digitalocean.world(|world| world.plant_certificate("shop", &["api.example.com"]));
        let cluster = Cluster::new(theme);
        cluster.edit("your-certificate-id", &certificate);
        cluster.remove_region("asia-southeast");
        let config = format!(
            "target = \"cloud\"\n\
             [cloud]\nssh_public_key = \"key.pub\"\n\
             [providers.digitalocean]\nregion_name = \"us-east\"\ntoken = {{ file = \"do\" }}\nendpoint = \"{}\"\n\
             [providers.hetzner]\nregion_name = \"eu-central\"\ntoken = {{ file = \"hetzner\" }}\nendpoint = \"{}\"\n",
            digitalocean.endpoint(),
            hetzner.endpoint(),
        );
        let fresh = cluster.folder().join("fresh");
        fs::create_dir(&fresh).expect("a folder");
        for folder in [cluster.folder(), fresh] {
            for (name, text) in [
                ("do", digitalocean.token()),
                ("hetzner", hetzner.token()),
                ("key.pub", PUBLIC_KEY.to_owned()),
                ("config.toml", config.clone()),
            ] {
                let path = folder.join(name);
                fs::write(&path, text).expect("a file");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
            }
        }
        Self {
            cluster,
            hetzner,
            digitalocean,
            _runtime: runtime,
        }
    }

    /// Makes of everything what a person has who knows nothing of labels: balancers name servers one by one.
    fn forget(&self) {
        self.digitalocean.world(|world| {
            let apps = world.droplets.values().filter(|it| it.name.starts_with("us-app-"));
            let apps: Vec<u64> = apps.map(|it| it.id).collect();
            for it in world.load_balancers.values_mut() {
                it.tag.clear();
                it.droplets.clone_from(&apps);
            }
            for it in world.droplets.values_mut() {
                it.tags.clear();
                it.created = THEN.parse().expect("a time");
            }
            for it in world.vpcs.values_mut() {
                it.description.clear();
                it.created = THEN.parse().expect("a time");
            }
            world
                .load_balancers
                .values_mut()
                .for_each(|it| it.created = THEN.parse().expect("a time"));
            world.tags.clear();
        });
        self.hetzner.world(|world| {
            let apps = world.servers.values().filter(|it| it.name.starts_with("eu-app-"));
            let target = |number: u64| Target {
                of: TargetOf::Server(number),
                use_private_ip: true,
            };
            let apps: Vec<Target> = apps.map(|it| target(it.id)).collect();
            for it in world.load_balancers.values_mut() {
                it.labels.clear();
                it.targets.clone_from(&apps);
                it.created = THEN.parse().expect("a time");
            }
            for it in world.servers.values_mut() {
                it.labels.clear();
                it.created = THEN.parse().expect("a time");
            }
            for it in world.networks.values_mut() {
                it.labels.clear();
                it.created = THEN.parse().expect("a time");
            }
        });
    }

    /// Rows of a pipeline in the folder that has no workspace of its own at first.
    fn fresh(&self, pipeline: &str) -> Vec<Row> {
        self.cluster.rows(&format!("cd fresh; {pipeline}"))
    }

    fn import(&self) -> Value {
        let import = format!("cd fresh; ha import --name {} --save workspace.ncl", self.cluster.name);
        self.cluster.nu(&import).unwrap_or_else(|refused| panic!("{refused}"))
    }
}

fn texts<'a>(rows: &'a [Row], column: &str) -> Vec<&'a str> {
    rows.iter().map(|row| row.text(column)).collect()
}

#[test]
fn what_exists_becomes_a_workspace_that_has_nothing_to_do() {
    let clouds = Clouds::new("existing");
    clouds.cluster.provision();
    clouds.forget();

    let told = clouds.import();
    let rows = told["resources"].as_array().expect("a table");
    let odd: Vec<&Value> = rows.iter().filter(|row| row["status"] != "written").collect();
    assert_eq!(odd, [] as [&Value; 0]);
    // Two networks, four servers at each, two balancers.
    assert_eq!(rows.len(), 12, "{rows:#?}");
    let text = fs::read_to_string(clouds.cluster.folder().join("fresh/workspace.ncl")).expect("the file");
    assert_eq!(told["workspace"].as_str(), Some(text.as_str()));
    assert_eq!(clouds.fresh("ha check"), [], "{text}");
    let again = clouds.cluster.refused("cd fresh; ha import --save workspace.ncl");
    assert!(again.message.contains("already there"), "{again}");

    // All of it is declared by now, and nothing is labelled.
    let orphans = clouds.fresh("ha orphans");
    assert_eq!(orphans.len(), 12, "{orphans:#?}");
    assert!(orphans.iter().all(|row| row.is("why", "unlabelled")), "{orphans:#?}");
    assert!(
        orphans.iter().all(|row| row.text("help").contains("ha adopt")),
        "{orphans:#?}"
    );

    let planned = clouds.fresh("ha adopt --dry-run");
    assert!(planned.iter().all(|row| row.is("status", "planned")), "{planned:#?}");
    assert_eq!(clouds.fresh("ha orphans").len(), 12, "a dry run writes nothing");
    let adopted = clouds.fresh("ha adopt");
    let failed: Vec<&Row> = adopted.iter().filter(|row| !row.is("status", "done")).collect();
    assert_eq!((adopted.len(), failed), (12, Vec::new()));

    assert_eq!(clouds.fresh("ha plan | where action != none"), []);
    assert_eq!(clouds.fresh("ha orphans"), []);
    let again = clouds.fresh("ha adopt");
    assert_eq!(
        (texts(&again, "action"), texts(&again, "status")),
        (vec!["none"], vec!["unchanged"])
    );

    // What was adopted is ours in every way.
    let last = clouds
        .fresh(&format!("ha destroy {}", clouds.cluster.name))
        .pop()
        .expect("rows");
    assert_eq!(
        (last.text("status"), last.number("left")),
        ("done", Some(0)),
        "{last:?}"
    );
    assert_eq!(clouds.hetzner.world(|world| world.servers.len()), 0);
    assert_eq!(clouds.digitalocean.world(|world| world.droplets.len()), 0);
}

#[test]
fn of_two_that_are_called_so_nobody_chooses_and_another_workspace_keeps_its_own() {
    let clouds = Clouds::new("two");
    let cluster = &clouds.cluster;
    let [first, second] = clouds
        .digitalocean
        .world(|world| ["us-app-1", "us-app-1"].map(|name| world.plant_droplet(name, &[])));
    clouds.hetzner.world(|world| {
        let labels = [("ha/ws", "other"), ("ha/region", "eu-central"), ("ha/name", "eu-app-1")];
        world.plant_server("eu-app-1", &labels);
    });
    let rows = cluster.rows("ha adopt us-app-1 eu-app-1");
    let of = |name: &str| rows.iter().find(|row| row.is("name", name)).expect("a row");
    assert_eq!(of("us-app-1").text("code"), "ha::adopt::ambiguous");
    assert!(
        of("us-app-1").text("help").contains(&format!("--id {first}")),
        "{rows:#?}"
    );
    assert_eq!(of("eu-app-1").text("code"), "ha::adopt::taken");
    let chosen = cluster.rows(&format!("ha adopt us-app-1 --id {second}"));
    assert_eq!(
        (texts(&chosen, "status"), texts(&chosen, "id")),
        (vec!["done"], vec![second.to_string().as_str()])
    );
    let tagged = clouds
        .digitalocean
        .world(|world| [first, second].map(|number| !world.droplets[&number].tags.is_empty()));
    assert_eq!(tagged, [false, true]);
    let refused = cluster.refused("ha adopt --id 7");
    assert_eq!(refused.code, "ha::argument::invalid", "{refused}");

    // A provider that refuses hides no other.
    clouds.hetzner.knobs(|knobs| knobs.token = Token::Expired);
    let rows = cluster.rows("ha orphans");
    let silent: Vec<&Row> = rows.iter().filter(|row| row.is("why", "unknown")).collect();
    assert_eq!(silent.len(), 1, "{rows:#?}");
    assert!(
        silent[0].is("provider", "hetzner") && !silent[0].is_null("error"),
        "{silent:?}"
    );
    let told = clouds.import();
    let unknown = told["resources"]
        .as_array()
        .expect("a table")
        .iter()
        .find(|row| row["status"] == "unknown");
    assert_eq!(unknown.expect("a row")["provider"], "hetzner");
}
