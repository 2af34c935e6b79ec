//! Against small servers on this machine that behave in one way each.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::{Query as Params, State},
    http::{HeaderMap as Headers, StatusCode, Uri as Asked},
    response::{Html, IntoResponse, Response},
    routing::any,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::ProviderError;

/// A server that gives these answers, one after another, the last one for ever.
async fn serve(answers: Vec<Response>) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let parts: Vec<_> = futures::future::join_all(answers.into_iter().map(async |it| {
        let (parts, body) = it.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a test's own body");
        (parts, body)
    }))
    .await;
    let router = Router::new().fallback(any(move || {
        let at = seen.fetch_add(1, Ordering::SeqCst).min(parts.len() - 1);
        let (parts, body) = parts[at].clone();
        async move { Response::from_parts(parts, axum::body::Body::from(body)) }
    }));
    (start(router).await, count)
}

async fn start(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/v1")
}

fn rest(endpoint: &str) -> Rest {
    with(endpoint, |_| ())
}

fn with(endpoint: &str, change: impl FnOnce(&mut Settings)) -> Rest {
    let mut settings = Settings::new("hetzner", endpoint, Secret::new("tok-1"));
    settings.error = |body| {
        let error = body.get("error")?;
        let text = |name: &str| error.get(name)?.as_str().map(str::to_owned);
        Some((text("code"), text("message")?))
    };
    change(&mut settings);
    Rest::new(settings).expect("the settings are right")
}

fn refusal(status: u16, code: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": "so it is" } });
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
}

fn fine() -> Response {
    axum::Json(json!({ "server": { "id": 1 } })).into_response()
}

#[tokio::test]
async fn reading_is_tried_again_after_an_error_of_the_provider_and_acting_is_not() {
    let (endpoint, count) = serve(vec![refusal(503, "unavailable"), fine()]).await;
    let answer: Value = rest(&endpoint)
        .get("/servers/1", &[])
        .await
        .expect("the second attempt");
    assert_eq!(
        (answer["server"]["id"].as_u64(), count.load(Ordering::SeqCst)),
        (Some(1), 2)
    );

    let (endpoint, count) = serve(vec![refusal(503, "unavailable"), fine()]).await;
    let outcome = rest(&endpoint)
        .send::<Value>(Method::POST, "/servers", Some(&json!({})))
        .await;
    let error = outcome.expect_err("nobody knows whether it was done");
    assert_eq!((error.code(), count.load(Ordering::SeqCst)), (Some("unavailable"), 1));
    assert!(matches!(error.into_provider(), ProviderError::OutcomeUnknown { .. }));
}

#[tokio::test]
async fn a_short_retry_after_is_obeyed_and_a_long_one_is_told() {
    let limited =
        |seconds: &'static str| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds)], "{}").into_response();
    let (endpoint, count) = serve(vec![limited("0"), fine()]).await;
    let outcome = rest(&endpoint).send::<Value>(Method::POST, "/servers", None).await;
    assert!(outcome.is_ok() && count.load(Ordering::SeqCst) == 2, "{outcome:?}");

    let (endpoint, count) = serve(vec![limited("3600"), fine()]).await;
    let error = rest(&endpoint)
        .get::<Value>("/servers", &[])
        .await
        .expect_err("an hour");
    let wait = Duration::from_secs(3600);
    assert_eq!(
        error.fault,
        Fault::RateLimited {
            retry_after: Some(wait)
        }
    );
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let told = matches!(error.into_provider(), ProviderError::RateLimited { retry_after } if retry_after == Some(wait));
    assert!(told, "the caller can wait");
}

#[test]
fn retry_after_may_be_a_date() {
    let now = "2026-11-20T10:00:00Z".parse().expect("a time");
    let wait = wait_until("Fri, 20 Nov 2026 10:00:07 GMT", now);
    assert_eq!(wait, Some(Duration::from_secs(7)));
    assert_eq!(wait_until("Fri, 20 Nov 2026 09:00:00 GMT", now), Some(Duration::ZERO));
    assert_eq!(wait_until("soon", now), None);
}

#[tokio::test]
async fn a_page_of_a_proxy_is_called_one() {
    let (endpoint, _) = serve(vec![Html("<html>Please log in</html>").into_response()]).await;
    let error = rest(&endpoint)
        .get::<Value>("/servers", &[])
        .await
        .expect_err("no JSON");
    assert_eq!(
        error.to_string(),
        "hetzner: GET /servers: an HTML page instead of JSON (status 200): is a proxy in between?"
    );
    let error = error.into_provider();
    assert_eq!(error.code(), "ha::provider::unreachable");
    assert!(error.help().is_some_and(|help| help.contains("HTTPS_PROXY")));
}

