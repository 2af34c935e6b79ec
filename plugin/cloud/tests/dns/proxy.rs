//! A proxy in front of an emulator with what it lacks: throttling, zones that are busy, caller references that stay used
//! up, states of checks, and answers that get lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State as Shared},
    http::{Method, Response, StatusCode},
};
use futures::stream;
use tokio::{net::TcpListener, task::JoinHandle};

const XML: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

/// Gone when it is dropped.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    state: Arc<Mutex<Faults>>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Way {
    emulator: String,
    account: String,
    state: Arc<Mutex<Faults>>,
    client: reqwest::Client,
}

/// What is to go wrong, and what was seen.
#[derive(Default)]
pub(crate) struct Faults {
    /// Requests by their action, in the order in which they came.
    pub(crate) seen: Vec<&'static str>,
    /// Actions that are answered with this status and body, so many times, and not carried out.
    pub(crate) refuse: BTreeMap<&'static str, (u16, String, u32)>,
    /// The answer to the changing request after so many more is lost, once it was carried out.
    pub(crate) lose: Option<u32>,
    /// So many times more, a change has not reached every server.
    pub(crate) pending: u32,
    /// What checkers say; empty leaves it to the emulator.
    pub(crate) reports: Vec<&'static str>,
    /// Caller references with the settings that came with them, of what was deleted as well.
    references: BTreeMap<String, String>,
    deleted: BTreeSet<String>,
    ids: BTreeMap<String, String>,
}

impl Proxy {
    pub(crate) async fn start(emulator: &str, account: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let endpoint = format!("http://{}", listener.local_addr().expect("it listens"));
        let state: Arc<Mutex<Faults>> = Arc::default();
        let way = Way {
            emulator: emulator.to_owned(),
            account: account.to_owned(),
            state: Arc::clone(&state),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
        };
        let router = Router::new().fallback(answer).with_state(way);
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self {
            endpoint,
            state,
            server,
        }
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.state)
    }

    pub(crate) fn refuse(&self, action: &'static str, code: &str, message: &str, times: u32) {
        self.faults().refuse.insert(action, (400, error(code, message), times));
    }

    /// How many requests with this action came.
    pub(crate) fn count(&self, action: &str) -> usize {
        self.faults().seen.iter().filter(|it| **it == action).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(state: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn action(method: &Method, path: &str) -> &'static str {
    let path = path.trim_start_matches("/2013-04-01/").trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["hostedzone"]) => "ListHostedZones",
        ("POST", ["hostedzone"]) => "CreateHostedZone",
        ("DELETE", ["hostedzone", _]) => "DeleteHostedZone",
        ("GET", ["hostedzone", _, "rrset"]) => "ListResourceRecordSets",
        ("POST", ["hostedzone", _, "rrset"]) => "ChangeResourceRecordSets",
        ("GET", ["healthcheck"]) => "ListHealthChecks",
        ("POST", ["healthcheck"]) => "CreateHealthCheck",
        ("POST", ["healthcheck", _]) => "UpdateHealthCheck",
        ("DELETE", ["healthcheck", _]) => "DeleteHealthCheck",
        ("GET", ["healthcheck", _, "status"]) => "GetHealthCheckStatus",
        ("GET", ["change", _]) => "GetChange",
        ("GET", ["tags", _, _]) => "ListTagsForResource",
        ("POST", ["tags", _, _]) => "ChangeTagsForResource",
        ("POST", ["tags", _]) => "ListTagsForResources",
        _ => panic!("{method} {path} is no request that was expected"),
    }
}

const CHANGING: [&str; 7] = [
    "CreateHostedZone",
    "DeleteHostedZone",
    "ChangeResourceRecordSets",
    "CreateHealthCheck",
    "UpdateHealthCheck",
    "DeleteHealthCheck",
    "ChangeTagsForResource",
];

async fn answer(Shared(way): Shared<Way>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    let text = String::from_utf8_lossy(&body).into_owned();
    let action = action(&head.method, head.uri.path());
    {
        let mut faults = lock(&way.state);
        faults.seen.push(action);
        if let Some(refusal) = faults.refusal(action, &text) {
            return refusal;
        }
    }
    let path = head.uri.path_and_query().expect("a path").as_str();
    let (status, mut answered) = match action {
        "ListTagsForResources" => way.tags(path, &text).await,
        _ => way.forward(head.method.clone(), path, body.to_vec()).await,
    };
    // ministack writes truth as Python does.
    answered = answered.replace(">True<", ">true<").replace(">False<", ">false<");
    let mut faults = lock(&way.state);
    faults.remember(action, head.uri.path(), &text, status, &answered);
    if action == "GetChange" && faults.pending > 0 {
        faults.pending -= 1;
        answered = answered.replace(">INSYNC<", ">PENDING<");
    }
    if faults.loses(action) {
        // The head of an answer, and then nothing.
        let broken = stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("lost")) });
        return Response::new(Body::from_stream(broken));
    }
    respond(status, answered)
}

