//! What is asked of the providers before anything is made there: who is asking, what they may, what there is.
//!
//! Stand-ins for DigitalOcean and Hetzner Cloud; AWS has no credential in most of these, which is one of the cases.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ha_stand_ins::{Fault, Token, When, digitalocean, hetzner};
use ha_tests::{Cluster, Row};
use serde_json::json;
use tokio::runtime::Runtime;

const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K rights";

/// A part that needs nothing of another region.
const SERVERS_OF_ONE: &str = "ha plan | where region == eu-central and kind in [network server] | ha provision";

/// Two clouds that answer and one that nobody has a key for. Fields are dropped in order.
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
        for (name, text) in [
            ("do", digitalocean.token()),
            ("hetzner", hetzner.token()),
            ("key.pub", PUBLIC_KEY.to_owned()),
        ] {
            let path = cluster.folder().join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        }
        let config = format!(
            "target = \"cloud\"\n\
             [cloud]\nssh_public_key = \"key.pub\"\n\
             [providers.digitalocean]\ntoken = {{ file = \"do\" }}\nendpoint = \"{}\"\n\
             [providers.hetzner]\ntoken = {{ file = \"hetzner\" }}\nendpoint = \"{}\"\n\
             [providers.aws]\nsecret_access_key = {{ file = \"nothing\" }}\naccess_key_id = {{ command = [\"false\"] }}\n",
            digitalocean.endpoint(),
            hetzner.endpoint(),
        );
        fs::write(cluster.folder().join("config.toml"), config).expect("config.toml");
        Self {
            cluster,
            hetzner,
            digitalocean,
            _runtime: runtime,
        }
    }

    /// Requests that were not refused and that change something.
    fn changes(&self) -> usize {
        let all = self.hetzner.requests().into_iter().chain(self.digitalocean.requests());
        all.filter(|it| it.method != "GET" && it.status < 400).count()
    }
}

fn of<'a>(rows: &'a [Row], column: &str, text: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.is(column, text)).collect()
}

#[test]
fn a_provider_without_a_credential_keeps_no_other_from_its_work() {
    let clouds = Clouds::new("keyless");
    let cluster = &clouds.cluster;

    let rows = cluster.rows("ha check --credentials");
    let aws = of(&rows, "provider", "aws");
    assert_eq!(aws.len(), 1, "{aws:?}");
    assert!(
        aws[0].is("status", "missing") && aws[0].is("code", "ha::credential::unreadable") && !aws[0].is_null("help"),
        "{aws:?}"
    );
    let others: Vec<_> = rows.iter().filter(|row| !row.is("provider", "aws")).collect();
    assert!(
        others.len() > 20 && others.iter().all(|row| row.is("status", "ok")),
        "{others:?}"
    );
    assert_eq!(clouds.changes(), 0, "asking changes nothing");

    let steps = cluster.rows("ha provision");
    let failed: Vec<_> = steps.iter().filter(|row| !row.is_null("error")).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].is("name", "aws") && failed[0].is("code", "ha::credential::unreadable"),
        "{failed:?}"
    );
    assert_eq!(clouds.hetzner.world(|world| world.servers.len()), 4);
    assert_eq!(clouds.digitalocean.world(|world| world.droplets.len()), 4);
    let rows = cluster.rows("ha inventory");
    assert_eq!(of(&rows, "status", "unknown").len(), 1, "{rows:?}");

    // Nothing is claimed of what could not be asked; what is known goes.
    let last = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert!(last.is("status", "failed") && last.is_null("left"), "{last:?}");
    assert_eq!(clouds.hetzner.world(|world| world.servers.len()), 0);
    assert_eq!(clouds.digitalocean.world(|world| world.droplets.len()), 0);
}

#[test]
fn rights_that_are_missing_are_told_by_their_names() {
    let clouds = Clouds::new("rights");
    let cluster = &clouds.cluster;
    clouds.hetzner.knobs(|knobs| knobs.token = Token::ReadOnly);
    let forbidden = json!({ "id": "forbidden", "message": "You are not authorized to perform this operation" });
    let when = When::exactly("POST", "/v2/load_balancers").times(2);
    clouds.digitalocean.faults().inject(when, Fault::answer(403, forbidden));
    let rows = cluster.rows("ha check --credentials | where provider != aws and status != ok");
    let missing: Vec<(&str, &str)> = rows.iter().map(|row| (row.text("right"), row.text("status"))).collect();
    assert_eq!(
        missing,
        [("load_balancer:create", "missing"), ("Read & Write", "missing")]
    );
    assert!(
        rows[0].text("help").contains("ha check --policy digitalocean"),
        "{rows:?}"
    );

    // The same list as a policy, and only what this workspace needs.
    let scopes = cluster
        .nu("ha check --policy digitalocean | get scopes")
        .expect("scopes")
        .to_string();
    assert!(
        scopes.contains("load_balancer:create") && !scopes.contains("domain:create"),
        "{scopes}"
    );
    let actions = cluster
        .nu("ha check --policy aws | get Statement.Action | flatten")
        .expect("actions")
        .to_string();
    assert!(
        actions.contains("ec2:RunInstances") && !actions.contains("rds:CreateDBInstance"),
        "{actions}"
    );
    assert_eq!(cluster.refused("ha check --policy gcp").code, "ha::argument::invalid");
    assert_eq!(clouds.changes(), 0);
}

#[test]
fn nothing_is_made_anywhere_while_something_cannot_be_had() {
    let clouds = Clouds::new("offers");
    let cluster = &clouds.cluster;
    cluster.edit("server_type = \"cpx21\"", "server_type = \"cpx22\"");
    clouds
        .digitalocean
        .knobs(|knobs| knobs.quotas.extend([("droplets".into(), 3)]));

    let found = cluster.rows("ha check --offers | where severity == error");
    let found: Vec<(&str, &str)> = found.iter().map(|row| (row.text("code"), row.text("path"))).collect();
    assert_eq!(
        found,
        [
            ("ha::offers::quota", "region_us_east.app_servers.count"),
            ("ha::offers::size", "region_eu_central.app_servers.server_type"),
        ]
    );
    for command in ["ha provision", "ha provision --dry-run"] {
        let refused = cluster.refused(command);
        assert_eq!(refused.code, "ha::offers::quota", "{refused}");
        assert!(refused.message.contains("workspace.ncl:"), "{refused}");
        assert!(refused.help.contains("ha check --offers"), "{refused}");
    }
    let refused = cluster.refused(SERVERS_OF_ONE);
    assert_eq!(refused.code, "ha::offers::size", "{refused}");
    assert!(refused.help.contains("\"cpx21\""), "{refused}");
    assert_eq!(clouds.changes(), 0, "nothing was made");

    // A limit of requests that the plan does not fit into.
    cluster.edit("server_type = \"cpx22\"", "server_type = \"cpx21\"");
    // Five creates take fifteen or more; a plan, another look and the shelves come first.
    let limit = ha_stand_ins::RateLimit::per_hour(24);
    clouds.hetzner.knobs(|knobs| knobs.rate_limit = limit);
    let refused = cluster.refused(SERVERS_OF_ONE);
    assert_eq!(refused.code, "ha::offers::calls", "{refused}");
    assert_eq!(clouds.changes(), 0, "nothing was made");
}
