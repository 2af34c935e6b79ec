//! What the stand-in of Hetzner promises to the tests that use it.

use std::time::Duration;

use ha_stand_ins::hetzner::StandIn;
use ha_stand_ins::{Fault, RateLimit, Token, When};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

struct Caller {
    stand_in: StandIn,
    http: reqwest::Client,
}

impl Caller {
    async fn new() -> Self {
        Self {
            stand_in: StandIn::start().await,
            http: reqwest::Client::new(),
        }
    }

    async fn try_call(&self, method: &str, path: &str, body: Option<Value>) -> reqwest::Result<(u16, Value)> {
        let method: Method = method.parse().expect("a method");
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.stand_in.endpoint()))
            .bearer_auth(self.stand_in.token());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if status == StatusCode::NO_CONTENT {
            return Ok((204, Value::Null));
        }
        Ok((status.as_u16(), answer.json().await?))
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.try_call(method, path, body).await.expect("an answer")
    }

    async fn create(&self, name: &str) -> (u16, Value) {
        self.call("POST", "/servers", Some(server(name))).await
    }
}

fn server(name: &str) -> Value {
    json!({"name": name, "server_type": "cpx21", "image": "ubuntu-24.04", "location": "nbg1", "labels": {"ha/ws": "shop"}})
}

#[tokio::test]
async fn a_server_is_locked_until_its_actions_ended_and_runs_then() {
    let caller = Caller::new().await;
    caller
        .stand_in
        .knobs(|knobs| knobs.action_time = Duration::from_secs(3600));
    let (status, made) = caller.create("eu-app-1").await;
    assert_eq!((status, &made["server"]["status"]), (201, &json!("initializing")));
    let id = made["server"]["id"].as_u64().expect("a number");
    let (status, refused) = caller
        .call("POST", &format!("/servers/{id}/actions/poweroff"), None)
        .await;
    assert_eq!((status, &refused["error"]["code"]), (423, &json!("locked")));
    caller.stand_in.finish();
    let (_, shown) = caller.call("GET", &format!("/servers/{id}"), None).await;
    assert_eq!(
        (&shown["server"]["status"], &shown["server"]["locked"]),
        (&json!("running"), &json!(false))
    );
    let action = &made["action"]["id"];
    let (_, listed) = caller.call("GET", &format!("/actions?id={action}"), None).await;
    assert_eq!(
        (&listed["actions"][0]["status"], &listed["actions"][0]["progress"]),
        (&json!("success"), &json!(100))
    );
}

#[tokio::test]
async fn an_answer_that_is_lost_was_acted_upon_and_a_closed_connection_was_not() {
    let caller = Caller::new().await;
    caller
        .stand_in
        .faults()
        .inject(When::exactly("POST", "/servers"), Fault::LoseAnswer);
    let error = caller
        .try_call("POST", "/servers", Some(server("a")))
        .await
        .expect_err("no answer");
    assert!(!error.is_connect(), "{error:?}");
    assert_eq!(caller.stand_in.world(|world| world.servers.len()), 1);
    caller
        .stand_in
        .faults()
        .inject(When::exactly("POST", "/servers"), Fault::Close);
    caller
        .try_call("POST", "/servers", Some(server("b")))
        .await
        .expect_err("no answer");
    assert_eq!(caller.stand_in.world(|world| world.servers.len()), 1);
    let seen: Vec<u16> = caller.stand_in.requests().iter().map(|seen| seen.status).collect();
    assert_eq!(seen, [0, 0]);
    assert_eq!(caller.stand_in.faults().waiting(), 0);
    assert_eq!(caller.create("a").await.1["error"]["code"], "uniqueness_error");
}

#[tokio::test]
async fn too_many_is_told_with_the_time_to_wait_and_html_as_html() {
    let caller = Caller::new().await;
    let retry_after = Duration::from_millis(1500);
    caller
        .stand_in
        .faults()
        .inject(When::any().times(2), Fault::TooMany { retry_after });
    let url = format!("{}/locations", caller.stand_in.endpoint());
    let answer = caller
        .http
        .get(&url)
        .bearer_auth(caller.stand_in.token())
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()),
        (429, Some("2"))
    );
    assert_eq!(
        caller.call("GET", "/locations", None).await.1["error"]["code"],
        "rate_limit_exceeded"
    );
    caller.stand_in.faults().inject(When::any(), Fault::Html);
    assert!(
        caller
            .try_call("GET", "/locations", None)
            .await
            .expect_err("HTML")
            .is_decode()
    );
    caller
        .stand_in
        .knobs(|knobs| knobs.rate_limit = RateLimit::per_hour(3600).leaving(1));
    assert_eq!(caller.call("GET", "/locations", None).await.0, 200);
    assert_eq!(caller.call("GET", "/locations", None).await.0, 429);
}

