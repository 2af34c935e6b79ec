//! moto, an emulator of AWS that others wrote, as a child of one test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Deref,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Ends with the test.
pub(crate) struct Moto {
    child: Child,
    address: SocketAddr,
    accounts: AtomicU64,
}

impl Moto {
    /// Installed where it is not yet, and started.
    ///
    /// # Panics
    ///
    /// When it cannot be: the provider would go unjudged, and nobody would notice.
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/judges/aws/moto.sh");
        let mut child = Command::new(&script)
            .args(["-H", "127.0.0.1", "-p", "0"])
            // Kept open, and closed by the system when this process ends in whatever way.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = Vec::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.split_once("http://").map(|it| it.1.trim().to_owned());
            said.push(line);
            address?.parse().ok()
        });
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("moto did not start; {} said:\n{}", script.display(), said.join("\n"));
        };
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address,
            accounts: AtomicU64::new(111_111_111_111),
        }
    }

    /// An account that has nothing but what AWS gives to every new one.
    pub(crate) fn account(&self) -> Account {
        Account {
            moto: self.address,
            id: self.accounts.fetch_add(1, Relaxed).to_string(),
        }
    }
}

/// A few of them, each for one taker at a time.
pub(crate) struct Pool {
    size: usize,
    free: Arc<Mutex<Vec<Moto>>>,
}

impl Pool {
    pub(crate) fn start(size: usize) -> Self {
        let all = (0..size).map(|_| Moto::start()).collect();
        Self {
            size,
            free: Arc::new(Mutex::new(all)),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// # Panics
    ///
    /// When all are taken.
    pub(crate) fn take(&self) -> Taken {
        let moto = self.free.lock().expect("nobody panics with it").pop();
        Taken {
            moto: Some(moto.expect("as many takers as there are of them")),
            free: Arc::clone(&self.free),
        }
    }
}

/// One of a pool, which has it back when this is dropped.
pub(crate) struct Taken {
    moto: Option<Moto>,
    free: Arc<Mutex<Vec<Moto>>>,
}

impl Deref for Taken {
    type Target = Moto;

    fn deref(&self) -> &Moto {
        self.moto.as_ref().expect("it is given back once")
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.free
            .lock()
            .expect("nobody panics with it")
            .extend(self.moto.take());
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One account of moto, as whoever owns it uses it: not through the plugin.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    moto: SocketAddr,
    pub(crate) id: String,
}

impl Account {
    /// The answer to a request of the query protocol: `[("Action", "DescribeVpcs")]`.
    pub(crate) fn ask(&self, service: &str, location: &str, fields: &[(&str, &str)]) -> Answer {
        let version = match service {
            "ec2" => "2016-11-15",
            "elasticloadbalancing" => "2015-12-01",
            "rds" => "2014-10-31",
            other => panic!("no version for {other}"),
        };
        let mut body = format!("Version={version}");
        for (name, value) in fields {
            body.push_str(&format!("&{name}={}", escape(value)));
        }
        let head = format!(
            "POST / HTTP/1.1\r\nauthorization: AWS4-HMAC-SHA256 Credential=AK/20260101/{location}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        );
        self.forward(&head, body.as_bytes())
    }

    /// Sends a request with this head (its last line ended, its length and its host not in it) and reads the answer.
    pub(crate) fn forward(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.moto).expect("moto listens");
        let mut request = format!(
            "{head}host: {}\r\nx-moto-account-id: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.moto,
            self.id,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        // In one piece: a second one would wait for the other side's delayed acknowledgement of the first.
        stream.write_all(&request).expect("moto reads");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("moto answers");
        let text = String::from_utf8(all).expect("moto speaks UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|it| it.parse().ok())
            .expect("an answer has a status");
        let kind = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type")
                .then(|| value.trim().to_owned())
        });
        Answer {
            status,
            kind: kind.unwrap_or_else(|| "text/xml".to_owned()),
            body: body.to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: String,
}

impl Answer {
    /// Every value of this element.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let parts = self.body.split(&open).skip(1);
        parts
            .filter_map(|it| Some(it.split_once(&close)?.0.to_owned()))
            .collect()
    }

    pub(crate) fn one(&self, name: &str) -> String {
        self.all(name)
            .into_iter()
            .next()
            .unwrap_or_else(|| panic!("no {name} in {}", self.body))
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
