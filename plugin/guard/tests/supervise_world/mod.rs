//! A region's folder with a real supervisor, and waits that end with what was waited for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ha_core::unit::{RunFile, StopSignal, Unit, UnitState, UnitStatus};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A region's folder, its supervisor, and whatever that started.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) supervisor: Option<Child>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let world = Self {
            folder,
            supervisor: None,
        };
        fs::create_dir_all(world.region().join("hosts")).expect("hosts");
        fs::write(world.region().join("../../workspace.json"), r#"{"workspace": "shop"}"#).expect("workspace.json");
        world
    }

    pub(crate) fn region(&self) -> PathBuf {
        self.folder.path().join("shop/regions/us-east")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    pub(crate) fn host(&self, host: &str) -> PathBuf {
        self.region().join("hosts").join(host)
    }

    pub(crate) fn run_file(&self, host: &str, unit: &str) -> PathBuf {
        self.host(host).join(format!("run/{unit}.json"))
    }

    /// A unit that runs `script` in a shell.
    pub(crate) fn unit(&self, host: &str, name: &str, script: &str) -> Unit {
        let cwd = self.host(host).join("data");
        fs::create_dir_all(&cwd).expect("data");
        Unit {
            name: name.to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: Default::default(),
            cwd,
            stop_signal: StopSignal::Term,
            reload_signal: None,
            stop_timeout_ms: 10_000,
            ready: None,
            restart_key: "1".to_owned(),
            reload_key: "1".to_owned(),
        }
    }

    pub(crate) fn write(&self, host: &str, unit: &Unit) {
        let file = self.host(host).join(format!("units/{}.json", unit.name));
        fs::create_dir_all(file.parent().expect("parent")).expect("units");
        // As the provider does it: nobody reads half a file.
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_vec(unit).expect("json")).expect("unit file");
        fs::rename(new, file).expect("rename");
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ha-guard"));
        command
            .arg("supervise")
            .arg("--region-dir")
            .arg(self.region())
            .arg("--socket")
            .arg(self.socket())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    pub(crate) async fn start(&mut self) {
        self.supervisor = Some(self.command().spawn().expect("supervisor"));
        wait("the supervisor answers", || async { self.try_get().await }).await;
    }

    pub(crate) async fn try_get(&self) -> Option<Vec<UnitStatus>> {
        let answer = self.client().get("http://supervisor/units").send().await.ok()?;
        answer.json().await.ok()
    }

    pub(crate) fn client(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .unix_socket(self.socket())
            .no_proxy()
            .build()
            .expect("client")
    }

    pub(crate) async fn post(&self, path: &str) -> reqwest::Response {
        let url = format!("http://supervisor{path}");
        self.client().post(url).send().await.expect("an answer")
    }

    pub(crate) async fn sync(&self) -> Vec<UnitStatus> {
        self.post("/sync").await.json().await.expect("rows")
    }

    pub(crate) async fn status(&self, host: &str, unit: &str) -> Option<UnitStatus> {
        let rows = self.try_get().await?;
        rows.into_iter().find(|it| it.host == host && it.unit == unit)
    }

    /// Waits until the unit's row is as wanted.
    pub(crate) async fn until(&self, host: &str, unit: &str, wanted: impl Fn(&UnitStatus) -> bool) -> UnitStatus {
        wait(&format!("{host}/{unit}"), || async {
            self.status(host, unit).await.filter(&wanted)
        })
        .await
    }

    pub(crate) async fn ready(&self, host: &str, unit: &str) -> i32 {
        let status = self.until(host, unit, |it| it.state == UnitState::Ready).await;
        status.pid.expect("a pid")
    }

    /// Waits until the unit has said so; a shell that has not set its traps yet is ended by what it should trap.
    pub(crate) async fn logged(&self, host: &str, unit: &str, word: &str) {
        let log = self.host(host).join(format!("log/{unit}.log"));
        wait(&format!("`{word}` in {}", log.display()), || async {
            fs::read_to_string(&log).ok()?.contains(word).then_some(())
        })
        .await;
    }

    pub(crate) fn kill_supervisor(&mut self) {
        let mut child = self.supervisor.take().expect("running");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    pub(crate) fn events(&self) -> String {
        fs::read_to_string(self.region().join("events.jsonl")).unwrap_or_default()
    }

    /// Living processes whose working folder is below ours.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let inside = fs::canonicalize(self.folder.path()).expect("folder");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        entries
            .filter_map(|it| it.file_name().to_str()?.parse().ok())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|it| it.starts_with(&inside)))
            .filter(|pid| alive(*pid))
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for pid in self.processes() {
            signal(pid, Signal::KILL);
        }
    }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).expect("a pid"), signal);
}

/// A process that ended and was not collected yet is not alive.
pub(crate) fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|it| !it[it.rfind(')').unwrap_or(0)..].starts_with(") Z"))
}

pub(crate) fn start_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields = stat.rsplit(") ").next().expect("fields");
    fields.split(' ').nth(19).expect("field 22").parse().expect("a number")
}

pub(crate) async fn wait<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn gone(pid: i32) {
    wait(&format!("process {pid} ends"), || async { (!alive(pid)).then_some(()) }).await;
}

pub(crate) fn read_run(path: &Path) -> RunFile {
    serde_json::from_slice(&fs::read(path).expect("run file")).expect("json")
}

pub(crate) const FOREVER: &str = "while :; do sleep 0.05; done";
