//! The relay with real sockets on loopback addresses. Every wait is for a condition, with a generous limit; that
//! something does *not* pass is shown by what passes meanwhile on another way.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use ha_core::{
    agent::{Front, RelayConfig},
    unit::{Link, Links},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
/// How long something that must not pass is given to pass.
const QUIET: Duration = Duration::from_millis(400);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A relay of `us-east` in front of a server that says everything back, and regions that call it.
struct World {
    folder: TempDir,
    octet: u8,
    relay: Child,
}

impl World {
    async fn new() -> Self {
        let number = std::process::id().wrapping_mul(7) + NEXT.fetch_add(1, Ordering::Relaxed);
        let octet = 20 + (number % 220) as u8;
        let folder = tempfile::tempdir().expect("a folder");
        for region in ["us-east", "eu-central", "asia-southeast"] {
            fs::create_dir_all(folder.path().join("regions").join(region)).expect("region");
        }
        let mut world = Self {
            folder,
            octet,
            relay: Command::new("true").spawn().expect("true"),
        };
        world.relay.wait().expect("true");
        world.write_config(&[11]);
        echo(world.target(11));
        world.relay = Command::new(env!("CARGO_BIN_EXE_ha-guard"))
            .arg("relay")
            .arg("--config")
            .arg(world.config_file())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("relay");
        world.fronts_open(1).await;
        world
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join("relay.json")
    }

    fn target(&self, host: u8) -> SocketAddr {
        ([127, self.octet, 1, host], 7000).into()
    }

    fn front(&self, host: u8) -> SocketAddr {
        ([127, self.octet, 101, host], 7000).into()
    }

    fn write_config(&self, hosts: &[u8]) {
        let config = RelayConfig {
            region: "us-east".to_owned(),
            status: format!("127.{}.101.1:8009", self.octet),
            fronts: hosts
                .iter()
                .map(|host| Front {
                    listen: self.front(*host).to_string(),
                    target: self.target(*host).to_string(),
                })
                .collect(),
            regions: [("1", "us-east"), ("2", "eu-central"), ("3", "asia-southeast")]
                .map(|(octet, region)| (octet.to_owned(), region.to_owned()))
                .into(),
            workspace_dir: self.folder.path().to_owned(),
            links: self.folder.path().join("links.json"),
        };
        replace(self.config_file(), &serde_json::to_vec(&config).expect("json"));
    }

    /// Sets all links and waits until the relay has read them.
    async fn links(&self, links: &[(&str, &str, u64, bool)]) {
        let links: Vec<Link> = links
            .iter()
            .map(|(from, to, delay_ms, cut)| Link {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
                delay_ms: *delay_ms,
                cut: *cut,
            })
            .collect();
        let file = Links { links };
        replace(
            self.folder.path().join("links.json"),
            &serde_json::to_vec(&file).expect("json"),
        );
        wait("the links are read", || async {
            let rows = self.get("links").await?;
            let rows = rows.as_array()?;
            let as_set = rows.iter().all(|row| {
                let link = file.get(row["from"].as_str().unwrap_or(""), row["to"].as_str().unwrap_or(""));
                row["delay_ms"] == link.map_or(0, |it| it.delay_ms) && row["cut"] == link.is_some_and(|it| it.cut)
            });
            as_set.then_some(())
        })
        .await;
    }

    async fn get(&self, what: &str) -> Option<Value> {
        let client = reqwest::Client::builder().no_proxy().build().expect("client");
        let url = format!("http://127.{}.101.1:8009/{what}", self.octet);
        client.get(url).send().await.ok()?.json().await.ok()
    }

    async fn fronts_open(&self, number: usize) {
        wait("the fronts are open", || async {
            let answer = self.get("fronts").await?;
            let fronts = answer["fronts"].as_array()?;
            (fronts.len() == number && fronts.iter().all(|it| it["open"] == true)).then_some(())
        })
        .await;
    }

