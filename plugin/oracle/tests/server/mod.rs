//! One PostgreSQL on loopback, with TLS, the application's user and its database. Everything ends with the test.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ha_data::postgres::{ConnectOptions, Host, Session, connect};
use ha_oracle::{Listener, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustix::process::{Pid, Signal, kill_process};

/// Two cores may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "not a real one";

pub(crate) struct Server {
    folder: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
    /// PostgreSQL refuses root; then its own user runs it.
    user: Option<(u32, u32)>,
    postmaster: Option<Child>,
}

impl Server {
    /// It runs with `settings`, one `name = value` a line.
    pub(crate) async fn start(settings: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ha-oracle-")
            .tempdir()
            .expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        let mut server = Self {
            bin: bin_dir(),
            port: free_port(),
            user: rustix::process::geteuid().is_root().then(postgres_user),
            folder,
            postmaster: None,
        };
        let (root, data) = (server.folder.path(), server.data());
        certificates(root);
        fs::write(root.join("app"), PASSWORD).expect("password");
        fs::create_dir(&data).expect("folder");
        server.give(root);
        server.run(
            "initdb",
            &[
                "-D",
                &data.display().to_string(),
                "-U",
                "ha_admin",
                "-A",
                "trust",
                "-E",
                "UTF8",
            ],
        );
        let own = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{root}'\ncluster_name = 'ha_us_db_1'\n\
             ssl = on\nssl_cert_file = '{root}/cert.pem'\nssl_key_file = '{root}/key.pem'\n\
             password_encryption = 'scram-sha-256'\n{settings}\n",
            server.port,
            root = root.display(),
        );
        let conf = data.join("postgresql.conf");
        let shipped = fs::read_to_string(&conf).expect("shipped settings");
        fs::write(&conf, shipped + &own).expect("settings");
        let hba = "local all ha_admin trust\nhostssl app app 127.0.0.1/32 scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), hba).expect("hba");
        server.up();
        let admin = server.admin("postgres").await;
        // Nothing replicates while it is set up.
        let role = format!("set synchronous_commit = local; create role app login password '{PASSWORD}'");
        admin.batch_execute(&role).await.expect("a role");
        admin
            .batch_execute("create database app owner app")
            .await
            .expect("a database");
        server
    }

    /// Clients of two regions, both through the server's own port.
    pub(crate) fn options(&self) -> Options {
        let regions = ["us-east", "eu-central"].map(|region| Listener {
            region: region.to_owned(),
            address: format!("127.0.0.1:{}", self.port),
        });
        let root = self.folder.path();
        let mut options = Options::new(regions.to_vec(), root.join("app"), root.join("ca.pem"));
        options.nodes.insert("ha_us_db_1".to_owned(), "us-db-1".to_owned());
        options
    }

    pub(crate) async fn admin(&self, database: &str) -> Session {
        let host = Host::Unix {
            dir: self.folder.path().to_owned(),
            port: self.port,
        };
        let options = ConnectOptions::new(host, "ha_admin", database, self.folder.path().join("app"));
        connect(&options).await.expect("an administrator's session")
    }

    /// It answers, and is a child of this process: nobody else would take note of its end at once.
    pub(crate) fn up(&mut self) {
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        self.postmaster = Some(child);
        let began = Instant::now();
        while !self.ready() {
            assert!(began.elapsed() < PATIENCE, "it does not start: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ready(&self) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let of_this = self
            .postmaster
            .as_ref()
            .is_some_and(|it| text.lines().next() == Some(&it.id().to_string()));
        of_this && text.lines().nth(7).is_some_and(|state| state.trim() == "ready")
    }

    /// The postmaster is dead at once, and its children are as soon as they notice.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.postmaster.take() else {
            return;
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let _ = kill_process(pid.expect("a number"), signal);
        let _ = child.wait();
        let began = Instant::now();
        // They hold its shared memory, and a new one refuses to start beside them.
        while self.anything_left() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn anything_left(&self) -> bool {
        let data = self.data();
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        processes
            .filter_map(|it| fs::read_link(it.path().join("cwd")).ok())
            .any(|folder| folder == data)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let ended = self.command(program).args(arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{program}: {said}");
    }

    fn command(&self, program: &str) -> Command {
        let binary = self.bin.join(program);
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
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn give(&self, path: &Path) {
        let Some((uid, gid)) = self.user else { return };
        chown(path, Some(uid), Some(gid)).expect("given");
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("readable").flatten() {
                self.give(&entry.path());
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::QUIT);
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
    let fields: Vec<&str> = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("a user postgres")
        .split(':')
        .collect();
    let number = |place: usize| fields[place].parse().expect("a number");
    (number(2), number(3))
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
    fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(0o600)).expect("mode");
}
