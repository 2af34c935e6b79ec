//! One workspace of its own: folders, addresses, processes.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    http::{self, Answer},
    process::{self, Process},
    shell::{self, Refused, Shell},
    value::{self, Row},
    world,
};
use crate::eventually;

const APP: u16 = 8080;

/// Where a process belongs: a unit on a host of a region.
pub type Place<'a> = (&'a str, &'a str, &'a str);

pub struct Cluster {
    /// Under it is everything that the cluster writes.
    home: TempDir,
    /// Of the workspace; no other test uses it.
    pub name: String,
    /// Held until everything is gone; released when the process ends, however it ends.
    _alone: File,
}

impl Cluster {
    /// A workspace like the example, under a name of its own. Nothing is provisioned.
    pub fn new(theme: &str) -> Self {
        let alone = lock();
        let home = tempfile::Builder::new()
            .prefix("ha-")
            .tempdir()
            .expect("a temporary folder");
        // As root, the databases run as another user, who must be able to pass through.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let cluster = Self {
            home,
            name: format!("{theme}-{}", std::process::id()),
            _alone: alone,
        };
        fs::create_dir(cluster.folder()).expect("a folder");
        for file in ["workspace.ncl", "config.toml"] {
            fs::copy(shell::root().join(file), cluster.folder().join(file)).expect("the example");
        }
        cluster.edit("workspace = \"shop\"", &format!("workspace = \"{}\"", cluster.name));
        cluster
    }

    /// The same, provisioned and healthy.
    pub fn up(theme: &str) -> Self {
        let cluster = Self::new(theme);
        cluster.provision();
        cluster.wait_healthy(Duration::from_secs(60));
        cluster.wait_streaming(Duration::from_secs(60));
        cluster
    }

    /// Where `workspace.ncl` is.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join("ws")
    }

    pub fn state_home(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub fn runtime_home(&self) -> PathBuf {
        self.home.path().join("run")
    }

    /// The workspace's own folder in the state.
    pub fn state(&self) -> PathBuf {
        self.state_home().join(&self.name)
    }

    pub fn host(&self, region: &str, host: &str) -> PathBuf {
        self.state().join("regions").join(region).join("hosts").join(host)
    }

    // ------------------------------------------------------------ the user's file

    /// Replaces the first place that says `from` in `workspace.ncl`; there must be one.
    pub fn edit(&self, from: &str, to: &str) {
        let path = self.folder().join("workspace.ncl");
        let text = fs::read_to_string(&path).expect("workspace.ncl");
        assert!(text.contains(from), "workspace.ncl has no {from}");
        fs::write(&path, text.replacen(from, to, 1)).expect("workspace.ncl");
    }

    /// Takes the whole region out of `workspace.ncl`, and its name out of `config.toml`.
    pub fn remove_region(&self, region: &str) {
        let path = self.folder().join("workspace.ncl");
        let text = fs::read_to_string(&path).expect("workspace.ncl");
        let start = format!("\n  region_{} = {{\n", region.replace('-', "_"));
        let from = text
            .find(&start)
            .unwrap_or_else(|| panic!("workspace.ncl has no {region}"));
        let length = text[from..].find("\n  },\n").expect("the end of the region") + "\n  },\n".len();
        fs::write(&path, [&text[..from], "\n", &text[from + length..]].concat()).expect("workspace.ncl");
        let path = self.folder().join("config.toml");
        let text = fs::read_to_string(&path).expect("config.toml");
        fs::write(&path, text.replace(&format!("region_name = \"{region}\"\n"), "")).expect("config.toml");
    }

    /// Puts `deploy.nu` and the scripts beside the workspace, as in a checkout.
    pub fn like_a_checkout(&self) {
        for name in ["deploy.nu", "scripts"] {
            copy(&shell::root().join(name), &self.folder().join(name));
        }
    }

    // ------------------------------------------------------------ the shell

    /// What a pipeline gives, or what it raised.
    pub fn nu(&self, pipeline: &str) -> Result<Value, Refused> {
        shell::evaluate(pipeline, |command| self.prepare(command))
    }

    /// The rows of a pipeline that must not fail.
    pub fn rows(&self, pipeline: &str) -> Vec<Row> {
        match self.nu(pipeline) {
            Ok(value) => value::rows(value),
            Err(refused) => panic!("{pipeline}\n{refused}"),
        }
    }

    /// The error of a pipeline that must fail.
    pub fn refused(&self, pipeline: &str) -> Refused {
        match self.nu(pipeline) {
            Ok(value) => panic!("{pipeline} was not refused: {value}"),
            Err(refused) => refused,
        }
    }

    /// A shell that goes on beside the test.
    pub fn spawn(&self, code: &str) -> Shell {
        let mut command = shell::command(code);
        self.prepare(&mut command);
        shell::spawn(command)
    }

    fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.folder())
            .env("HA_STATE_HOME", self.state_home())
            .env("HA_RUNTIME_DIR", self.runtime_home());
    }

    // ------------------------------------------------------------ acts and waits

    /// Carries out the plan; every step has to succeed. Gives back the steps that did something.
    pub fn provision(&self) -> Vec<Row> {
        let steps = self.rows("ha provision");
        let failed: Vec<_> = steps.iter().filter(|step| !step.is_null("error")).collect();
        assert!(failed.is_empty(), "failed steps: {failed:#?}");
        steps.into_iter().filter(|step| !step.is("action", "none")).collect()
    }

    /// The rows of a plan that would do something.
    pub fn changes(&self) -> Vec<Row> {
        self.rows("ha plan | where action != none")
    }

    pub fn wait_healthy(&self, timeout: Duration) {
        self.wait_for_none("health", timeout, "ha health | where status not-in [ok off]");
    }

    pub fn wait_streaming(&self, timeout: Duration) {
        self.wait_for_none(
            "replication",
            timeout,
            "ha lag | where state not-in [primary streaming]",
        );
    }

    /// Waits until a pipeline gives no more rows.
    pub fn wait_for_none(&self, what: &str, timeout: Duration, pipeline: &str) {
        eventually(what, timeout, || match self.rows(pipeline).as_slice() {
            [] => Ok(()),
            rows => Err(rows.iter().map(|row| row.0.to_string()).collect::<Vec<_>>().join("\n")),
        });
    }

    // ------------------------------------------------------------ processes

    /// The process of a unit as its run file has it; none when there is no run file or it is another process.
    pub fn process(&self, (region, host, unit): Place) -> Option<Process> {
        let path = self.host(region, host).join("run").join(format!("{unit}.json"));
        process_in(&path)
    }

    pub fn supervisor(&self, region: &str) -> Option<Process> {
        process_in(&self.state().join("regions").join(region).join("supervise.json"))
    }

    /// The postmaster of a database server, by the first line of its own file.
    pub fn postgres(&self, region: &str, host: &str) -> Option<Process> {
        let text = fs::read_to_string(self.host(region, host).join("data/postgres/postmaster.pid")).ok()?;
        Process::of(text.lines().next()?.trim().parse().ok()?)
    }

    /// Kills the process of a unit and waits until another runs in its place.
    pub fn kill_and_wait(&self, place: Place, timeout: Duration) -> Process {
        let old = self.process(place).unwrap_or_else(|| panic!("{place:?} does not run"));
        old.kill();
        let mut new = None;
        eventually(&format!("a new process of {place:?}"), timeout, || {
            new = self.process(place).filter(|it| *it != old && it.alive());
            new.is_some().then_some(()).ok_or_else(|| "none yet".into())
        });
        new.expect("waited for it")
    }

    /// Every process that has anything to do with this cluster.
    pub fn processes(&self) -> Vec<Process> {
        let own = i32::try_from(std::process::id()).expect("a number");
        process::all()
            .filter(|process| process.pid != own && process.belongs_to(self.home.path()))
            .collect()
    }

    // ------------------------------------------------------------ addresses

    /// The second number of all addresses, once the workspace has claimed it.
    pub fn octet(&self) -> Option<u8> {
        u8::try_from(read_json(&self.state().join("workspace.json"))?["octet"].as_u64()?).ok()
    }

    /// The address of a host as its own region and the operator reach it.
    pub fn address(&self, region: &str, host: &str) -> Ipv4Addr {
        let file = read_json(&self.state().join("workspace.json")).expect("workspace.json");
        let number = |value: &Value| {
            u8::try_from(
                value
                    .as_u64()
                    .unwrap_or_else(|| panic!("no address of {host} in {region}: {file}")),
            )
            .expect("an octet")
        };
        let place = &file["addresses"][region];
        Ipv4Addr::new(
            127,
            number(&file["octet"]),
            number(&place["octet"]),
            number(&place["hosts"][host]),
        )
    }

    pub fn socket(&self, region: &str, host: &str, port: u16) -> SocketAddr {
        (IpAddr::V4(self.address(region, host)), port).into()
    }

    /// `GET` from a server's application, or through a balancer: both listen on the same port.
    pub fn get(&self, region: &str, host: &str, path: &str) -> io::Result<Answer> {
        http::get(self.socket(region, host, APP), path)
    }

    /// Writes a row through the write listener of a region; gives back its id.
    pub fn write(&self, region: &str, balancer: &str) -> Result<String, String> {
        let answer = http::post(
            self.socket(region, balancer, APP),
            "/write",
            &serde_json::json!({"id": new_id()}),
        )
        .map_err(|error| error.to_string())?;
        if answer.status >= 300 {
            return Err(format!("{}: {}", answer.status, answer.body));
        }
        let id = answer.json()["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| format!("no id in {}", answer.body))
    }

    /// The row is read through the read listener of a region.
    pub fn read(&self, region: &str, balancer: &str, id: &str) -> Result<Value, String> {
        let answer = self
            .get(region, balancer, &format!("/read?id={id}"))
            .map_err(|error| error.to_string())?;
        if answer.status == 200 {
            Ok(answer.json())
        } else {
            Err(format!("{}: {}", answer.status, answer.body))
        }
    }

    // ------------------------------------------------------------ the end

    /// Removes everything, as a user does; a second time is fine.
    pub fn destroy(&self) -> Vec<Row> {
        // A shell that a test killed may still be letting go.
        self.rows(&format!("ha destroy {} --wait 1min", self.name))
    }

    /// What should not be there any more.
    pub fn left(&self, octet: Option<u8>) -> Vec<String> {
        let processes = self
            .processes()
            .into_iter()
            .map(|process| format!("process {} {}", process.pid, process.command()));
        let ports = octet.into_iter().flat_map(world::listening);
        let ports = ports.map(|(address, port)| format!("port {address}:{port}"));
        let runtime = octet.map(|octet| self.runtime_home().join(octet.to_string()));
        let folders = [Some(self.state()), runtime]
            .into_iter()
            .flatten()
            .filter(|it| it.exists());
        let folders = folders.map(|it| format!("folder {}", it.display()));
        processes.chain(ports).chain(folders).collect()
    }

    /// What a person needs to find the cause of a failed test.
    pub fn report(&self) {
        // The logs first, so that what tells most stands last; rows on a line each, since a wide table is unreadable in
        // the output of a CI run.
        for log in logs(&self.state()) {
            let text = fs::read(&log)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            if lines.is_empty() {
                continue;
            }
            eprintln!("\n== {}", log.strip_prefix(self.state()).unwrap_or(&log).display());
            eprintln!("{}", lines[lines.len().saturating_sub(8)..].join("\n"));
        }
        for pipeline in [
            "ha status",
            "ha health | where status != ok",
            "ha lag",
            "ha lease",
            "ha quorum",
            "ha events --last 20",
        ] {
            let lines = "each {|row| $row | transpose name value | where value not-in [null [] {}] \
                         | each {|it| $'($it.name)=($it.value)' } | str join ' ' } | str join \"\\n\"";
            match shell::evaluate(&format!("{pipeline} | {lines}"), |command| self.prepare(command)) {
                Ok(value) => eprintln!("\n== {pipeline}\n{}", value.as_str().unwrap_or_default()),
                Err(refused) => eprintln!("\n== {pipeline}\n{refused}"),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.report();
        }
        let octet = self.octet();
        let destroyed = if self.state().exists() {
            shell::evaluate(&format!("ha destroy {}", self.name), |command| self.prepare(command)).map(drop)
        } else {
            Ok(())
        };
        let mut left = self.left(octet);
        // The plugin goes a moment after its shell.
        for _ in 0..30 {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            left = self.left(octet);
        }
        // Started by this test, so ended by this test, whatever it shows.
        for process in self.processes() {
            process.kill();
        }
        if let Err(refused) = &destroyed {
            eprintln!("ha destroy: {refused}");
        }
        for it in &left {
            eprintln!("left behind: {it}");
        }
        assert!(
            failed || (destroyed.is_ok() && left.is_empty()),
            "{} was not removed",
            self.name
        );
    }
}

/// Of a row that nobody else writes.
fn new_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("row-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Of this user and this checkout; waits for its turn.
fn lock() -> File {
    let path = shell::root().join("target/ha-tests.lock");
    fs::create_dir_all(path.parent().expect("a folder")).expect("the target folder");
    let file = File::create(path).expect("a lock file");
    flock(&file, FlockOperation::LockExclusive).expect("the lock");
    file
}

fn process_in(run_file: &Path) -> Option<Process> {
    let file = read_json(run_file)?;
    let process = Process::of(i32::try_from(file["pid"].as_i64()?).ok()?)?;
    (Some(process.start_ticks) == file["start_ticks"].as_u64()).then_some(process)
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Files that end in `.log`, in the order of their paths.
fn logs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(logs(&path));
        } else if path.extension().is_some_and(|it| it == "log") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).expect("a file");
    }
}