#[tokio::test]
async fn a_refused_connection_is_called_so_and_nothing_was_done() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let rest = with(&format!("http://{address}"), |it| it.attempts = 2);
    let error = rest
        .send::<Value>(Method::POST, "/servers", None)
        .await
        .expect_err("nobody listens");
    let host = address.to_string();
    assert_eq!(error.fault, Fault::ConnectionRefused { host });
    assert!(!error.may_have_acted());
    assert_eq!(rest.ledger().limit().used, 2, "it is safe to ask again");
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_called_not_valid() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they belong together");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        while let Ok((stream, _)) = listener.accept().await {
            // The client is expected to turn away.
            drop(acceptor.accept(stream).await);
        }
    });
    let error = rest(&format!("https://{address}"))
        .get::<Value>("/servers", &[])
        .await
        .expect_err("it is not trusted");
    assert!(matches!(error.fault, Fault::Certificate { .. }), "{error:?}");
    assert!(error.to_string().contains("is not valid"), "{error}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_leaves_the_outcome_unknown() {
    let router = Router::new().fallback(any(std::future::pending::<Response>));
    let endpoint = start(router).await;
    let wait = Duration::from_millis(50);
    let rest = with(&endpoint, |it| it.timeout = wait);
    let error = rest
        .send::<Value>(Method::POST, "/servers", None)
        .await
        .expect_err("it hangs");
    assert_eq!(error.fault, Fault::NoAnswer { after: wait });
    assert!(error.may_have_acted());
}

