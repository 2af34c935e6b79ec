//! Three clouds without an account: stand-ins for DigitalOcean and Hetzner Cloud, moto for AWS, the real shell.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use ha_stand_ins::{
    digitalocean, hetzner,
    prism::{self, NoJudge, Prism},
};
use ha_tests::{Cluster, Row};
use tokio::runtime::Runtime;

/// Of moto's own images: it knows neither Canonical's nor their names in SSM.
const IMAGE: &str = "ami-12c6146b";
const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K clouds";
/// Looked for wherever anything is said or kept.
pub(crate) const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Three clouds, and a workspace that points at them. Fields are dropped in order: the workspace destroys itself first.
pub(crate) struct Clouds {
    pub(crate) cluster: Cluster,
    pub(crate) hetzner: hetzner::StandIn,
    pub(crate) digitalocean: digitalocean::StandIn,
    moto: Moto,
    _runtime: Runtime,
}

/// The judges between the plugin and the stand-ins.
pub(crate) struct Judges {
    runtime: Runtime,
    judges: [Prism; 2],
}

impl Judges {
    /// What was found wrong by now, in requests and in answers.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let Self { runtime, judges } = self;
        let found = judges.iter_mut().map(|judge| runtime.block_on(judge.violations()));
        found.flat_map(|it| it.expect("the judge lives")).collect()
    }
}

impl Clouds {
    pub(crate) fn new(theme: &str) -> Self {
        let clouds = Self::silent(theme);
        let endpoints = [clouds.digitalocean.endpoint(), clouds.hetzner.endpoint()];
        clouds.configure(&endpoints);
        clouds
    }

    /// The same, and all that the plugin says to DigitalOcean and Hetzner Cloud and hears from them is held against their
    /// own descriptions; or why nobody judges.
    pub(crate) fn judged(theme: &str) -> Result<(Self, Judges), NoJudge> {
        let clouds = Self::silent(theme);
        let runtime = Runtime::new().expect("threads");
        let judges = runtime.block_on(async {
            Ok::<_, NoJudge>([
                Prism::open(prism::Provider::DigitalOcean, &clouds.digitalocean.endpoint()).await?,
                Prism::open(prism::Provider::Hetzner, &clouds.hetzner.endpoint()).await?,
            ])
        })?;
        clouds.configure(&[judges[0].endpoint(), judges[1].endpoint()]);
        Ok((clouds, Judges { runtime, judges }))
    }

    /// Nothing says where the providers are yet.
    fn silent(theme: &str) -> Self {
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
        Self {
            cluster,
            hetzner,
            digitalocean,
            moto,
            _runtime: runtime,
        }
    }

    fn configure(&self, [digitalocean, hetzner]: &[String; 2]) {
        let folder = self.cluster.folder();
        let secret = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        };
        secret("do", &self.digitalocean.token());
        secret("hetzner", &self.hetzner.token());
        secret("aws", AWS_SECRET);
        secret("key.pub", PUBLIC_KEY);
        let config = format!(
            "target = \"cloud\"\n\
             [cloud]\nssh_public_key = \"key.pub\"\n\
             [providers.digitalocean]\ntoken = {{ file = \"do\" }}\nendpoint = \"{digitalocean}\"\n\
             [providers.hetzner]\ntoken = {{ file = \"hetzner\" }}\nendpoint = \"{hetzner}\"\n\
             [providers.aws]\naccess_key_id = {{ command = [\"echo\", \"AKIAEXAMPLE\"] }}\n\
             secret_access_key = {{ file = \"aws\" }}\nendpoint = \"{}\"\n",
            self.moto.endpoint,
        );
        fs::write(folder.join("config.toml"), config).expect("config.toml");
    }

    /// Every step has to succeed, and nothing is left to do afterwards.
    pub(crate) fn provision(&self) -> Vec<Row> {
        let steps = self.cluster.provision();
        assert_eq!(self.cluster.changes(), [], "after {steps:?}");
        steps
    }

    pub(crate) fn servers(&self) -> Vec<Row> {
        self.cluster.rows("ha inventory server | where status == running")
    }
}

/// An emulator of AWS that others wrote; ends with the value.
pub(crate) struct Moto {
    child: Child,
    pub(crate) endpoint: String,
}

impl Moto {
    pub(crate) fn start() -> Self {
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
