//! The example workspace on three clouds: stand-ins for DigitalOcean and Hetzner Cloud, moto for AWS, the real shell.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use ha_stand_ins::{Token, digitalocean, hetzner};
use ha_tests::{Cluster, Row};
use tokio::runtime::Runtime;

/// Of moto's own images: it knows neither Canonical's nor their names in SSM.
const IMAGE: &str = "ami-12c6146b";
const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K clouds";

/// Three clouds, and a workspace that points at them. Fields are dropped in order: the workspace destroys itself first.
struct Clouds {
    cluster: Cluster,
    hetzner: hetzner::StandIn,
    digitalocean: digitalocean::StandIn,
    _moto: Moto,
    _runtime: Runtime,
}

impl Clouds {
    fn new(theme: &str) -> Self {
        let runtime = Runtime::new().expect("threads");
        let (hetzner, digitalocean) =
            runtime.block_on(async { (hetzner::StandIn::start().await, digitalocean::StandIn::start().await) });
        let certificate = digitalocean.world(|world| world.plant_certificate("shop", &["api.example.com"]));
        let moto = Moto::start();
        let cluster = Cluster::new(theme);
        cluster.edit("your-certificate-id", &certificate);
        for _ in 0..2 {
            cluster.edit(
                "instance_type = \"t3.medium\",\n      key_name",
                &format!("instance_type = \"t3.medium\",\n      image_id = \"{IMAGE}\",\n      key_name"),
            );
        }
        let secret = |name: &str, text: &str| {
            let path = cluster.folder().join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        };
        secret("do", &digitalocean.token());
        secret("hetzner", &hetzner.token());
        secret("aws", "secret");
        secret("key.pub", PUBLIC_KEY);
        let config = format!(
            "target = \"cloud\"\n\
             [cloud]\nssh_public_key = \"key.pub\"\n\
             [providers.digitalocean]\ntoken = {{ file = \"do\" }}\nendpoint = \"{}\"\n\
             [providers.hetzner]\ntoken = {{ file = \"hetzner\" }}\nendpoint = \"{}\"\n\
             [providers.aws]\naccess_key_id = {{ command = [\"echo\", \"AKIAEXAMPLE\"] }}\n\
             secret_access_key = {{ file = \"aws\" }}\nendpoint = \"{}\"\n",
            digitalocean.endpoint(),
            hetzner.endpoint(),
            moto.endpoint,
        );
        fs::write(cluster.folder().join("config.toml"), config).expect("config.toml");
        Self {
            cluster,
            hetzner,
            digitalocean,
            _moto: moto,
            _runtime: runtime,
        }
    }

    /// Every step has to succeed, and nothing is left to do afterwards.
    fn provision(&self) -> Vec<Row> {
        let steps = self.cluster.provision();
        assert_eq!(self.cluster.changes(), [], "after {steps:?}");
        steps
    }

    fn servers(&self) -> Vec<Row> {
        self.cluster.rows("ha inventory server | where status == running")
    }
}

/// An emulator of AWS that others wrote; ends with the value.
struct Moto {
    child: Child,
    endpoint: String,
}

