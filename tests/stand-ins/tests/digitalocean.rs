//! What the stand-in of DigitalOcean promises to the tests that use it.

use std::time::Duration;

use ha_stand_ins::digitalocean::StandIn;
use ha_stand_ins::{Fault, RateLimit, Token, When};
use reqwest::Method;
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
        let url = format!("{}/v2{path}", self.stand_in.endpoint());
        let mut request = self.http.request(method, url).bearer_auth(self.stand_in.token());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        if matches!(status, 202 | 204) && answer.content_length() == Some(0) {
            return Ok((status, Value::Null));
        }
        if status == 204 {
            return Ok((204, Value::Null));
        }
        Ok((status, answer.json().await?))
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.try_call(method, path, body).await.expect("an answer")
    }

    async fn create(&self, name: &str, vpc: Option<&str>) -> (u16, Value) {
        let mut body = json!({
            "name": name,
            "region": "nyc3",
            "size": "s-2vcpu-4gb",
            "image": "ubuntu-24-04-x64",
            "tags": ["ha:ws:shop"],
        });
        if let Some(vpc) = vpc {
            body["vpc_uuid"] = json!(vpc);
        }
        self.call("POST", "/droplets", Some(body)).await
    }
}

#[tokio::test]
async fn a_droplet_has_a_pending_event_until_it_is_active() {
    let caller = Caller::new().await;
    caller
        .stand_in
        .knobs(|knobs| knobs.state_time = Duration::from_secs(3600));
    let (status, made) = caller.create("us-app-1", None).await;
    assert_eq!((status, &made["droplet"]["status"]), (202, &json!("new")));
    let path = format!("/droplets/{}", made["droplet"]["id"]);
    let (status, refused) = caller.call("DELETE", &path, None).await;
    assert_eq!((status, &refused["id"]), (422, &json!("unprocessable_entity")));
    assert!(
        refused["message"]
            .as_str()
            .is_some_and(|message| message.contains("pending event")),
        "{refused}"
    );
    caller.stand_in.finish();
    assert_eq!(caller.call("GET", &path, None).await.1["droplet"]["status"], "active");
    assert_eq!(caller.call("DELETE", &path, None).await.0, 204);
}