    /// Calls the front from an address of region `octet`, as HAProxy does.
    fn call_from(&self, octet: u8) -> TcpStream {
        let socket = socket_from([127, self.octet, octet, 11]);
        let address = self.front(11);
        let SocketAddr::V4(address) = address else {
            unreachable!("an IPv4 address")
        };
        rustix::net::connect(&socket, &address).expect("connect");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).expect("timeout");
        stream
    }

    /// Calls from outside: an ordinary address, and a process (this one) that works nowhere in the workspace.
    fn call(&self) -> TcpStream {
        let stream = TcpStream::connect(self.front(11)).expect("connect");
        stream.set_read_timeout(Some(LIMIT)).expect("timeout");
        stream
    }

    async fn connection_from(&self, region: Option<&str>) -> Value {
        wait("the connection is listed", || async {
            let rows = self.get("connections").await?;
            let rows = rows.as_array()?;
            rows.iter().find(|it| it["from"].as_str() == region).cloned()
        })
        .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}

fn replace(path: PathBuf, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).expect("write");
    fs::rename(new, path).expect("rename");
}

fn socket_from(address: [u8; 4]) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("socket");
    bind(&fd, &std::net::SocketAddrV4::new(address.into(), 0)).expect("bind");
    fd
}

/// A server that says back what it hears, for as long as the test runs.
fn echo(address: SocketAddr) {
    let listener = TcpListener::bind(address).expect("an address of our own");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut out = stream.try_clone().expect("clone");
                let _ = std::io::copy(&mut stream, &mut out);
                let _ = out.shutdown(std::net::Shutdown::Write);
            });
        }
    });
}

async fn wait<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says one line and hears it back; how long that took.
fn ask(stream: &mut TcpStream, word: &str) -> Duration {
    let began = Instant::now();
    stream.write_all(word.as_bytes()).expect("write");
    hear(stream, word);
    began.elapsed()
}

fn hear(stream: &mut TcpStream, word: &str) {
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).expect("an answer");
    assert_eq!(heard, word.as_bytes());
}

/// Nothing comes, and the connection stays open.
fn silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(QUIET)).expect("timeout");
    let error = stream.read(&mut [0; 1]).expect_err("it should be silent");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    stream.set_read_timeout(Some(LIMIT)).expect("timeout");
}

const EU_TO_US: (&str, &str) = ("eu-central", "us-east");
const US_TO_EU: (&str, &str) = ("us-east", "eu-central");

fn link((from, to): (&'static str, &'static str), delay_ms: u64, cut: bool) -> (&'static str, &'static str, u64, bool) {
    (from, to, delay_ms, cut)
}

#[tokio::test]
async fn each_direction_adds_its_own_delay_also_to_what_is_open() {
    let world = World::new().await;
    let mut eu = world.call_from(2);
    ask(&mut eu, "before");
    world
        .links(&[link(EU_TO_US, 200, false), link(US_TO_EU, 150, false)])
        .await;
    let took = ask(&mut eu, "after");
    assert!(took >= Duration::from_millis(350), "{took:?}");
    // Another region is not concerned.
    ask(&mut world.call_from(3), "asia");
    world.links(&[]).await;
    let rows = world.get("links").await.expect("links");
    let row = rows.as_array().expect("rows").iter();
    let row = row.clone().find(|it| it["from"] == "eu-central").expect("a row");
    assert_eq!(row["connections"], 1);
    assert_eq!(row["bytes"], "beforeafter".len());
}

