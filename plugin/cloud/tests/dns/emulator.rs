//! Emulators of Route 53 that others wrote, each as a child of one test.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Ends with the test.
pub(crate) struct Emulator {
    child: Child,
    pub(crate) endpoint: String,
    accounts: AtomicU64,
}

impl Emulator {
    /// Batches are whole or nothing, and changes are pending at first. It has no states of checks, lists no tags of
    /// several things, throttles nobody and forgets references.
    pub(crate) fn ministack() -> Self {
        Self::start("ministack.sh", &[])
    }

    /// It has states of checks and tags of several things. Batches are not whole, references mean nothing, and a list of
    /// many sets with one name leads back to itself.
    pub(crate) fn moto() -> Self {
        Self::start("moto.sh", &["-H", "127.0.0.1", "-p", "0"])
    }

    /// Installed where it is not yet, and started.
    ///
    /// # Panics
    ///
    /// When it cannot be: the provider would go unjudged, and nobody would notice.
    fn start(script: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/judges/aws")
            .join(script);
        let mut child = Command::new(&script)
            .args(arguments)
            // Kept open, and closed by the system when this process ends in whatever way.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = Vec::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line
                .split_once("http://")
                .and_then(|it| it.1.split_whitespace().next())
                .map(str::to_owned);
            said.push(line);
            address
        });
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{} did not start and said:\n{}", script.display(), said.join("\n"));
        };
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            endpoint: format!("http://{address}"),
            accounts: AtomicU64::new(111_111_111_111),
        }
    }

    /// An account that has nothing.
    pub(crate) fn account(&self) -> String {
        self.accounts.fetch_add(1, Relaxed).to_string()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
