//! A workspace on this machine for one test, of which nothing is left afterwards.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use ha_cloud::{
    Provider, ProviderError,
    local::{LocalOptions, LocalProvider},
};
use ha_core::{
    model::{FailoverPolicy, TimingProfile},
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Live, Resource, ResourceId, Status},
};
use serde_json::{Value, json};

/// Folders of a test, and the provider of the workspace in them.
pub(crate) struct Machine {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) provider: LocalProvider,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ha-test-").tempdir().expect("temp");
        // As root the processes are another user's, who has to get in.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
        fs::write(folder.path().join("workspace.ncl"), "{}").expect("source");
        let provider = open(folder.path(), "workspace.ncl").expect("open");
        Self { folder, provider }
    }

    /// As another shell would see it.
    pub(crate) fn reopened(&self) -> LocalProvider {
        open(self.folder.path(), "workspace.ncl").expect("open")
    }

    pub(crate) async fn make(&self, resources: &[Resource]) {
        for want in resources {
            let started = Instant::now();
            let live = self.provider.ensure(want).await;
            eprintln!("{:>8.3} s  ensure {}", started.elapsed().as_secs_f64(), want.id);
            let live = live.unwrap_or_else(|error| panic!("{}: {error}\n{}", want.id, self.logs()));
            assert_eq!(live.status, Status::Running, "{}: {:?}", want.id, live.detail);
        }
    }

    pub(crate) async fn live(&self, id: &ResourceId) -> Live {
        let all = self.provider.observe().await.expect("observe");
        all.into_iter()
            .find(|live| live.id == *id)
            .unwrap_or_else(|| panic!("{id} is not listed"))
    }

    /// Removes everything, dependents first, and finds nothing left.
    pub(crate) async fn destroy(&self, resources: &[Resource]) {
        let lock = self.provider.try_lock("ha destroy").expect("free");
        for gone in resources.iter().rev() {
            let started = Instant::now();
            let removed = self.provider.remove(&gone.id).await;
            removed.unwrap_or_else(|error| panic!("{}: {error}", gone.id));
            eprintln!("{:>8.3} s  remove {}", started.elapsed().as_secs_f64(), gone.id);
        }
        assert_eq!(self.provider.observe().await.expect("observe"), []);
        drop(lock);
        assert_eq!(
            processes_below(self.folder.path()),
            Vec::<i32>::new(),
            "processes are left"
        );
        let left: Vec<PathBuf> = files_below(self.folder.path());
        assert_eq!(left, [self.folder.path().join("workspace.ncl")]);
    }

    /// What the processes said, for a test that failed.
    pub(crate) fn logs(&self) -> String {
        let logs = files_below(self.folder.path()).into_iter();
        let logs = logs.filter(|path| path.extension().is_some_and(|it| it == "log"));
        let tail = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(15).collect();
            format!(
                "== {}\n{}\n",
                path.display(),
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        };
        logs.map(tail).collect()
    }
}

impl Drop for Machine {
    /// Also after a failed assertion nothing stays behind: supervisors first, or they start the rest again.
    fn drop(&mut self) {
        for _ in 0..50 {
            let left = processes_below(self.folder.path());
            if left.is_empty() {
                break;
            }
            for pid in left {
                // One that ended meanwhile is what this is for.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for claim in claims(self.folder.path()) {
            let _ = fs::remove_file(claim);
        }
        let _ = fs::remove_dir(claims_folder());
    }
}

fn claims_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/ha-octets-{}", nix::unistd::Uid::effective()))
}

/// Claims of octets by workspaces below the folder.
pub(crate) fn claims(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(claims_folder()).into_iter().flatten().flatten();
    let all = all.map(|claim| claim.path());
    all.filter(|claim| Path::new(&fs::read_to_string(claim).unwrap_or_default()).starts_with(folder))
        .collect()
}

pub(crate) fn open(folder: &Path, source: &str) -> Result<LocalProvider, ProviderError> {
    let options = LocalOptions::from_env(WorkspaceName::new("shop"), &folder.join(source), |key| match key {
        "HA_STATE_HOME" => Some(folder.join("state").display().to_string()),
        "HA_RUNTIME_DIR" => Some(folder.join("run").display().to_string()),
        "HA_GUARD" => Some(guard_binary().display().to_string()),
        other => std::env::var(other).ok(),
    })?;
    LocalProvider::open(options)
}