/// As over a long line, many pieces are on their way at once.
#[tokio::test]
async fn delay_is_not_paid_per_piece() {
    let world = World::new().await;
    world.links(&[link(EU_TO_US, 100, false)]).await;
    let mut eu = world.call_from(2);
    let pieces = 50;
    let mut out = eu.try_clone().expect("clone");
    let began = Instant::now();
    thread::spawn(move || {
        for _ in 0..pieces {
            out.write_all(b"0123456789").expect("write");
            thread::sleep(Duration::from_millis(2));
        }
    });
    let mut heard = vec![0; pieces * 10];
    eu.read_exact(&mut heard).expect("all of it");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(100) && took < Duration::from_millis(100 * pieces as u64),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_cut_is_silent_and_nothing_is_lost_when_it_heals() {
    let world = World::new().await;
    let mut eu = world.call_from(2);
    ask(&mut eu, "before");
    world.links(&[link(EU_TO_US, 0, true), link(US_TO_EU, 0, true)]).await;
    eu.write_all(b"meanwhile").expect("write");
    // A new connection is accepted and stays silent as well.
    let mut late = world.call_from(2);
    late.write_all(b"late").expect("write");
    silent(&mut eu);
    silent(&mut late);
    ask(&mut world.call_from(3), "asia is not concerned");
    ask(&mut world.call(), "nor is the outside");

    world.links(&[]).await;
    hear(&mut eu, "meanwhile");
    hear(&mut late, "late");
    ask(&mut eu, "after");
}

#[tokio::test]
async fn an_end_is_not_passed_on_while_cut() {
    let world = World::new().await;
    let mut eu = world.call_from(2);
    ask(&mut eu, "before");
    world.links(&[link(US_TO_EU, 0, true)]).await;
    // The server hears of it and ends too; that news must not come back yet.
    eu.shutdown(std::net::Shutdown::Write).expect("shutdown");
    silent(&mut eu);
    world.links(&[]).await;
    assert_eq!(eu.read(&mut [0; 1]).expect("the end"), 0);
}

#[tokio::test]
async fn one_direction_can_be_cut_alone() {
    let world = World::new().await;
    // A server that only listens, and tells what it heard.
    let listener = TcpListener::bind(world.target(12)).expect("an address of our own");
    world.write_config(&[11, 12]);
    world.fronts_open(2).await;
    let mut eu = TcpStream::from({
        let socket = socket_from([127, world.octet, 2, 12]);
        let SocketAddr::V4(front) = world.front(12) else {
            unreachable!("an IPv4 address")
        };
        rustix::net::connect(&socket, &front).expect("connect");
        socket
    });
    let (mut server, _) = listener.accept().expect("the relay");
    server.set_read_timeout(Some(LIMIT)).expect("timeout");

    world.links(&[link(US_TO_EU, 0, true)]).await;
    eu.write_all(b"there").expect("write");
    hear(&mut server, "there");
    server.write_all(b"back").expect("write");
    silent(&mut eu);
    world.links(&[link(EU_TO_US, 0, true)]).await;
    eu.set_read_timeout(Some(LIMIT)).expect("timeout");
    hear(&mut eu, "back");
    eu.write_all(b"again").expect("write");
    silent(&mut server);
    world.links(&[]).await;
    server.set_read_timeout(Some(LIMIT)).expect("timeout");
    hear(&mut server, "again");
}

/// A process whose working folder is in a region's folder calls from that region, whatever its address.
struct Inside {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Inside {
    fn call(world: &World, region: &str) -> Self {
        let (address, port) = (world.front(11).ip(), world.front(11).port());
        // The one program that is there wherever a shell is: bash speaks TCP.
        let mut child = Command::new("bash")
            .arg("-c")
            .arg(format!("exec 3<>/dev/tcp/{address}/{port}; cat <&3 & cat >&3"))
            .current_dir(world.folder.path().join("regions").join(region))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash");
        let (to, from) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        Self { child, to, from }
    }

    fn say(&mut self, word: &str) {
        self.to.write_all(word.as_bytes()).expect("write");
    }

    fn hear(&mut self, word: &str) {
        let mut heard = vec![0; word.len()];
        self.from.read_exact(&mut heard).expect("an answer");
        assert_eq!(heard, word.as_bytes());
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id() as i32).expect("pid");
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_process_is_known_by_its_folder_and_the_outside_is_never_cut() {
    let world = World::new().await;
    let mut asia = Inside::call(&world, "asia-southeast");
    asia.say("hello");
    asia.hear("hello");
    let row = world.connection_from(Some("asia-southeast")).await;
    assert_eq!(
        (row["to"].as_str(), row["state"].as_str()),
        (Some("us-east"), Some("open"))
    );
    assert!(row["peer"].as_str().expect("peer").starts_with("127.0.0.1:"));

    let all = ["eu-central", "asia-southeast"];
    let cut: Vec<_> = all
        .iter()
        .flat_map(|it| [(*it, "us-east", 0, true), ("us-east", *it, 0, true)])
        .collect();
    world.links(&cut).await;
    asia.say("cut");
    let mut outside = world.call();
    ask(&mut outside, "free");
    assert!(world.connection_from(None).await["from"].is_null());
    let rows = world.get("links").await.expect("links");
    let passed = rows
        .as_array()
        .expect("rows")
        .iter()
        .find(|it| it["from"] == "asia-southeast");
    assert_eq!(passed.expect("a row")["bytes"], "hello".len());
    world.links(&[]).await;
    asia.hear("cut");
}

#[tokio::test]
async fn a_caller_who_left_during_a_cut_is_let_go() {
    let world = World::new().await;
    world.links(&[link(EU_TO_US, 0, true)]).await;
    let mut eu = world.call_from(2);
    eu.write_all(b"is anybody there").expect("write");
    world.connection_from(Some("eu-central")).await;
    drop(eu);
    wait("it is let go", || async {
        let rows = world.get("connections").await?;
        rows.as_array()?.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_target_that_refuses_ends_the_callers_connection() {
    let world = World::new().await;
    world.write_config(&[11, 13]);
    world.fronts_open(2).await;
    let mut stream = TcpStream::connect(world.front(13)).expect("connect");
    stream.set_read_timeout(Some(LIMIT)).expect("timeout");
    let ended = stream.read(&mut [0; 1]);
    let reset = |it: &std::io::Error| it.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(matches!(&ended, Ok(0)) || ended.as_ref().is_err_and(reset), "{ended:?}");
}

#[tokio::test]
async fn fronts_come_and_go_without_disturbing_others() {
    let world = World::new().await;
    let mut eu = world.call_from(2);
    ask(&mut eu, "before");
    echo(world.target(12));
    world.write_config(&[11, 12]);
    world.fronts_open(2).await;
    ask(&mut TcpStream::connect(world.front(12)).expect("connect"), "new");
    world.write_config(&[12]);
    world.fronts_open(1).await;
    wait("the old front is closed", || async {
        TcpStream::connect(world.front(11)).is_err().then_some(())
    })
    .await;
    ask(&mut eu, "what is open stays open");

    // Half a file changes nothing, and neither does half a file of links.
    fs::write(world.config_file(), "{").expect("write");
    fs::write(world.folder.path().join("links.json"), "{").expect("write");
    kill_process(Pid::from_raw(world.relay.id() as i32).expect("pid"), Signal::HUP).expect("HUP");
    wait("it says what is wrong", || async {
        let answer = world.get("fronts").await?;
        answer["error"]
            .as_str()
            .filter(|it| it.contains("links.json"))
            .map(drop)
    })
    .await;
    ask(&mut eu, "still");
    ask(&mut TcpStream::connect(world.front(12)).expect("connect"), "still");
}

/// A receiver that does not read stops its sender, as a full line does, and what was sent arrives whole.
#[tokio::test]
async fn what_is_not_read_piles_up_at_the_sender() {
    let world = World::new().await;
    world
        .links(&[link(EU_TO_US, 20, false), link(US_TO_EU, 20, false)])
        .await;
    let mut eu = world.call_from(2);
    let mut out = eu.try_clone().expect("clone");
    let size = 24 << 20;
    let sending = thread::spawn(move || {
        let piece: Vec<u8> = (0..251).collect();
        let mut sent = 0;
        while sent < size {
            let part = piece.len().min(size - sent);
            out.write_all(&piece[..part]).expect("write");
            sent += part;
        }
        out.shutdown(std::net::Shutdown::Write).expect("shutdown");
    });
    thread::sleep(QUIET);
    let memory = fs::read_to_string(format!("/proc/{}/statm", world.relay.id())).expect("statm");
    let pages: usize = memory.split(' ').nth(1).expect("resident").parse().expect("a number");
    assert!(pages * 4096 < 40 << 20, "{} MiB resident", pages >> 8);
    let mut heard = Vec::new();
    eu.read_to_end(&mut heard).expect("all of it");
    assert_eq!(heard.len(), size);
    assert!(heard.iter().enumerate().all(|(index, it)| *it as usize == index % 251));
    sending.join().expect("sent");
}