#[tokio::test]
async fn a_connection_cut_in_the_answer_leaves_the_outcome_unknown_and_reading_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"server\"",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"server\"",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ];
    tokio::spawn(async move {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let mut request = [0; 4096];
            let _read = stream.read(&mut request).await;
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    let rest = rest(&format!("http://{address}"));
    let error = rest
        .send::<Value>(Method::POST, "/servers", None)
        .await
        .expect_err("half an answer");
    assert!(matches!(error.fault, Fault::Broken { .. }), "{error:?}");
    assert!(error.may_have_acted());
    let answer: Result<Value, _> = rest.get("/servers", &[]).await;
    assert_eq!(answer.expect("the third answer is whole"), json!({}));
}

#[tokio::test]
async fn a_token_that_comes_back_is_not_passed_on() {
    let router = Router::new().fallback(any(async |headers: Headers| {
        let sent = headers["authorization"].to_str().expect("text").to_owned();
        let body = json!({ "error": { "code": "unauthorized", "message": format!("{sent} is unknown") } });
        (StatusCode::UNAUTHORIZED, axum::Json(body))
    }));
    let rest = rest(&start(router).await);
    let error = rest.get::<Value>("/servers", &[]).await.expect_err("not allowed");
    assert_eq!(
        error.to_string(),
        "hetzner: GET /servers: Bearer *** is unknown (unauthorized)"
    );
    assert!(!format!("{error:?} {rest:?}").contains("tok-1"));
    assert!(matches!(error.into_provider(), ProviderError::Denied { .. }));
}

#[tokio::test]
async fn parameters_arrive_as_they_were_given() {
    let router = Router::new().fallback(any(async |asked: Asked, Params(all): Params<Vec<(String, String)>>| {
        axum::Json(json!({ "path": asked.path(), "all": all }))
    }));
    let rest = rest(&start(router).await);
    let selector = "ha/ws==shop,ha/index in (1,2), a&b=c+d é";
    let query = [
        ("label_selector", selector.to_owned()),
        ("id", "1".into()),
        ("id", "2".into()),
    ];
    let answer: Value = rest
        .get(&format!("/x/{}", segment("a/b c")), &query)
        .await
        .expect("an answer");
    assert_eq!(answer["path"], "/v1/x/a%2Fb%20c");
    assert_eq!(
        answer["all"],
        json!([["label_selector", selector], ["id", "1"], ["id", "2"]])
    );
}

#[tokio::test]
async fn no_more_requests_are_out_than_allowed() {
    #[derive(Default)]
    struct Seen {
        now: AtomicUsize,
        most: AtomicUsize,
    }
    let seen = Arc::new(Seen::default());
    async fn answer(State(seen): State<Arc<Seen>>) -> axum::Json<Value> {
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        seen.now.fetch_sub(1, Ordering::SeqCst);
        axum::Json(json!({}))
    }
    let endpoint = start(Router::new().fallback(any(answer)).with_state(seen.clone())).await;
    let rest = with(&endpoint, |it| it.concurrency = 3);
    let all = futures::future::join_all((0..20).map(|_| rest.get::<Value>("/servers", &[]))).await;
    assert!(all.iter().all(Result::is_ok));
    assert!(seen.most.load(Ordering::SeqCst) <= 3);
    assert_eq!(rest.ledger().limit().used, 20);
}

#[test]
fn settings_that_cannot_work_are_refused_before_the_first_request() {
    for (endpoint, token) in [
        ("ftp://x", "t"),
        ("api.hetzner.cloud", "t"),
        ("http://", "t"),
        ("http://127.0.0.1", "with\nbreak"),
    ] {
        let refused = Rest::new(Settings::new("hetzner", endpoint, Secret::new(token)));
        let error = refused.expect_err("it cannot work");
        assert!(!error.to_string().contains("with\nbreak"));
        assert_eq!(error.into_provider().code(), "ha::provider::unreachable");
    }
}

/// A list that a test changes while it is read.
struct Shelf {
    items: Vec<u64>,
    reads: usize,
    counted: bool,
    /// Called with the number of the read before it is answered.
    change: fn(usize, &mut Vec<u64>),
}

async fn page(State(shelf): State<Arc<Mutex<Shelf>>>, Params(asked): Params<HashMap<String, String>>) -> Response {
    let mut shelf = shelf.lock().expect("nobody panics with it");
    let number = |name: &str| asked[name].parse::<usize>().expect("a number");
    let (page, size) = (number("page"), number("per_page"));
    shelf.reads += 1;
    let reads = shelf.reads;
    let change = shelf.change;
    change(reads, &mut shelf.items);
    let items: Vec<_> = shelf.items.iter().skip((page - 1) * size).take(size).collect();
    let items: Vec<_> = items.into_iter().map(|id| json!({ "id": id })).collect();
    let total = shelf.counted.then_some(shelf.items.len());
    let more = page * size < shelf.items.len();
    axum::Json(json!({ "servers": items, "total": total, "more": more })).into_response()
}

async fn list(counted: bool, change: fn(usize, &mut Vec<u64>)) -> (Result<Vec<u64>, RestError>, usize) {
    #[derive(serde::Deserialize)]
    struct Item {
        id: u64,
    }
    let shelf = Arc::new(Mutex::new(Shelf {
        items: (1..=25).collect(),
        reads: 0,
        counted,
        change,
    }));
    let endpoint = start(Router::new().fallback(any(page)).with_state(shelf.clone())).await;
    let listing = Listing {
        path: "/servers",
        query: &[],
        items: "servers",
        id: "id",
        per_page: 10,
        page: |answer| Page {
            total: answer["total"].as_u64(),
            more: answer["more"] == true,
        },
    };
    let items = rest(&endpoint).list::<Item>(&listing).await;
    let reads = shelf.lock().expect("nobody panics with it").reads;
    (items.map(|all| all.into_iter().map(|it| it.id).collect()), reads)
}

#[tokio::test]
async fn all_pages_are_read_and_read_again_only_where_nothing_is_counted() {
    let (items, reads) = list(true, |_, _| ()).await;
    assert_eq!((items.expect("a list"), reads), ((1..=25).collect(), 3));
    let (items, reads) = list(false, |_, _| ()).await;
    assert_eq!((items.expect("a list"), reads), ((1..=25).collect(), 6));
}

#[tokio::test]
async fn what_moves_between_pages_is_not_missed() {
    for counted in [true, false] {
        let (items, _) = list(counted, |read, items| {
            if read == 2 {
                items.remove(0);
            }
        })
        .await;
        assert_eq!(
            items.expect("a list"),
            (2..=25).collect::<Vec<_>>(),
            "counted: {counted}"
        );
        let (items, _) = list(counted, |read, items| {
            if read == 2 {
                items.insert(0, 100);
            }
        })
        .await;
        let mut items = items.expect("a list");
        items.sort_unstable();
        assert_eq!(items, (1..=25).chain([100]).collect::<Vec<_>>(), "counted: {counted}");
    }
}

#[tokio::test]
async fn a_list_that_never_holds_still_is_an_error() {
    for counted in [true, false] {
        let (items, _) = list(counted, |read, items| {
            if read % 3 != 1 {
                items.insert(0, 100 + read as u64);
            }
        })
        .await;
        assert_eq!(items.expect_err("it never fits").fault, Fault::Shifting);
    }
}