/// `ha-guard` of the same build; Cargo does not build another package's binary for this one's tests.
fn guard_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("test binary");
        let binary = test.ancestors().nth(2).expect("target folder").join("ha-guard");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "-p", "ha-guard"])
            .status()
            .expect("cargo");
        assert!(
            built.success() && binary.is_file(),
            "cargo build -p ha-guard made no {}",
            binary.display()
        );
        binary
    })
}

/// Processes whose working folder is below, by the kernel's word.
pub(crate) fn processes_below(folder: &Path) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .collect()
}

pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => {
                let below = files_below(&entry.path());
                // An empty folder is something that is left, too.
                if below.is_empty() {
                    found.push(entry.path());
                }
                found.extend(below);
            }
            false => found.push(entry.path()),
        }
    }
    found
}

/// Waits for what must come by itself.
pub(crate) async fn until<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {within:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn id(region: &str, kind: Kind, name: &str) -> ResourceId {
    ResourceId::new(&RegionName::new(region), kind, name)
}

pub(crate) fn network(region: &str) -> Resource {
    resource(
        region,
        Kind::Network,
        "net",
        json!({"ip_range": "10.0.0.0/16", "location": "nyc3"}),
        &[],
    )
}

pub(crate) fn server(region: &str, name: &str, index: u32, roles: &[&str]) -> Resource {
    let spec = json!({
        "group": "group", "index": index, "image": "debian", "size": "small", "location": "nyc3",
        "roles": roles, "command": null,
    });
    resource(region, Kind::Server, name, spec, &[(Kind::Network, "net")])
}

pub(crate) fn store(region: &str, server: &str, after: Option<&ResourceId>) -> Resource {
    let spec = json!({"server": server, "heartbeat_ms": 100, "election_ms": 1000});
    let mut member = resource(region, Kind::Store, "store", spec, &[(Kind::Server, server)]);
    member.depends_on.extend(after.cloned());
    member
}

pub(crate) fn database(region: &str, server: &str, peers: &[&str], founder: Option<&ResourceId>) -> Resource {
    let mut nodes = vec![format!("{region}/{server}")];
    nodes.extend(peers.iter().map(|peer| (*peer).to_owned()));
    nodes.sort();
    let voters: Vec<Value> = nodes
        .iter()
        .map(|place| json!({"place": place, "data": true, "priority": 10, "forbidden": null}))
        .collect();
    let spec = json!({
        "server": server, "cluster": "pg", "engine": "postgres", "version": "15", "founder": founder.is_none(),
        "settings": {"max_connections": "50"}, "peers": peers, "sync_mode": "async",
        "timing": TimingProfile::Near.timing(), "failover": FailoverPolicy::default(), "voters": voters,
    });
    let mut node = resource(
        region,
        Kind::Database,
        "pg-1",
        spec,
        &[(Kind::Server, server), (Kind::Store, "store")],
    );
    node.depends_on.extend(founder.cloned());
    node
}

pub(crate) fn balancer(region: &str, targets: &[&str], databases: &[&str]) -> Resource {
    let spec = json!({
        "location": "nyc3", "algorithm": "round_robin", "targets": targets,
        "rules": [{"entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080}],
        "health_check": {"path": "/health", "interval_seconds": 1, "timeout_seconds": 1, "fall": 3, "rise": 2},
        "redirect_http_to_https": false, "databases": databases,
    });
    let needs: Vec<(Kind, &str)> = targets.iter().map(|target| (Kind::Server, *target)).collect();
    resource(region, Kind::LoadBalancer, "lb", spec, &needs)
}

fn resource(region: &str, kind: Kind, name: &str, spec: Value, needs: &[(Kind, &str)]) -> Resource {
    Resource {
        id: id(region, kind, name),
        provider: ProviderName::Digitalocean,
        spec,
        depends_on: needs.iter().map(|(kind, name)| id(region, *kind, name)).collect(),
        protect: false,
        path: format!("region_{}.{name}", region.replace('-', "_")),
    }
}
