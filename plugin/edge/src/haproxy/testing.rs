//! A real HAProxy for tests, and stand-ins for what is behind it.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::Admin;

/// Where to find the program; none (and a message) when it is not installed. In CI that is a failure.
pub(super) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders
        .into_iter()
        .map(|folder| folder.join("haproxy"))
        .find(|it| it.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "haproxy is not installed; run: apt-get install haproxy"
        );
        eprintln!("skipped: haproxy is not installed");
    }
    found
}

/// A loopback network of its own, 127.x.y.0, so that tests side by side never meet.
pub(super) struct Net {
    x: u8,
    y: u8,
}

impl Net {
    pub(super) fn new() -> Self {
        // The process id tells test runs apart, the counter tests of one run.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = std::process::id() as usize * 16 + NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            x: 64 + (number / 250 % 128) as u8,
            y: 1 + (number % 250) as u8,
        }
    }

    pub(super) fn host(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.x, self.y, host)
    }
}

/// A running HAProxy; ends with the value.
pub(super) struct Running {
    child: Child,
    pub(super) admin: Admin,
    pub(super) folder: tempfile::TempDir,
}

impl Running {
    /// Starts it with the configuration that `config` makes from the path of the admin socket,
    /// and waits until it answers there.
    pub(super) async fn start(program: &Path, config: impl FnOnce(&Path) -> String) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("admin.sock");
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config(&socket))?;
        std::fs::write(folder.path().join("hold.lua"), super::HOLD)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        // A master with its worker, as it runs in earnest; it stays in the foreground.
        let child = Command::new(program)
            .arg("-W")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let running = Self {
            child,
            admin: Admin::new(socket),
            folder,
        };
        running
            .until("HAProxy answers", async || running.admin.servers().await.is_ok())
            .await;
        Ok(running)
    }

    /// A new worker reads the file and takes over; returns when it answers.
    pub(super) async fn reload(&self) -> io::Result<()> {
        let before = self.admin.pid().await.map_err(io::Error::other)?;
        let asked = AtomicUsize::new(0);
        self.until("a new worker answers", async || {
            // A master that is still busy with the last reload now and then loses the signal for the next.
            if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(50) && self.signal("USR2").is_err() {
                return false;
            }
            self.admin.pid().await.is_ok_and(|pid| pid != before)
        })
        .await;
        Ok(())
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status()?;
        if sent.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("cannot send {signal} to {pid}")))
        }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits for something that HAProxy offers no event for; panics with its log after ten seconds.
    pub(super) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), wait).await.is_err() {
            panic!("waited in vain until {what}\n{}", self.log());
        }
    }

    /// Waits until exactly these servers of a backend are up.
    pub(super) async fn until_up(&self, backend: &str, servers: &[&str]) {
        self.until(&format!("{servers:?} are up in {backend}"), async || {
            self.admin.counters().await.is_ok_and(|rows| {
                let up = rows
                    .iter()
                    .filter(|row| row.backend == backend && row.status.starts_with("UP"));
                // A check must have been made: before the first, everything counts as up.
                let checked = rows
                    .iter()
                    .filter(|row| row.backend == backend)
                    .all(|row| row.check.as_deref() != Some("INI"));
                checked && up.map(|row| row.server.as_str()).eq(servers.iter().copied())
            })
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked first, because a worker outlives a master that is killed for a moment. It all fails only when it has
        // ended already.
        let _ = self.signal("TERM");
        let _ = self.child.wait();
    }
}

/// Answers HTTP: 200 and its name, unless told otherwise for a path.
pub(super) struct Web {
    answers: Arc<Mutex<HashMap<String, u16>>>,
    /// Requests for `/work`: those that were not checks.
    pub(super) served: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Web {
    pub(super) async fn start(name: &str, host: Ipv4Addr, port: u16, work_takes: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port)).await?;
        let answers = Arc::new(Mutex::new(HashMap::new()));
        let served = Arc::new(AtomicUsize::new(0));
        let (name, statuses, count) = (name.to_owned(), Arc::clone(&answers), Arc::clone(&served));
        let task = tokio::spawn(async move {
            // Connections end with the set, and the set with the task: a killed server answers nobody.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (name, statuses, count) = (name.clone(), Arc::clone(&statuses), Arc::clone(&count));
                connections.spawn(async move {
                    // A client that went away is the client's business.
                    let _ = Self::answer(stream, &name, &statuses, &count, work_takes).await;
                });
            }
        });
        Ok(Self { answers, served, task })
    }

    /// From now on, requests for `path` (its query left out) are answered with `status`.
    pub(super) fn set(&self, path: &str, status: u16) {
        self.answers
            .lock()
            .expect("nobody panics with it")
            .insert(path.to_owned(), status);
    }

    pub(super) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    async fn answer(
        mut stream: TcpStream,
        name: &str,
        statuses: &Mutex<HashMap<String, u16>>,
        count: &AtomicUsize,
        work_takes: Duration,
    ) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut piece = [0; 1024];
            match stream.read(&mut piece).await? {
                0 => return Ok(()),
                length => head.extend_from_slice(&piece[..length]),
            }
        }
        let head = String::from_utf8_lossy(&head);
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        if path == "/work" {
            tokio::time::sleep(work_takes).await;
            count.fetch_add(1, Ordering::SeqCst);
        }
        let status = statuses
            .lock()
            .expect("nobody panics with it")
            .get(path)
            .copied()
            .unwrap_or(200);
        let length = name.len();
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{name}");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Stands for a database: says its name and holds the connection until it is ended.
pub(super) struct Line {
    task: JoinHandle<()>,
}

impl Line {
    pub(super) async fn start(name: &str, host: Ipv4Addr, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port)).await?;
        let name = format!("{name}\n");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let name = name.clone();
                connections.spawn(async move {
                    let mut rest = Vec::new();
                    let _ = stream.write_all(name.as_bytes()).await;
                    let _ = stream.read_to_end(&mut rest).await;
                });
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}