#[tokio::test]
async fn pages_shift_under_the_reader_when_told_to() {
    let caller = Caller::new().await;
    caller.stand_in.world(|world| {
        for n in 1..=5 {
            world.plant_server(&format!("s{n}"), &[("ha/ws", "shop")]);
        }
    });
    caller.stand_in.between_pages("/servers", |world| {
        world.servers.pop_first();
    });
    let first = caller
        .call("GET", "/servers?per_page=2&label_selector=ha%2Fws%3Dshop", None)
        .await
        .1;
    assert_eq!(first["meta"]["pagination"]["total_entries"], 5);
    let second = caller.call("GET", "/servers?per_page=2&page=2", None).await.1;
    assert_eq!(second["meta"]["pagination"]["total_entries"], 4);
    assert_eq!(second["servers"][0]["name"], "s4", "s3 slipped to the page before");
}

#[tokio::test]
async fn capacity_quota_and_rights_are_refused_each_in_its_own_way() {
    let caller = Caller::new().await;
    caller.stand_in.knobs(|knobs| knobs.capacity.insert("nbg1".into(), 1));
    assert_eq!(caller.create("a").await.0, 201);
    assert_eq!(caller.create("b").await.1["error"]["code"], "resource_unavailable");
    let types = caller.call("GET", "/server_types?name=cpx21", None).await.1;
    let there = types["server_types"][0]["locations"]
        .as_array()
        .expect("locations")
        .clone();
    let nbg1 = there.iter().find(|place| place["name"] == "nbg1").expect("nbg1");
    assert_eq!(nbg1["available"], false);
    caller.stand_in.knobs(|knobs| {
        knobs.capacity.clear();
        knobs.quotas.insert("servers".into(), 1);
    });
    assert_eq!(caller.create("b").await.1["error"]["code"], "resource_limit_exceeded");
    caller.stand_in.knobs(|knobs| knobs.token = Token::ReadOnly);
    assert_eq!(caller.create("b").await.1["error"]["code"], "token_readonly");
    assert_eq!(caller.call("GET", "/servers", None).await.0, 200);
    caller.stand_in.knobs(|knobs| knobs.token = Token::Expired);
    assert_eq!(
        caller.call("GET", "/servers", None).await.1["error"]["code"],
        "unauthorized"
    );
}

#[tokio::test]
async fn actions_vanish_or_fail_when_told_to() {
    let caller = Caller::new().await;
    caller.stand_in.knobs(|knobs| knobs.actions_vanish = true);
    let (_, made) = caller.create("a").await;
    let action = &made["action"]["id"];
    assert_eq!(
        caller.call("GET", &format!("/actions?id={action}"), None).await.1["actions"],
        json!([])
    );
    assert_eq!(caller.call("GET", &format!("/actions/{action}"), None).await.0, 404);
    caller.stand_in.finish();
    caller.stand_in.knobs(|knobs| {
        knobs.actions_vanish = false;
        knobs.fail_next.push(ha_stand_ins::hetzner::FailNext {
            command: "stop_server".into(),
            code: "action_failed".into(),
            message: "the host did not answer".into(),
        });
    });
    let path = format!("/servers/{}/actions/poweroff", made["server"]["id"]);
    let action = caller.call("POST", &path, None).await.1["action"]["id"].clone();
    caller.stand_in.finish();
    let ended = caller.call("GET", &format!("/actions/{action}"), None).await.1;
    assert_eq!(
        (&ended["action"]["status"], &ended["action"]["error"]["code"]),
        (&json!("error"), &json!("action_failed"))
    );
}

#[tokio::test]
async fn what_it_does_not_have_is_not_told_as_missing() {
    let caller = Caller::new().await;
    assert_eq!(caller.call("GET", "/floating_ips", None).await.0, 501);
    assert_eq!(caller.call("GET", "/servers/1", None).await.0, 404);
    assert_eq!(caller.call("POST", "/locations", None).await.0, 405);
}