#[tokio::test]
async fn a_lost_answer_leaves_a_droplet_and_its_name_can_be_given_again() {
    let caller = Caller::new().await;
    caller
        .stand_in
        .faults()
        .inject(When::exactly("POST", "/droplets"), Fault::LoseAnswer);
    let body = json!({"name": "a", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-13-x64"});
    caller
        .try_call("POST", "/droplets", Some(body))
        .await
        .expect_err("no answer");
    assert_eq!(caller.create("a", None).await.0, 202);
    assert_eq!(caller.call("GET", "/droplets?name=a", None).await.1["meta"]["total"], 2);
}

#[tokio::test]
async fn tags_come_later_when_told_to() {
    let caller = Caller::new().await;
    caller
        .stand_in
        .knobs(|knobs| knobs.tags_late = Duration::from_secs(3600));
    caller.create("a", None).await;
    assert_eq!(
        caller.call("GET", "/droplets?tag_name=ha:ws:shop", None).await.1["droplets"],
        json!([])
    );
    assert_eq!(caller.call("GET", "/droplets?name=a", None).await.1["meta"]["total"], 1);
    caller.stand_in.finish();
    assert_eq!(
        caller.call("GET", "/droplets?tag_name=ha%3Aws%3Ashop", None).await.1["meta"]["total"],
        1
    );
}

#[tokio::test]
async fn a_vpc_answers_403_with_members_and_409_while_they_linger() {
    let caller = Caller::new().await;
    let range = |text: &str| text.parse().expect("a range");
    let vpc = caller.stand_in.world(|world| {
        world.plant_vpc("default", "", range("10.9.0.0/16"));
        world.plant_vpc("us-net", "ha:ws:shop", range("10.0.0.0/16"))
    });
    caller
        .stand_in
        .knobs(|knobs| knobs.members_linger = Duration::from_secs(3600));
    let (_, made) = caller.create("a", Some(&vpc)).await;
    caller
        .stand_in
        .world(|world| world.droplets.values().for_each(|one| assert_eq!(one.vpc, vpc)));
    let path = format!("/vpcs/{vpc}");
    assert_eq!(caller.call("DELETE", &path, None).await.0, 403);
    caller.stand_in.finish();
    assert_eq!(
        caller
            .call("DELETE", &format!("/droplets/{}", made["droplet"]["id"]), None)
            .await
            .0,
        204
    );
    assert_eq!(
        caller.call("GET", &format!("{path}/members"), None).await.1["meta"]["total"],
        0
    );
    assert_eq!(caller.call("DELETE", &path, None).await.0, 409);
    caller.stand_in.finish();
    assert_eq!(caller.call("DELETE", &path, None).await.0, 204);
}

#[tokio::test]
async fn a_replica_is_refused_once_right_after_online() {
    let caller = Caller::new().await;
    caller.stand_in.knobs(|knobs| knobs.replica_refusals = 1);
    let body = json!({"name": "us-pg", "engine": "pg", "region": "nyc3", "size": "db-s-1vcpu-2gb", "num_nodes": 1});
    let id = caller.call("POST", "/databases", Some(body)).await.1["database"]["id"].clone();
    caller.stand_in.finish();
    let path = format!("/databases/{}/replicas", id.as_str().expect("an id"));
    let replica = json!({"name": "us-pg-ro", "size": "db-s-1vcpu-2gb"});
    assert_eq!(caller.call("POST", &path, Some(replica.clone())).await.0, 412);
    assert_eq!(caller.call("POST", &path, Some(replica)).await.0, 201);
    caller.stand_in.finish();
    assert_eq!(
        caller.call("PUT", &format!("{path}/us-pg-ro/promote"), None).await.0,
        204
    );
    assert_eq!(
        caller.call("GET", "/databases", None).await.1["databases"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn paging_ends_where_next_is_absent_and_pages_shift_when_told_to() {
    let caller = Caller::new().await;
    caller.stand_in.world(|world| {
        for n in 1..=5 {
            world.plant_droplet(&format!("s{n}"), &["ha:ws:shop"]);
        }
    });
    caller.stand_in.between_pages("/droplets", |world| {
        world.droplets.pop_first();
    });
    let first = caller
        .call("GET", "/droplets?per_page=2&tag_name=ha:ws:shop", None)
        .await
        .1;
    let next = first["links"]["pages"]["next"].as_str().expect("another page");
    assert!(
        next.contains("page=2") && next.contains("tag_name=ha%3Aws%3Ashop"),
        "{next}"
    );
    let second = caller.call("GET", "/droplets?per_page=2&page=2", None).await.1;
    assert_eq!(
        (&second["droplets"][0]["name"], &second["meta"]["total"]),
        (&json!("s4"), &json!(4))
    );
    assert_eq!(second["links"]["pages"]["next"], Value::Null);
    assert_eq!(caller.call("GET", "/droplets", None).await.1["links"], json!({}));
}

#[tokio::test]
async fn limits_and_rights_are_refused_each_in_its_own_way() {
    let caller = Caller::new().await;
    caller
        .stand_in
        .knobs(|knobs| knobs.burst_limit = Some(RateLimit::new(2, Duration::from_secs(3600))));
    assert_eq!(caller.call("GET", "/account", None).await.0, 200);
    assert_eq!(caller.call("GET", "/account", None).await.0, 200);
    assert_eq!(caller.call("GET", "/account", None).await.1["id"], "too_many_requests");
    caller.stand_in.knobs(|knobs| {
        knobs.burst_limit = None;
        knobs.capacity.insert("nyc3".into(), 0);
    });
    assert_eq!(caller.create("a", None).await.0, 422);
    let regions = caller.call("GET", "/regions", None).await.1["regions"].clone();
    let nyc3 = regions
        .as_array()
        .and_then(|all| all.iter().find(|one| one["slug"] == "nyc3"))
        .cloned();
    assert_eq!(nyc3.expect("nyc3")["sizes"], json!([]));
    caller.stand_in.knobs(|knobs| knobs.token = Token::ReadOnly);
    assert_eq!(caller.create("a", None).await.0, 403);
    caller.stand_in.knobs(|knobs| knobs.token = Token::Expired);
    assert_eq!(caller.call("GET", "/account", None).await.1["id"], "unauthorized");
}
