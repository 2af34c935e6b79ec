//! A proxy in front of moto with what moto lacks: client tokens that mean something, throttling, delays before
//! something new is known, states that take time, and answers that get lost.

pub(crate) mod moto;
pub(crate) mod neighbours;
pub(crate) mod world;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::moto::{Account, Answer};

/// Gone when the last clone is: its thread ends at the next connection, which dropping makes.
pub(crate) struct Proxy {
    address: SocketAddr,
    pub(crate) account: Account,
    state: Arc<Mutex<State>>,
}

/// What is to go wrong, and what was seen.
#[derive(Default)]
pub(crate) struct State {
    closed: bool,
    /// Requests by their action, in the order in which they came.
    pub(crate) seen: Vec<String>,
    /// The answer to the changing request after so many more is lost, once it was carried out.
    pub(crate) lose: Option<u64>,
    /// All answers to changing requests are lost, and what comes after the first is not carried out.
    pub(crate) die: bool,
    died: bool,
    /// Requests whose action begins like this are throttled, so many times.
    pub(crate) throttle: Option<(&'static str, u32)>,
    /// Actions that are answered with this code and status, so many times, and not carried out.
    pub(crate) refuse: BTreeMap<&'static str, (&'static str, u16, u32)>,
    /// How often something new is called unknown by the request that uses it.
    pub(crate) unknown_at_first: u32,
    unknown: BTreeMap<String, u32>,
    /// What is said once more to be on its way though it is there.
    pub(crate) pending: Option<Pending>,
    /// Client tokens with the parameters and the answer of their first request.
    tokens: BTreeMap<String, (String, Answer)>,
    /// Held while a request with a token is carried out: AWS makes one thing of two that come at once.
    turn: Arc<Mutex<()>>,
    /// The tokens of volumes are remembered when these are gone, as at AWS for a day.
    pub(crate) tokens_outlive_volumes: bool,
    /// Replicas that were promoted, by their identifiers.
    promoted: Vec<String>,
}