impl Moto {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges/aws/moto.sh");
        let mut child = Command::new(&script)
            .args(["-H", "127.0.0.1", "-p", "0"])
            // It ends when this does.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let told = lines.by_ref().map_while(Result::ok);
        let address = told
            .filter_map(|line| Some(line.split_once("http://")?.1.trim().to_owned()))
            .next();
        let endpoint = format!("http://{}", address.expect("moto says where it listens"));
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, endpoint }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_example_comes_up_changes_drifts_is_repaired_and_goes() {
    let clouds = Clouds::new("clouds");
    let cluster = &clouds.cluster;
    assert_eq!(cluster.rows("ha check"), []);
    let steps = clouds.provision();
    let made = |kind: &str| steps.iter().filter(|step| step.is("kind", kind)).count();
    assert_eq!(
        (
            made("network"),
            made("server"),
            made("load_balancer"),
            made("store"),
            made("database")
        ),
        (3, 12, 3, 3, 3)
    );
    let servers = clouds.servers();
    assert_eq!(servers.len(), 12);
    for server in &servers {
        assert!(
            !server.is_null("address") && !server.is_null("private_address"),
            "{server:?}"
        );
    }
    // What a server is given holds no secret, and the guard's unit is in it.
    let user_data = clouds.hetzner.world(|world| {
        let mut servers = world.servers.values();
        let of_database = servers.find(|it| it.name == "eu-db-1").expect("eu-db-1");
        of_database.user_data.clone().unwrap_or_default()
    });
    assert!(user_data.contains("ha-guard"), "{user_data}");

    // One more, and one less elsewhere.
    cluster.edit(
        "location = \"nbg1\",\n      count = 3",
        "location = \"nbg1\",\n      count = 4",
    );
    cluster.edit(
        "region = \"nyc3\",\n      count = 3",
        "region = \"nyc3\",\n      count = 2",
    );
    let names: Vec<_> = clouds
        .provision()
        .iter()
        .map(|step| step.text("name").to_owned())
        .collect();
    assert!(
        names.contains(&"eu-app-4".to_owned()) && names.contains(&"us-app-3".to_owned()),
        "{names:?}"
    );
    assert_eq!(clouds.servers().len(), 12);

    // By hand, at the provider: seen, named, and put back.
    clouds.hetzner.world(|world| {
        let balancer = world.load_balancers.values_mut().next().expect("a balancer");
        balancer.algorithm = "least_connections";
    });
    let drift = cluster.changes();
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert!(
        drift[0].is("name", "eu-lb") && drift[0].text("reason").contains("by hand"),
        "{drift:?}"
    );
    clouds.provision();

    // Off and on again.
    let off = cluster.rows("ha power off us-app-1");
    assert!(off[0].is("status", "off"), "{off:?}");
    assert_eq!(clouds.servers().len(), 11);
    cluster.rows("ha power on us-app-1");

    let last = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert_eq!(
        (last.text("status"), last.number("left")),
        ("done", Some(0)),
        "{last:?}"
    );
    let left = clouds
        .hetzner
        .world(|world| world.servers.len() + world.networks.len() + world.load_balancers.len());
    assert_eq!(left, 0, "at Hetzner");
    let left = clouds
        .digitalocean
        .world(|world| world.droplets.len() + world.load_balancers.len());
    assert_eq!(left, 0, "at DigitalOcean");
}

#[test]
fn a_provider_that_refuses_hides_no_other() {
    let clouds = Clouds::new("refused");
    let cluster = &clouds.cluster;
    clouds.provision();
    clouds.hetzner.knobs(|knobs| knobs.token = Token::Expired);

    let rows = cluster.rows("ha inventory");
    let unknown: Vec<_> = rows.iter().filter(|row| row.is("status", "unknown")).collect();
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert!(
        unknown[0].is("provider", "hetzner") && unknown[0].is("region", "eu-central"),
        "{unknown:?}"
    );
    assert!(
        rows.iter().filter(|row| row.is("status", "running")).count() > 10,
        "{rows:?}"
    );
    let plan = cluster.changes();
    assert!(plan.len() == 1 && plan[0].is("action", "unknown"), "{plan:?}");
    // Nothing is claimed of what could not be asked.
    let last = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert!(last.is("status", "failed") && last.is_null("left"), "{last:?}");

    clouds.hetzner.knobs(|knobs| knobs.token = Token::Full);
    let last = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert_eq!(
        (last.text("status"), last.number("left")),
        ("done", Some(0)),
        "{last:?}"
    );
}

/// Tokens and user data stand in no row, no error, and in nothing that is written on this machine.
#[test]
fn no_secret_is_shown_or_kept() {
    let clouds = Clouds::new("secret");
    let cluster = &clouds.cluster;
    let json = |pipeline: &str| {
        let value = cluster.nu(&format!("{pipeline} | to json"));
        value.unwrap_or_else(|refused| panic!("{refused}")).to_string()
    };
    let mut said = vec![
        json("ha provision"),
        json("ha inventory"),
        json("ha limits"),
        json("ha plan"),
    ];
    clouds.hetzner.knobs(|knobs| knobs.token = Token::Expired);
    said.push(json("ha inventory"));
    said.push(json("ha provision"));
    clouds.hetzner.knobs(|knobs| knobs.token = Token::Full);
    said.extend(kept(&cluster.state_home()));
    assert!(said.len() > 6, "acts are written");
    let tokens = [clouds.digitalocean.token(), clouds.hetzner.token()];
    for text in &said {
        let secrets = tokens.iter().map(String::as_str).chain(["#cloud-config"]);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is shown: {text}");
        }
    }
    cluster.rows(&format!("ha destroy {}", cluster.name));
}

/// All files below a folder.
fn kept(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => kept(&path),
        path => vec![String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned()],
    });
    files.collect()
}
