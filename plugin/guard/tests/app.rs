//! The reference application without a database: it stays healthy, and says of each write what is known about it.
//! With one, it is part of the whole-system tests.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use ha_core::agent::AppConfig;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

struct App {
    _folder: TempDir,
    url: String,
    process: Child,
}

impl App {
    /// Starts it in front of `database`, which is an address on the application's own loopback network.
    async fn start(database: impl Fn(&str) -> String) -> Self {
        let number = std::process::id().wrapping_mul(5) + NEXT.fetch_add(1, Ordering::Relaxed);
        let network = format!("127.{}.{}", 20 + number % 220, 1 + number / 220 % 250);
        let folder = tempfile::tempdir().expect("a folder");
        let password_file = folder.path().join("app");
        fs::write(&password_file, "not a real one").expect("password");
        let listen = format!("{network}.11:8080");
        let config = AppConfig {
            region: "us-east".to_owned(),
            server: "us-app-1".to_owned(),
            listen: listen.clone(),
            write: database(&network),
            read: database(&network),
            ca: folder.path().join("ca.pem"),
            user: "app".to_owned(),
            database: "app".to_owned(),
            password_file,
            databases: Default::default(),
        };
        fs::write(&config.ca, CA).expect("ca.pem");
        let file = folder.path().join("app.json");
        fs::write(&file, serde_json::to_vec(&config).expect("json")).expect("app.json");
        let process = Command::new(env!("CARGO_BIN_EXE_ha-guard"))
            .arg("app")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("app");
        let app = Self {
            _folder: folder,
            url: format!("http://{listen}"),
            process,
        };
        let began = Instant::now();
        while app.ask(Method::GET, "/health", "").await.is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "it does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        app
    }

    async fn ask(&self, method: Method, path: &str, body: &'static str) -> Option<(u16, String)> {
        let client = reqwest::Client::builder().no_proxy().build().expect("client");
        let url = format!("{}{path}", self.url);
        let answer = client.request(method, url).body(body).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn json(&self, method: Method, path: &str, body: &'static str) -> (u16, Value) {
        let (status, text) = self.ask(method, path, body).await.expect("an answer");
        (status, serde_json::from_str(&text).expect("json"))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn without_a_database_it_is_healthy_and_says_what_was_not_written() {
    let app = App::start(|network| format!("{network}.12:5432")).await;
    let health = app.ask(Method::GET, "/health", "").await;
    assert_eq!(health, Some((200, "ok".to_owned())));

    let (status, answer) = app.json(Method::POST, "/write", "").await;
    assert_eq!((status, &answer["acknowledged"]), (503, &Value::Bool(false)));
    assert!(answer["error"].as_str().expect("why").contains("12:5432"), "{answer}");
    let (_, other) = app.json(Method::POST, "/write", "").await;
    assert_ne!(answer["id"], other["id"]);
    let (_, chosen) = app.json(Method::POST, "/write", r#"{"id": "mine"}"#).await;
    assert_eq!(chosen["id"], "mine");

    let (status, answer) = app.json(Method::GET, "/status", "").await;
    assert_eq!((status, &answer["primary"]), (200, &Value::Null));
    assert_eq!(
        (answer["region"].as_str(), answer["server"].as_str()),
        (Some("us-east"), Some("us-app-1"))
    );
    assert!(answer["error"].is_string());

    assert_eq!(app.json(Method::GET, "/read?id=mine", "").await.0, 503);
    assert_eq!(app.json(Method::GET, "/read", "").await.0, 400);
    assert_eq!(app.json(Method::POST, "/write", r#"{"ide": "mine"}"#).await.0, 400);
}

#[tokio::test]
async fn a_database_that_says_nothing_holds_nobody_for_long() {
    let held = std::sync::Mutex::new(None);
    let app = App::start(|network| {
        let address = format!("{network}.12:5432");
        // The kernel accepts, and nobody answers: a server that hangs, or a line that is dead.
        held.lock()
            .expect("lock")
            .get_or_insert_with(|| TcpListener::bind(&address).expect("an address of our own"));
        address
    })
    .await;
    let began = Instant::now();
    let (status, answer) = app.json(Method::POST, "/write", "").await;
    // Nothing was sent yet, so it is known that nothing was written.
    assert_eq!((status, &answer["acknowledged"]), (503, &Value::Bool(false)));
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(app.json(Method::GET, "/read?id=x", "").await.0, 503);
    assert_eq!(app.ask(Method::GET, "/health", "").await.expect("an answer").0, 200);
}

/// Of no key that anybody has.
const CA: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBeTCCAR+gAwIBAgIUGXA/2jjix6BXR930EYDBwh34+c4wCgYIKoZIzj0EAwIw\n\
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyMDA2NDMwOFoYDzIxMjYxMDI3MDY0\n\
MzA4WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
AAQ6Am9ik+rFQSwrTt663Qvr4EJn8PbbF0UAYLQRTPUcppp8//1DstblUT/WkPRQ\n\
90bltZ+xoIBmBVZPvN+jBhuwo1MwUTAdBgNVHQ4EFgQUnA9NivmRz2vzhgx3nQXW\n\
MkUxrwUwHwYDVR0jBBgwFoAUnA9NivmRz2vzhgx3nQXWMkUxrwUwDwYDVR0TAQH/\n\
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAy4Ekc2H6JnpsmLfiHlqjMVgyGzTJ\n\
lDZMLm5mW4LQPi0CICOcGjygjLVoaUUTL9aiZqRAxsTMxCst4vYLOEEXlg+3\n\
-----END CERTIFICATE-----\n";
