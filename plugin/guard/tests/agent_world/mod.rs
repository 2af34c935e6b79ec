//! A store and a few nodes on loopback, as a provider would lay them out. Everything in it ends with the test.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ha_core::{
    agent::{FailoverConfig, GuardConfig, NodePolicy, Peer, PostgresConfig, StoreConfig, TlsFiles},
    model::{FailoverPolicy, SyncMode, TimingProfile},
    report::NodeReport,
};
use ha_data::postgres::{ConnectOptions, Host, Session, connect};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustix::process::{Pid, Signal, kill_process};

/// Two cores may be busy with other things; nothing here is about speed.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct World {
    folder: tempfile::TempDir,
    /// PostgreSQL refuses root; then its own user runs the guards.
    user: Option<(u32, u32)>,
    store: Child,
    store_url: String,
    http: reqwest::Client,
    pub(crate) nodes: Vec<Node>,
}

pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) config: GuardConfig,
    guard: Option<Child>,
}

impl World {
    /// The first node is the declared primary.
    pub(crate) async fn new(names: &[&'static str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ha-agent-")
            .tempdir()
            .expect("a folder");
        let root = folder.path();
        certificates(root);
        for name in ["admin", "replication", "app"] {
            // A password with everything that needs escaping somewhere.
            fs::write(root.join(name), format!("{name}:'\\\"% $1")).expect("written");
        }
        fs::copy(env!("CARGO_BIN_EXE_ha-guard"), root.join("ha-guard")).expect("the binary");
        let (client, peer) = (free_port(), free_port());
        let store_url = format!("https://127.0.0.1:{client}");
        let mut world = Self {
            store: start_store(root, client, peer),
            user: rustix::process::geteuid().is_root().then(postgres_user),
            store_url,
            http: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(0)
                .timeout(Duration::from_secs(5))
                .build()
                .expect("a client"),
            nodes: Vec::new(),
            folder,
        };
        let places: Vec<(u16, u16)> = names.iter().map(|_| (free_port(), free_port())).collect();
        for (index, name) in names.iter().enumerate() {
            let config = world.config(names, &places, index);
            fs::create_dir_all(config.postgres.data_dir.parent().expect("a parent")).expect("made");
            world.nodes.push(Node {
                name,
                config,
                guard: None,
            });
            world.configure(index);
        }
        for name in ["admin", "replication", "app", "key.pem"] {
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(world.file(name), mode).expect("private");
        }
        world.give(world.folder.path());
        world
    }

    /// As [`World::new`], and roles change only when somebody says so: for what happens to one database.
    pub(crate) async fn by_hand(names: &[&'static str]) -> Self {
        let mut world = Self::new(names).await;
        for index in 0..world.nodes.len() {
            world.nodes[index].config.failover.policy.automatic = false;
            world.configure(index);
        }
        world
    }

    /// Writes what the node's guard reads when it starts.
    pub(crate) fn configure(&self, index: usize) {
        let node = &self.nodes[index];
        let text = serde_json::to_string_pretty(&node.config).expect("json");
        fs::write(self.file(node.name).join("guard.json"), text).expect("written");
    }

    /// Makes the guards' user the owner.
    pub(crate) fn give(&self, path: &Path) {
        if let Some(user) = self.user {
            give(path, user);
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, names: &[&str], places: &[(u16, u16)], index: usize) -> GuardConfig {
        let name = names[index];
        let own = self.file(name);
        let tls = TlsFiles {
            ca: self.file("ca.pem"),
            cert: self.file("cert.pem"),
            key: self.file("key.pem"),
        };
        let peers = names.iter().zip(places).filter(|(peer, _)| **peer != name);
        GuardConfig {
            workspace: "shop".into(),
            cluster: "orders".into(),
            region: format!("region-{index}"),
            node: name.into(),
            declared_primary: index == 0,
            listen: format!("127.0.0.1:{}", places[index].1),
            source_address: Some("127.0.0.1".into()),
            postgres: PostgresConfig {
                bin_dir: bin_dir(),
                data_dir: own.join("data/postgres"),
                log_file: own.join("log/postgres.log"),
                address: "127.0.0.1".into(),
                public_address: "127.0.0.1".into(),
                port: places[index].0,
                socket_dir: own.join("run"),
                settings: [("max_connections".to_owned(), "30".to_owned())].into(),
                allow: vec!["127.0.0.0/8".into()],
                tls: tls.clone(),
                admin_password_file: self.file("admin"),
                replication_password_file: self.file("replication"),
                app_password_file: self.file("app"),
                app_user: "app".into(),
                app_database: "shop".into(),
            },
            store: StoreConfig {
                endpoints: vec![self.store_url.clone()],
                tls,
            },
            peers: peers
                .map(|(peer, (port, guard))| Peer {
                    region: "elsewhere".into(),
                    node: (*peer).into(),
                    address: "127.0.0.1".into(),
                    port: *port,
                    guard: format!("http://127.0.0.1:{guard}"),
                })
                .collect(),
            sample_interval_ms: 200,
            events: own.join("events.jsonl"),
            failover: FailoverConfig {
                sync_mode: SyncMode::Strict,
                timing: TimingProfile::Near.timing(),
                policy: FailoverPolicy::default(),
                nodes: names
                    .iter()
                    .enumerate()
                    .map(|(place, node)| NodePolicy {
                        node: (*node).into(),
                        region: format!("region-{place}"),
                        data: true,
                        priority: 10,
                        forbidden: None,
                    })
                    .collect(),
                balancers: Vec::new(),
                promise: own.join("data/promise.json"),
                runtime_dir: own.join("run"),
                watchdog: None,
            },
        }
    }

    pub(crate) fn start(&mut self, index: usize) {
        let binary = self.file("ha-guard");
        let own = self.file(self.nodes[index].name);
        let mut command = match self.user {
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.args([
                    format!("--reuid={uid}"),
                    format!("--regid={gid}"),
                    "--clear-groups".to_owned(),
                ]);
                command.arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(own.join("guard.log"))
            .expect("a log");
        let child = command
            .args(["guard", "--config"])
            .arg(own.join("guard.json"))
            .current_dir(&own)
            .env("HA_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("the guard starts");
        self.nodes[index].guard = Some(child);
    }

    /// As a supervisor does it.
    pub(crate) fn stop(&mut self, index: usize) {
        self.end(index, Signal::TERM);
    }

    pub(crate) fn kill_guard(&mut self, index: usize) {
        self.end(index, Signal::KILL);
    }

    fn end(&mut self, index: usize, signal: Signal) {
        let mut guard = self.nodes[index].guard.take().expect("a running guard");
        kill_process(Pid::from_child(&guard), signal).expect("signalled");
        guard.wait().expect("ended");
    }

    pub(crate) fn guard_log(&self, name: &str) -> PathBuf {
        self.file(name).join("guard.log")
    }

    pub(crate) fn kill_store(&mut self) {
        self.store.kill().expect("killed");
        self.store.wait().expect("ended");
    }

    /// The postmaster, as its lock file names it.
    pub(crate) fn postmaster(&self, index: usize) -> Option<i32> {
        postmaster(&self.nodes[index].config.postgres.data_dir)
    }

    pub(crate) fn kill_postmaster(&self, index: usize) {
        let pid = self
            .postmaster(index)
            .and_then(Pid::from_raw)
            .expect("a running database");
        kill_process(pid, Signal::KILL).expect("killed");
    }

    pub(crate) async fn get(&self, index: usize, path: &str) -> Result<(u16, String), reqwest::Error> {
        let url = format!("http://{}{path}", self.nodes[index].config.listen);
        let answer = self.http.get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// A guard that was just started may not listen yet.
    pub(crate) async fn report(&self, index: usize) -> NodeReport {
        self.until(index, "/report", 200).await;
        let (_, text) = self.get(index, "/report").await.expect("an answer");
        serde_json::from_str(&text).expect("a report")
    }

    /// Until the endpoint answers with this status.
    pub(crate) async fn until(&self, index: usize, path: &str, status: u16) {
        let began = Instant::now();
        loop {
            let answer = self.get(index, path).await;
            if answer.as_ref().is_ok_and(|(code, _)| *code == status) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{path} of {}: {answer:?}\n{}",
                self.nodes[index].name,
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until the report says so.
    pub(crate) async fn until_report(
        &self,
        index: usize,
        what: &str,
        holds: impl Fn(&NodeReport) -> bool,
    ) -> NodeReport {
        let began = Instant::now();
        loop {
            let report = self.report(index).await;
            if holds(&report) {
                return report;
            }
            assert!(began.elapsed() < PATIENCE, "not {what}: {report:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The guard and every process of its database, as if the machine were gone.
    pub(crate) fn kill_node(&mut self, index: usize) {
        self.kill_guard(index);
        for pid in self.processes(index) {
            // One that has ended already is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Every process of the node, its guard included, stands still, or goes on.
    pub(crate) fn freeze_node(&mut self, index: usize, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        let guard = self.nodes[index].guard.as_ref().map(Pid::from_child);
        for pid in guard.into_iter().chain(self.processes(index)) {
            let _ = kill_process(pid, signal);
        }
    }

    /// What the guards agreed on, as the shell sees it.
    pub(crate) async fn cluster(&self) -> ha_store::Cluster {
        let options = ha_store::Options::new(
            vec![self.store_url.clone()],
            self.file("ca.pem"),
            self.file("cert.pem"),
            self.file("key.pem"),
        );
        let store = ha_store::Etcd::new(&options).await.expect("a client");
        let keys = ha_core::agreement::Keys::new("shop", "orders");
        ha_store::Cluster::new(std::sync::Arc::new(store), keys)
    }

    /// As somebody would who knows nothing of guards; ready when this returns.
    pub(crate) async fn start_by_hand(&self, index: usize) {
        let postgres = &self.nodes[index].config.postgres;
        let _ = fs::remove_file(postgres.data_dir.join("postmaster.pid"));
        let mut command = match self.user {
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.args([
                    format!("--reuid={uid}"),
                    format!("--regid={gid}"),
                    "--clear-groups".to_owned(),
                ]);
                command.arg(postgres.bin_dir.join("pg_ctl"));
                command
            }
            None => Command::new(postgres.bin_dir.join("pg_ctl")),
        };
        let started = command
            .args(["start", "-w", "-t", "60", "-D"])
            .arg(&postgres.data_dir)
            .arg("-l")
            .arg(&postgres.log_file)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("pg_ctl runs");
        assert!(started.success(), "{}", self.logs());
    }

    /// Server processes that work in the node's data folder.
    pub(crate) fn processes(&self, index: usize) -> Vec<Pid> {
        let data_dir = &self.nodes[index].config.postgres.data_dir;
        let all = fs::read_dir("/proc").expect("processes").flatten();
        all.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *data_dir))
            .filter_map(Pid::from_raw)
            .collect()
    }

    pub(crate) async fn app(&self, index: usize) -> Session {
        self.session(index, "app", "shop", "app").await
    }

    pub(crate) async fn admin(&self, index: usize) -> Session {
        self.session(index, "ha_admin", "postgres", "admin").await
    }

    pub(crate) fn app_options(&self, index: usize) -> ConnectOptions {
        self.options(index, "app", "shop", "app")
            .timeout(Duration::from_secs(2))
    }

    fn options(&self, index: usize, user: &str, database: &str, password: &str) -> ConnectOptions {
        let postgres = &self.nodes[index].config.postgres;
        let host = Host::tcp(&postgres.address, postgres.port);
        ConnectOptions::new(host, user, database, self.file(password)).ca(self.file("ca.pem"))
    }

    async fn session(&self, index: usize, user: &str, database: &str, password: &str) -> Session {
        let options = self
            .options(index, user, database, password)
            .timeout(Duration::from_secs(20));
        connect(&options)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }

    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            for file in ["guard.log", "log/postgres.log"] {
                let said = fs::read_to_string(self.file(node.name).join(file)).unwrap_or_default();
                let from = said.len().saturating_sub(4000);
                text.push_str(&format!(
                    "--- {} {file}\n{}\n",
                    node.name,
                    String::from_utf8_lossy(&said.as_bytes()[from..])
                ));
            }
        }
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].guard.is_some() {
                self.stop(index);
            }
            let data_dir = &self.nodes[index].config.postgres.data_dir;
            let ours = |pid: &i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == *data_dir);
            if let Some(pid) = postmaster(data_dir).filter(ours).and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::QUIT);
            }
        }
        let _ = self.store.kill();
        let _ = self.store.wait();
    }
}

fn postmaster(data_dir: &Path) -> Option<i32> {
    fs::read_to_string(data_dir.join("postmaster.pid"))
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

/// The newest PostgreSQL that is installed.
pub(crate) fn bin_dir() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .flatten();
    let newest = versions
        .filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok())
        .max();
    PathBuf::from(format!("/usr/lib/postgresql/{}/bin", newest.expect("a version")))
}

fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let fields: Vec<&str> = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres")
        .split(':')
        .collect();
    (
        fields[2].parse().expect("a number"),
        fields[3].parse().expect("a number"),
    )
}

fn give(path: &Path, (uid, gid): (u32, u32)) {
    chown(path, Some(uid), Some(gid)).expect("given");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("readable").flatten() {
            give(&entry.path(), (uid, gid));
        }
    }
}

pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("its address").port()
}

fn certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    // Another name than the CA's, or OpenSSL takes it for self-signed.
    params.distinguished_name.push(DnType::CommonName, "node");
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let cert = params.signed_by(&key, &ca).expect("a certificate");
    fs::write(folder.join("ca.pem"), ca.pem()).expect("written");
    fs::write(folder.join("cert.pem"), cert.pem()).expect("written");
    fs::write(folder.join("key.pem"), key.serialize_pem()).expect("written");
}

fn start_store(folder: &Path, client: u16, peer: u16) -> Child {
    let file = |name: &str| folder.join(name).display().to_string();
    let log = fs::File::create(folder.join("etcd.log")).expect("a log");
    let client = format!("https://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    Command::new("etcd")
        .args(["--name", "one", "--data-dir", &file("etcd")])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .args(["--cert-file", &file("cert.pem"), "--key-file", &file("key.pem")])
        .args(["--trusted-ca-file", &file("ca.pem"), "--client-cert-auth"])
        .stdout(Stdio::from(log.try_clone().expect("a log")))
        .stderr(Stdio::from(log))
        .spawn()
        .expect("etcd is installed")
}