impl Proxy {
    pub(crate) fn start(account: Account) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, moto) = (Arc::clone(&state), account.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&shared).closed {
                    return;
                }
                let (shared, moto) = (Arc::clone(&shared), moto.clone());
                std::thread::spawn(move || serve(&stream, &shared, &moto));
            }
        });
        Self {
            address,
            account,
            state,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How many requests with this action came.
    pub(crate) fn count(&self, action: &str) -> usize {
        self.state().seen.iter().filter(|it| *it == action).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state().closed = true;
        drop(TcpStream::connect(self.address));
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A state that takes time at AWS and none at moto: the list that tells it, as it is, and as it is told once.
pub(crate) type Pending = (&'static str, &'static str, &'static str);

/// Actions in which a client token means something here.
const TOKENS_COUNT: [&str; 2] = ["RunInstances", "CreateVolume"];

/// One request as it came.
struct Request {
    head: String,
    body: Vec<u8>,
    action: String,
    /// Of the query protocol; empty for JSON.
    fields: BTreeMap<String, String>,
}

impl Request {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn changes(&self) -> bool {
        !["Describe", "Get", "List"]
            .iter()
            .any(|verb| self.action.starts_with(verb))
    }
}

/// None at the end of the connection.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let (mut head, mut length, mut action) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "host" | "connection" => {}
            // JSON services name the action here: AmazonSSM.GetParameter
            "x-amz-target" => {
                action = value.rsplit('.').next().unwrap_or_default().to_owned();
                head.push_str(&line);
            }
            _ => head.push_str(&line),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut fields = BTreeMap::new();
    if action.is_empty() {
        let text = String::from_utf8_lossy(&body);
        fields.extend(
            text.split('&')
                .filter_map(|it| it.split_once('='))
                .map(|(name, value)| (name.to_owned(), plain(value))),
        );
        action = fields.get("Action").cloned().unwrap_or_default();
    }
    Some(Request {
        head,
        body,
        action,
        fields,
    })
}

fn plain(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                let hex = String::from_utf8_lossy(&hex).into_owned();
                out.push(u8::from_str_radix(&hex, 16).expect("an escape is hexadecimal"));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn serve(stream: &TcpStream, state: &Mutex<State>, moto: &Account) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let Some(answer) = answer(&request, state, moto) else {
            // Lost on the way.
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        };
        // In one piece, as the request to moto.
        let whole = format!(
            "HTTP/1.1 {} X\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n{}",
            answer.status,
            answer.kind,
            answer.body.len(),
            answer.body
        );
        let mut out = stream;
        if out.write_all(whole.as_bytes()).is_err() {
            return;
        }
    }
}

/// None when it is lost.
fn answer(request: &Request, state: &Mutex<State>, moto: &Account) -> Option<Answer> {
    let lost = {
        let mut state = lock(state);
        state.seen.push(request.action.clone());
        if let Some(refusal) = state.refusal(request) {
            return Some(refusal);
        }
        if state.die && state.died && request.changes() {
            return None;
        }
        state.loses(request)
    };
    let turn = Arc::clone(&lock(state).turn);
    let _held = (!request.field("ClientToken").is_empty()).then(|| lock(&turn));
    let remembered = lock(state).remembered(request, moto);
    let mut answer = match remembered {
        Some(answer) => answer,
        None => moto.forward(&request.head, &request.body),
    };
    lock(state).afterwards(request, &mut answer);
    (!lost).then_some(answer)
}

fn refused(code: &str, status: u16) -> Answer {
    // EC2 answers in the first form, other services in the second; both are read by all of their clients here.
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>said by the proxy</Message></Error>");
    Answer {
        status,
        kind: "text/xml".into(),
        body: format!("<Response><Errors>{error}</Errors>{error}<RequestID>1</RequestID></Response>"),
    }
}

impl State {
    /// What is not let through at all.
    fn refusal(&mut self, request: &Request) -> Option<Answer> {
        if let Some((prefix, left)) = &mut self.throttle
            && request.action.starts_with(*prefix)
            && *left > 0
        {
            *left -= 1;
            return Some(refused("RequestLimitExceeded", 503));
        }
        if let Some((code, status, left)) = self.refuse.get_mut(request.action.as_str())
            && *left > 0
        {
            *left -= 1;
            return Some(refused(code, *status));
        }
        if request.changes() {
            let unknown = self
                .unknown
                .iter_mut()
                .find(|(id, left)| **left > 0 && request.fields.values().any(|it| it == *id));
            if let Some((_, left)) = unknown {
                *left -= 1;
                return Some(refused("InvalidResourceID.NotFound", 400));
            }
        }
        None
    }

    fn loses(&mut self, request: &Request) -> bool {
        if !request.changes() {
            return false;
        }
        // A key pair is not yet anything of a server.
        if self.die && request.action != "ImportKeyPair" {
            self.died = true;
            return true;
        }
        match &mut self.lose {
            Some(1) => {
                self.lose = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// Revives whoever died.
    pub(crate) fn revive(&mut self) {
        (self.die, self.died) = (false, false);
    }

    /// The answer that a client token stands for; moto pays no heed to it.
    fn remembered(&mut self, request: &Request, moto: &Account) -> Option<Answer> {
        if !TOKENS_COUNT.contains(&request.action.as_str()) {
            return None;
        }
        let (before, answer) = self.tokens.get(request.field("ClientToken"))?;
        if *before != parameters(request) {
            return Some(refused("IdempotentParameterMismatch", 400));
        }
        let mut answer = answer.clone();
        let location = request.head.split("Credential=").nth(1)?.split('/').nth(2)?;
        let now = |action: &str, name: &str, id: &str| moto.ask("ec2", location, &[("Action", action), (name, id)]);
        if request.action == "CreateVolume" {
            let there = || now("DescribeVolumes", "VolumeId.1", &answer.one("volumeId")).status == 200;
            return (self.tokens_outlive_volumes || there()).then_some(answer);
        }
        let now = now("DescribeInstances", "InstanceId.1", &answer.one("instanceId"));
        if now.status != 200 || now.body.contains("<name>terminated</name>") {
            answer.body = answer.body.replace("<name>pending</name>", "<name>terminated</name>");
        }
        Some(answer)
    }

    fn afterwards(&mut self, request: &Request, answer: &mut Answer) {
        match request.action.as_str() {
            action if TOKENS_COUNT.contains(&action) && answer.status == 200 => {
                let token = request.field("ClientToken").to_owned();
                // One that was remembered comes by here again, with what became of it since.
                if action == "CreateVolume" || !self.tokens.contains_key(&token) {
                    self.tokens.insert(token, (parameters(request), answer.clone()));
                }
            }
            "PromoteReadReplica" => self.promoted.push(request.field("DBInstanceIdentifier").to_owned()),
            "DescribeDBInstances" => {
                for name in &self.promoted {
                    forget_source(&mut answer.body, name);
                }
            }
            _ => {}
        }
        if let Some((list, now, told)) = self.pending
            && request.action == list
            && answer.body.contains(now)
        {
            self.pending = None;
            answer.body = answer.body.replace(now, told);
        }
        if self.unknown_at_first > 0 && request.action.starts_with("Create") && answer.status == 200 {
            for name in ["vpcId", "subnetId", "groupId", "internetGatewayId", "routeTableId"] {
                for id in answer.all(name) {
                    self.unknown.entry(id).or_insert(self.unknown_at_first);
                }
            }
        }
    }
}

/// What a token is bound to.
fn parameters(request: &Request) -> String {
    let fields = request.fields.iter().map(|(name, value)| format!("{name}={value}"));
    fields.collect::<Vec<_>>().join("&")
}

/// Takes the source out of what is told of one database.
fn forget_source(body: &mut String, name: &str) {
    let mut out = String::new();
    for (at, part) in body.split("<DBInstance>").enumerate() {
        if at > 0 {
            out.push_str("<DBInstance>");
        }
        let key = "ReadReplicaSourceDBInstanceIdentifier>";
        let ours = part.contains(&format!("<DBInstanceIdentifier>{name}<"));
        match (
            ours,
            part.split_once(&format!("<{key}")),
            part.split_once(&format!("</{key}")),
        ) {
            (true, Some((before, _)), Some((_, after))) => {
                out.push_str(before);
                out.push_str(after);
            }
            _ => out.push_str(part),
        }
    }
    *body = out;
}
