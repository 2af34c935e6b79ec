//! Names in front of two clouds: stand-ins for DigitalOcean and Hetzner Cloud, moto for Route 53, the real shell.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use ha_stand_ins::{Token, digitalocean, hetzner};
use ha_tests::{Cluster, Row};
use tokio::runtime::Runtime;

use crate::world::Moto;

/// As little as has two balancers. Their checks ask where they listen.
const WORKSPACE: &str = r#"
let { digitalocean, hetzner, aws, Workspace, .. } = import "ha.ncl" in
{
  workspace = "NAME",
  dns = aws.Route53 & {
    domain = "api.example.com",
    default_region = "us-east",
    health_check = { protocol = "HTTP", port = 80 },
  },
  region_us_east = {
    role = 'Primary,
    network = digitalocean.VPC & { name = "us-net", region = "nyc3", ip_range = "10.0.0.0/16" },
    app_servers = digitalocean.Droplet & { name = "us-app", region = "nyc3", count = 1, size = "s-2vcpu-4gb" },
    load_balancer = digitalocean.LoadBalancer & {
      name = "us-lb",
      region = "nyc3",
      targets = "us-app",
      forwarding_rules = [{ entry_port = 80, target_port = 8080 }],
    },
  },
  region_eu_central = {
    role = 'Secondary,
    network = hetzner.Network & { name = "eu-net", ip_range = "10.1.0.0/16" },
    app_servers = hetzner.Server & { name = "eu-app", location = "nbg1", count = 1, server_type = "cpx21" },
    load_balancer = hetzner.LoadBalancer & {
      name = "eu-lb",
      location = "nbg1",
      targets = "eu-app",
      forwarding_rules = [{ entry_port = 80, target_port = 8080 }],
    },
  },
} | Workspace
"#;

/// Fields are dropped in order: the workspace destroys itself first.
struct Names {
    cluster: Cluster,
    digitalocean: digitalocean::StandIn,
    _hetzner: hetzner::StandIn,
    _moto: Moto,
    _runtime: Runtime,
}

impl Names {
    fn new(theme: &str) -> Self {
        let runtime = Runtime::new().expect("threads");
        let (hetzner, digitalocean) =
            runtime.block_on(async { (hetzner::StandIn::start().await, digitalocean::StandIn::start().await) });
        let moto = Moto::start();
        let cluster = Cluster::new(theme);
        let write = |name: &str, text: &str| {
            let path = cluster.folder().join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        };
        write("workspace.ncl", &WORKSPACE.replace("NAME", &cluster.name));
        write("do", &digitalocean.token());
        write("hetzner", &hetzner.token());
        let (ocean, cloud, dns) = (digitalocean.endpoint(), hetzner.endpoint(), &moto.endpoint);
        write(
            "config.toml",
            &format!(
                "target = \"cloud\"\n\
                 [providers.digitalocean]\ntoken = {{ file = \"do\" }}\nendpoint = \"{ocean}\"\n\
                 [providers.hetzner]\ntoken = {{ file = \"hetzner\" }}\nendpoint = \"{cloud}\"\n\
                 [providers.aws]\naccess_key_id = {{ command = [\"echo\", \"AKIAEXAMPLE\"] }}\n\
                 secret_access_key = {{ command = [\"echo\", \"secret\"] }}\nendpoint = \"{dns}\"\n",
            ),
        );
        Self {
            cluster,
            digitalocean,
            _hetzner: hetzner,
            _moto: moto,
            _runtime: runtime,
        }
    }

    fn plan(&self) -> Vec<Row> {
        self.cluster.rows("ha dns plan")
    }

    /// `name set` of the addresses, with where they lead.
    fn addresses(&self) -> Vec<(String, String)> {
        let records = self.cluster.rows("ha dns plan | where type == A and value != null");
        let key = |row: &Row| match row.is_null("set_id") {
            true => row.text("name").to_owned(),
            false => format!("{} {}", row.text("name"), row.text("set_id")),
        };
        records
            .iter()
            .map(|row| (key(row), row.text("value").to_owned()))
            .collect()
    }

    fn balancer(&self, name: &str) -> String {
        let found = self
            .cluster
            .rows(&format!("ha inventory load_balancer | where name == {name}"));
        found[0].text("address").to_owned()
    }
}

fn with_action<'a>(rows: &'a [Row], action: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.is("action", action)).collect()
}