impl Way {
    /// As it came, in the name of the account: moto takes it from a header, ministack from the signature.
    async fn forward(&self, method: Method, path: &str, body: Vec<u8>) -> (u16, String) {
        let signed = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=0",
            self.account
        );
        let answer = self
            .client
            .request(method, format!("{}{path}", self.emulator))
            .header("authorization", signed)
            .header("x-moto-account-id", &self.account)
            .header("content-type", "application/xml")
            .body(body)
            .send()
            .await
            .expect("the emulator answers");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("a body"))
    }

    /// Of several things, as ministack cannot: asked one by one.
    async fn tags(&self, path: &str, body: &str) -> (u16, String) {
        let mut sets = String::new();
        for id in all(body, "ResourceId") {
            let (status, one) = self.forward(Method::GET, &format!("{path}/{id}"), Vec::new()).await;
            assert_eq!(status, 200, "{one}");
            let set = one
                .split_once("<ResourceTagSet>")
                .and_then(|it| it.1.split_once("</ResourceTagSet>"));
            sets.push_str(&format!("<ResourceTagSet>{}</ResourceTagSet>", set.expect("a set").0));
        }
        let name = "ListTagsForResourcesResponse";
        let sets = format!("<{name} xmlns=\"{XML}\"><ResourceTagSets>{sets}</ResourceTagSets></{name}>");
        (200, sets)
    }
}

impl Faults {
    /// What is not let through at all.
    fn refusal(&mut self, action: &'static str, body: &str) -> Option<Response<Body>> {
        if let Some((status, body, left)) = self.refuse.get_mut(action)
            && *left > 0
        {
            *left -= 1;
            return Some(respond(*status, body.clone()));
        }
        if action == "GetHealthCheckStatus" && !self.reports.is_empty() {
            let one = |said: &&str| {
                let when = "2026-01-01T00:00:00.000Z";
                format!(
                    "<HealthCheckObservation><StatusReport><Status>{said}</Status><CheckedTime>{when}</CheckedTime>\
                     </StatusReport></HealthCheckObservation>"
                )
            };
            let all: String = self.reports.iter().map(one).collect();
            let name = "GetHealthCheckStatusResponse";
            let list = format!("<HealthCheckObservations>{all}</HealthCheckObservations>");
            return Some(respond(200, format!("<{name} xmlns=\"{XML}\">{list}</{name}>")));
        }
        // A reference is taken once: again only for the very same thing, and never for one that was deleted.
        let reference = all(body, "CallerReference").into_iter().next()?;
        let before = self.references.get(&reference)?;
        match action {
            "CreateHostedZone" => Some(refused(409, "HostedZoneAlreadyExists")),
            "CreateHealthCheck" if before != body || self.deleted.contains(&reference) => {
                Some(refused(409, "HealthCheckAlreadyExists"))
            }
            _ => None,
        }
    }

    fn remember(&mut self, action: &str, path: &str, body: &str, status: u16, answer: &str) {
        if status >= 300 {
            return;
        }
        match action {
            "CreateHostedZone" | "CreateHealthCheck" => {
                let reference = all(body, "CallerReference").remove(0);
                let id = all(answer, "Id").remove(0);
                self.ids
                    .insert(id.rsplit('/').next().expect("an id").to_owned(), reference.clone());
                self.references.insert(reference, body.to_owned());
            }
            "DeleteHealthCheck" => {
                let id = path.rsplit('/').next().expect("an id");
                self.deleted.extend(self.ids.get(id).cloned());
            }
            _ => {}
        }
    }

    fn loses(&mut self, action: &str) -> bool {
        if !CHANGING.contains(&action) {
            return false;
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
}

fn refused(status: u16, code: &str) -> Response<Body> {
    respond(status, error(code, "said by the proxy"))
}

pub(crate) fn error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"{XML}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>1</RequestId></ErrorResponse>"
    )
}

/// As Route 53 writes it, and no emulator does.
pub(crate) fn invalid_batch(messages: &[&str]) -> String {
    let messages: String = messages.iter().map(|it| format!("<Message>{it}</Message>")).collect();
    format!(
        "<InvalidChangeBatch xmlns=\"{XML}\"><Messages>{messages}</Messages><RequestId>1</RequestId></InvalidChangeBatch>"
    )
}

fn respond(status: u16, body: String) -> Response<Body> {
    Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header("content-type", "text/xml")
        .body(Body::from(body))
        .expect("an answer")
}

/// Every value of this element.
fn all(text: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split(&open).skip(1);
    parts
        .filter_map(|it| Some(it.split_once(&close)?.0.to_owned()))
        .collect()
}
