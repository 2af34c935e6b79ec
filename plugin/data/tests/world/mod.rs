//! Real servers on loopback, in a folder that goes away. PostgreSQL refuses root: then its own user runs the test.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use ha_core::agent::{PostgresConfig, TlsFiles, epoch_stream_name, stream_name};
use ha_data::postgres::{self, ConnectOptions, Host, Observation, Observer, Postmaster, Session, Upstream, by_sql};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// Two cores may be busy with other things; where speed matters a test measures it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const AS_USER: &str = "HA_TEST_FOLDER";

/// Runs the test's body as a user that PostgreSQL accepts: this one, or, for root, `postgres` in a process of its own.
pub(crate) fn run(test: &str, body: impl AsyncFnOnce(&mut World)) {
    if let Some(folder) = std::env::var_os(AS_USER) {
        return block_on(body, PathBuf::from(folder));
    }
    let folder = tempfile::Builder::new().prefix("ha-data-").tempdir().expect("a folder");
    if !rustix::process::geteuid().is_root() {
        return block_on(body, folder.path().to_owned());
    }
    let binary = folder.path().join("test");
    fs::copy(std::env::current_exe().expect("this program"), &binary).expect("copied");
    let (uid, gid) = postgres_user();
    for path in [folder.path(), &binary] {
        chown(path, Some(uid), Some(gid)).expect("given");
    }
    let status = Command::new("setpriv")
        .args([
            format!("--reuid={uid}"),
            format!("--regid={gid}"),
            "--clear-groups".to_owned(),
        ])
        .arg(&binary)
        .args(["--exact", test, "--nocapture"])
        .env(AS_USER, folder.path())
        .current_dir(folder.path())
        .status()
        .expect("setpriv is installed");
    assert!(status.success(), "{test} as user postgres: {status}");
}

fn block_on(body: impl AsyncFnOnce(&mut World), folder: PathBuf) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(folder);
        body(&mut world).await;
    });
}

pub(crate) struct World {
    folder: PathBuf,
    nodes: Vec<PostgresConfig>,
}

pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) config: PostgresConfig,
}