#[test]
fn names_are_made_point_elsewhere_and_leave_with_what_they_lead_to() {
    let names = Names::new("dns");
    let cluster = &names.cluster;
    assert_eq!(cluster.rows("ha check"), []);
    // Before there is anything to lead to.
    let plan = names.plan();
    assert_eq!(with_action(&plan, "create").len(), 1, "{plan:?}");
    let waiting = plan
        .iter()
        .filter(|row| row.text("reason").contains("ha provision makes it"));
    assert_eq!(waiting.count(), 2, "{plan:?}");
    let error = cluster.nu("ha dns point eu-central").expect_err("there is no zone");
    assert_eq!(error.code, "ha::dns::absent", "{error}");

    cluster.provision();
    let (us, eu) = (names.balancer("us-lb"), names.balancer("eu-lb"));
    let dry = cluster.rows("ha dns apply --dry-run");
    assert!(dry.iter().all(|row| row.is("status", "planned")), "{dry:?}");
    let steps = cluster.rows("ha dns apply");
    assert!(steps.iter().all(|row| row.is("status", "done")), "{steps:?}");
    // The same, and the wait until every server knows.
    assert_eq!(steps.len(), dry.len() + 1);
    assert!(steps[steps.len() - 1].is("action", "wait"), "{steps:?}");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let declared = [
        pair("api.example.com us-east:north-america", &us),
        pair("api.example.com eu-central:europe", &eu),
        pair("api.example.com us-east:default", &us),
        pair("eu.api.example.com", &eu),
        pair("us.api.example.com", &us),
    ];
    assert_eq!(names.addresses(), declared);
    let plan = names.plan();
    assert_eq!(with_action(&plan, "none").len(), plan.len(), "{plan:?}");
    assert!(
        plan[0].is("type", "zone") && plan[0].text("value").contains("awsdns"),
        "{plan:?}"
    );
    let again = cluster.rows("ha dns apply");
    assert!(again.len() == 1 && again[0].is("status", "unchanged"), "{again:?}");

    let checks = cluster.rows("ha dns checks");
    let endpoints: Vec<&str> = checks.iter().map(|row| row.text("endpoint")).collect();
    assert_eq!(
        endpoints,
        [format!("http://{eu}:80/health"), format!("http://{us}:80/health")]
    );
    assert!(checks.iter().all(|row| row.is("status", "healthy")), "{checks:?}");

    // Everybody elsewhere, and an apply leaves them there.
    let dry = cluster.rows("ha dns point eu-central --dry-run");
    assert_eq!(names.addresses(), declared, "{dry:?}");
    let steps = cluster.rows("ha dns point eu-central");
    assert!(steps.iter().all(|row| row.is("status", "done")), "{steps:?}");
    let pointed = [
        pair("api.example.com", &eu),
        pair("eu.api.example.com", &eu),
        pair("us.api.example.com", &us),
    ];
    assert_eq!(names.addresses(), pointed);
    let again = cluster.rows("ha dns apply");
    assert!(again.len() == 1 && again[0].is("status", "unchanged"), "{again:?}");
    assert!(
        holds(&cluster.state_home(), "dns.point.create"),
        "what was done is remembered"
    );
    let error = cluster.nu("ha dns point mars").expect_err("there is no such region");
    assert_eq!(error.code, "ha::region::unknown", "{error}");

    // Who does not answer keeps no other from being seen, and nothing of it changes.
    names.digitalocean.knobs(|knobs| knobs.token = Token::Expired);
    let plan = names.plan();
    assert_eq!(with_action(&plan, "unknown").len(), 3, "{plan:?}");
    assert!(
        plan.iter()
            .all(|row| !["create", "update", "delete"].contains(&row.text("action"))),
        "{plan:?}"
    );
    let error = cluster.nu("ha dns point us-east").expect_err("where is it?");
    assert_eq!(error.code, "ha::dns::silent", "{error}");
    names.digitalocean.knobs(|knobs| knobs.token = Token::Full);

    // An address that is given back may be somebody else's tomorrow: no name leads there.
    cluster.rows(&format!("ha destroy {}", cluster.name));
    cluster.rows("ha dns apply");
    let left = names.plan();
    let gone = |row: &Row| row.is("type", "zone") || row.is_null("value");
    assert!(left.iter().all(gone), "{left:?}");
}

/// Some file below the folder says so.
fn holds(folder: &Path, text: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| match path.is_dir() {
        true => holds(&path, text),
        false => String::from_utf8_lossy(&fs::read(&path).expect("a file")).contains(text),
    })
}
