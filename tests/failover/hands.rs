//! What a person does by hand and beside every guard: SQL on one server, `pg_ctl`, `etcdctl`.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::world::{REGION_HOSTS, World, host_of};

const BIN: &str = "/usr/lib/postgresql/15/bin";

impl World {
    /// The answer of the database of a region, one line a row, its fields with `|` between them.
    pub(crate) fn sql(&self, region: &str, statement: &str) -> Result<String, String> {
        told(self.psql(region, statement).output().expect("psql"))
    }

    /// A session that goes on beside the test.
    pub(crate) fn session(&self, region: &str, statement: &str) -> std::process::Child {
        let mut command = self.psql(region, statement);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("psql")
    }

    fn psql(&self, region: &str, statement: &str) -> Command {
        let secrets = self.cluster.state().join("secrets");
        let passfile = self.cluster.state_home().join("operator.pgpass");
        if !passfile.exists() {
            let password = fs::read_to_string(secrets.join("admin")).expect("the operator's password");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&passfile)
                .expect("a passfile");
            writeln!(file, "*:*:*:ha_admin:{}", password.trim()).expect("a passfile");
        }
        let address = self.cluster.address(region, host_of(region));
        let mut command = Command::new(format!("{BIN}/psql"));
        command
            .env("PGPASSFILE", passfile)
            .env("PGCONNECT_TIMEOUT", "3")
            .arg(format!(
                "host={address} port=5432 user=ha_admin dbname=postgres sslmode=verify-ca sslrootcert={}",
                secrets.join("ca.pem").display()
            ))
            .args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-Atc", statement])
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn data_folder(&self, region: &str) -> PathBuf {
        self.cluster.host(region, host_of(region)).join("data/postgres")
    }

    /// `pg_ctl` as whoever owns the data, without asking any guard.
    pub(crate) fn pg_ctl(&self, region: &str, args: &[&str]) -> Result<String, String> {
        let data = self.data_folder(region);
        let mut command = as_owner(&data, &format!("{BIN}/pg_ctl"));
        command.arg("-D").arg(&data).args(args);
        // What it starts must not hold a pipe of ours open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().expect("pg_ctl");
        status.success().then(String::new).ok_or_else(|| status.to_string())
    }

    pub(crate) fn etcdctl(&self, region: &str, args: &[&str]) -> Result<String, String> {
        let host = host_of(region);
        let tls = self.cluster.host(region, host).join("etc/tls");
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!(
                "--endpoints=https://{}",
                self.cluster.socket(region, host, 2379)
            ))
            .arg(format!("--cacert={}", tls.join("ca.pem").display()))
            .arg(format!("--cert={}", tls.join("cert.pem").display()))
            .arg(format!("--key={}", tls.join("key.pem").display()))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("etcdctl");
        told(output)
    }

    /// The region whose member leads the store; none while it elects.
    pub(crate) fn store_leader(&self) -> Option<&'static str> {
        REGION_HOSTS.map(|(region, _)| region).into_iter().find(|region| {
            let said = self.etcdctl(region, &["endpoint", "status", "--write-out=json"]);
            let said = said
                .ok()
                .and_then(|it| serde_json::from_str::<serde_json::Value>(&it).ok());
            said.is_some_and(|it| {
                let status = &it[0]["Status"];
                status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
            })
        })
    }
}

/// A command that runs as the owner of `folder`: PostgreSQL refuses root, and its files are that user's.
pub(crate) fn as_owner(folder: &Path, program: &str) -> Command {
    use std::os::unix::{fs::MetadataExt as _, process::CommandExt as _};
    let owner = fs::metadata(folder).expect("the folder");
    let mut command = Command::new(program);
    if owner.uid() != rustix::process::getuid().as_raw() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.current_dir("/");
    command
}

fn told(output: Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}
