//! Evaluation in a process of its own.
//!
//! Nothing stops the evaluator but the end of its process: a workspace that calls itself without end keeps a thread
//! and takes more and more memory, and one that nests too deeply overflows a stack and takes the whole process with
//! it. So a program that lives longer than one evaluation calls [`evaluates`] first in its `main`, and from then on
//! [`crate::evaluate`] starts it once more, as a child that can be ended.

use std::{
    env, fs,
    io::{self, BufRead, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{Answer, EvaluateError};

/// A workspace that needs longer than this calls itself without end.
const PATIENCE: Duration = Duration::from_secs(10);

/// So does one that needs more memory than this, and it would take the whole machine's.
const MEMORY: u64 = 1 << 30;

/// The evaluator recurses as deep as the text nests; address space only, until it is used.
const STACK: usize = 256 << 20;

/// What a child is called with.
const ARGUMENT: &str = "--evaluate-workspace";

/// This program answers to [`ARGUMENT`].
static HOSTED: AtomicBool = AtomicBool::new(false);

#[derive(Serialize, Deserialize)]
struct Request {
    path: PathBuf,
    text: String,
    library: PathBuf,
}

/// Belongs first into `main`. True in a process that was only started to evaluate, and has: `main` returns then.
///
/// Without it, evaluations happen on threads of the caller's own process.
pub fn evaluates() -> bool {
    if env::args_os().nth(1).is_none_or(|argument| argument != ARGUMENT) {
        HOSTED.store(true, Ordering::Relaxed);
        return false;
    }
    // Whoever asked finds out by the answer that does not come.
    serve().ok();
    true
}

/// Reads one request, and answers it.
fn serve() -> io::Result<()> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    // Its end says that the asking process is gone, however that happened.
    thread::spawn(|| {
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        process::exit(1);
    });
    let (send, receive) = sync_channel(1);
    spawn(request, send)?;
    let answer: Answer = receive.recv().map_err(io::Error::other)?;
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &answer)?;
    out.flush()
}

fn spawn(request: Request, send: std::sync::mpsc::SyncSender<Answer>) -> io::Result<()> {
    let work = move || {
        // Nobody may wait any more: then the answer came too late.
        send.send(Answer::to(&request.path, &request.text, &request.library))
            .ok();
    };
    let thread = thread::Builder::new().name("evaluate".to_owned()).stack_size(STACK);
    thread.spawn(work).map(drop)
}

/// Evaluates `text`, the content of `path`, apart from everything else of this process.
pub(crate) fn evaluate(path: &Path, text: &str, library: &Path) -> Result<Answer, EvaluateError> {
    let request = Request {
        path: path.to_owned(),
        text: text.to_owned(),
        library: library.to_owned(),
    };
    if HOSTED.load(Ordering::Relaxed)
        && let Ok(child) = start(&request)
    {
        return in_child(path, child);
    }
    on_thread(path, request)
}

fn start(request: &Request) -> io::Result<Child> {
    // This very program, also when another one took its place on disk; in a group of its own, because a Ctrl-C that
    // is meant for a command must not look like a workspace that broke the evaluator.
    let mut child = Command::new("/proc/self/exe")
        .arg0("ha-evaluate")
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let sent = child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(&line));
    if sent.is_err() {
        end(&mut child);
    }
    sent.map(|()| child)
}

/// Afterwards the child is gone, whatever it said.
fn in_child(path: &Path, mut child: Child) -> Result<Answer, EvaluateError> {
    let (send, receive) = sync_channel(1);
    let Some(mut stdout) = child.stdout.take() else {
        end(&mut child);
        return Err(EvaluateError::Broken(path.to_owned()));
    };
    thread::spawn(move || {
        let mut said = Vec::new();
        stdout.read_to_end(&mut said).ok();
        send.send(said).ok();
    });
    let said = wait(path, &receive, || resident(&child.id().to_string()));
    end(&mut child);
    serde_json::from_slice(&said?).map_err(|_| EvaluateError::Broken(path.to_owned()))
}

/// It may be gone already; then there is nothing to end.
fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

/// The evaluator's types stay on the thread and a panic ends only it; a workspace that never ends is left behind.
fn on_thread(path: &Path, request: Request) -> Result<Answer, EvaluateError> {
    let (send, receive) = sync_channel(1);
    spawn(request, send).map_err(|source| crate::unreadable(path, source))?;
    let before = resident("self");
    wait(path, &receive, || resident("self").saturating_sub(before))
}

fn wait<T>(path: &Path, receive: &Receiver<T>, memory: impl Fn() -> u64) -> Result<T, EvaluateError> {
    let started = Instant::now();
    loop {
        match receive.recv_timeout(Duration::from_millis(100)) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(EvaluateError::Broken(path.to_owned())),
            Err(RecvTimeoutError::Timeout) => {
                if started.elapsed() > PATIENCE || memory() > MEMORY {
                    return Err(EvaluateError::Endless(path.to_owned()));
                }
            }
        }
    }
}

/// Memory of a process, in bytes; 0 where `/proc` does not tell, so that only time counts.
fn resident(process: &str) -> u64 {
    const PAGE: u64 = 4096;
    let statm = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|it| it.parse::<u64>().ok());
    pages.unwrap_or_default() * PAGE
}