impl World {
    fn new(folder: PathBuf) -> Self {
        certificates(&folder);
        for name in ["admin", "replication", "app"] {
            // A password with everything that needs escaping somewhere.
            fs::write(folder.join(name), format!("{name}:'\\\"% $1")).expect("written");
        }
        for name in ["admin", "replication", "app", "key.pem"] {
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).expect("private");
        }
        Self {
            folder,
            nodes: Vec::new(),
        }
    }

    pub(crate) fn node(&mut self, name: &'static str) -> Node {
        let file = |name: &str| self.folder.join(name);
        let own = file(name);
        let config = PostgresConfig {
            bin_dir: bin_dir(),
            data_dir: own.join("data"),
            log_file: own.join("log"),
            address: "127.0.0.1".into(),
            public_address: "127.0.0.1".into(),
            port: free_port(),
            socket_dir: own.join("run"),
            settings: [
                ("max_connections", "20"),
                ("shared_buffers", "16MB"),
                ("autovacuum", "off"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            allow: vec!["127.0.0.0/8".into()],
            tls: TlsFiles {
                ca: file("ca.pem"),
                cert: file("cert.pem"),
                key: file("key.pem"),
            },
            admin_password_file: file("admin"),
            replication_password_file: file("replication"),
            app_password_file: file("app"),
            app_user: "app".into(),
            app_database: "shop".into(),
        };
        self.nodes.push(config.clone());
        Node { name, config }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A running primary with its users, on timeline 1; nothing acknowledges for it yet.
    pub(crate) async fn primary(&mut self, name: &'static str) -> (Node, Postmaster) {
        let node = self.node(name);
        postgres::init(&node.config, name).await.expect("made");
        let server = postgres::start(&node.config).expect("started");
        let session = node.session().await;
        postgres::ensure_roles(&session, &node.config).await.expect("users");
        (node, server)
    }

    /// A running sealed copy of `of`.
    pub(crate) async fn copy(&mut self, name: &'static str, of: &Node) -> (Node, Postmaster) {
        let node = self.node(name);
        let server = node.copy(of).await;
        (node, server)
    }
}

impl Node {
    pub(crate) async fn copy(&self, of: &Node) -> Postmaster {
        let id = postgres::control(&of.config)
            .await
            .expect("a control file")
            .system_identifier;
        postgres::prepare_upstream(&self.config, self.name, &of.upstream(), &id)
            .await
            .expect("ready to be copied");
        postgres::copy(&self.config, self.name, &of.upstream())
            .await
            .expect("copied");
        postgres::start(&self.config).expect("started")
    }

    pub(crate) fn upstream(&self) -> Upstream {
        Upstream {
            address: self.config.address.clone(),
            port: self.config.port,
        }
    }

    pub(crate) fn streams_as(&self, epoch: u64) -> String {
        epoch_stream_name(self.name, epoch)
    }

    pub(crate) fn slot(&self) -> String {
        stream_name(self.name)
    }

    /// As soon as it takes sessions.
    pub(crate) async fn session(&self) -> Session {
        let host = Host::Unix {
            dir: self.config.socket_dir.clone(),
            port: self.config.port,
        };
        let options = ConnectOptions::new(host, "ha_admin", "postgres", &self.config.admin_password_file);
        let began = Instant::now();
        loop {
            match postgres::connect(&options).await {
                Ok(session) => return session,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{}: {error}\n{}", self.name, self.log()),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As somebody elsewhere reaches it.
    pub(crate) async fn by_sql(&self) -> by_sql::Node {
        let host = Host::tcp(self.config.address.clone(), self.config.port);
        let options = ConnectOptions::new(host, "ha_admin", "postgres", &self.config.admin_password_file);
        let node = by_sql::Node::open(
            options.ca(&self.config.tls.ca),
            self.config.replication_password_file.clone(),
        );
        node.await.expect("it answers")
    }

    pub(crate) async fn look(&self) -> Observation {
        let session = self.session().await;
        Observer::new().look(&session, PATIENCE).await.expect("an answer")
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Observation) -> bool) -> Observation {
        let began = Instant::now();
        loop {
            let seen = self.look().await;
            if holds(&seen) {
                return seen;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}: not {what}: {seen:#?}\n{}",
                self.name,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn follow(&self, primary: &Node, epoch: u64) {
        let session = self.session().await;
        let began = Instant::now();
        postgres::follow(&session, &self.config, self.name, &primary.upstream(), epoch)
            .await
            .expect("told");
        let name = self.streams_as(epoch);
        primary
            .until(&format!("followed by {name}"), |it| {
                let mut senders = it.report.senders.iter();
                senders.any(|sender| sender.application_name == name && sender.state == "streaming")
            })
            .await;
        eprintln!("{name} streams after {:?}", began.elapsed());
    }

    pub(crate) async fn run(&self, statement: &str) {
        let session = self.session().await;
        let done = session.batch_execute(statement).await;
        done.unwrap_or_else(|error| panic!("{statement}: {}", session.error(&error)));
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        let session = self.session().await;
        let row = session.query_one(query, &[]).await.expect("one row");
        row.get(0)
    }

    pub(crate) fn log(&self) -> String {
        let said = fs::read_to_string(&self.config.log_file).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for World {
    /// Also after a test that failed.
    fn drop(&mut self) {
        for config in &self.nodes {
            for entry in fs::read_dir("/proc").expect("processes").flatten() {
                let works_here = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == config.data_dir);
                let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
                if let (true, Some(pid)) = (works_here, pid.and_then(rustix::process::Pid::from_raw)) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }
}

/// The newest PostgreSQL that is installed.
fn bin_dir() -> PathBuf {
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
    let user = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres");
    let fields: Vec<&str> = user.split(':').collect();
    (
        fields[2].parse().expect("a number"),
        fields[3].parse().expect("a number"),
    )
}

fn free_port() -> u16 {
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
