//! From nothing to three regions, and what the tables say about them.

use std::time::{Duration, Instant};

use ha_tests::{Cluster, REGIONS, eventually};

const BALANCERS: [(&str, &str); 3] = [
    ("us-east", "us-lb"),
    ("eu-central", "eu-lb"),
    ("asia-southeast", "asia-lb"),
];

/// What `describe` says of the columns that must have a type of their own.
const TYPES: &[(&str, &[(&str, &str)])] = &[
    (
        "ha regions",
        &[("region", "string"), ("servers", "int"), ("latitude", "float")],
    ),
    (
        "ha plan",
        &[("action", "string"), ("name", "string"), ("risk", "string")],
    ),
    (
        "ha inventory",
        &[
            ("region", "string"),
            ("kind", "string"),
            ("status", "string"),
            ("age", "duration"),
        ],
    ),
    (
        "ha health | where status == ok",
        &[("check", "string"), ("latency", "duration")],
    ),
    (
        "ha lag | where role == replica",
        &[
            ("lag", "duration"),
            ("lag_bytes", "filesize"),
            ("timeline", "int"),
            ("sampled_at", "datetime"),
        ],
    ),
    ("ha status", &[("region", "string"), ("verdict", "string")]),
    ("ha events", &[("at", "datetime"), ("event", "string")]),
];

/// Every promised column, and no more than the table is wide.
const COLUMNS: &[(&str, &str)] = &[
    (
        "ha regions",
        "region provider location role servers network database load_balancer latitude longitude",
    ),
    ("ha plan", "action region kind name reason risk downtime monthly_cost"),
    (
        "ha inventory",
        "kind region provider name location type status address private_address age labels owned error",
    ),
    ("ha health", "region target check status latency error"),
    (
        "ha lag",
        "region node role upstream state lag lag_bytes received replayed timeline sampled_at verdict error",
    ),
    ("ha net", "from to delay cut connections bytes error"),
    ("ha events", "at region source event subject status detail error who"),
    ("ha doctor", "subject status version path needed_for help"),
    (
        "ha status",
        "region provider role database servers_up servers_total load_balancer store lag verdict reason",
    ),
];

/// One cluster for all of it: bringing it up is most of the time.
#[test]
fn the_example_comes_up_and_answers_every_question() {
    let cluster = Cluster::new("up");
    looking_before_anything_is_there(&cluster);

    let started = Instant::now();
    let steps = cluster.provision();
    cluster.wait_healthy(Duration::from_secs(60));
    eprintln!(
        "from nothing to healthy: {:?}, {} steps",
        started.elapsed(),
        steps.len()
    );
    cluster.wait_streaming(Duration::from_secs(60));

    one_primary_and_two_replicas(&cluster);
    every_table_has_its_columns_and_types(&cluster);
    what_one_region_writes_the_others_read(&cluster);
    the_write_listener_leads_to_the_primary(&cluster);
    the_second_time_there_is_nothing_to_do(&cluster);
    a_server_can_be_switched_off_and_on(&cluster);
    the_configuration_of_the_balancer_can_be_read(&cluster);
}

fn looking_before_anything_is_there(cluster: &Cluster) {
    let rows = cluster.rows("ha status");
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.is("verdict", "absent")), "{rows:#?}");
    assert!(cluster.rows("ha health").iter().all(|row| row.is("status", "absent")));
    assert_eq!(
        cluster.refused("ha power off us-app-1").code,
        "ha::workspace::not_provisioned"
    );
    let plan = cluster.rows("ha plan");
    assert!(plan.iter().all(|row| row.is("action", "create")), "{plan:#?}");
    assert!(!cluster.state().exists(), "looking changes nothing");
}

fn one_primary_and_two_replicas(cluster: &Cluster) {
    let lag = cluster.rows("ha lag --check");
    let role = |role: &str| {
        lag.iter()
            .filter(|row| row.is("role", role))
            .map(|row| row.text("region"))
            .collect::<Vec<_>>()
    };
    assert_eq!(role("primary"), ["us-east"]);
    assert_eq!(role("replica"), ["eu-central", "asia-southeast"]);
    for row in lag.iter().filter(|row| row.is("role", "replica")) {
        assert_eq!(row.text("state"), "streaming");
        assert_eq!(row.text("upstream"), "us-db-1");
        assert_eq!(row.text("verdict"), "ok");
        assert!(
            row.duration("lag").is_some_and(|lag| lag < Duration::from_secs(5)),
            "{row:?}"
        );
    }
    let status = cluster.rows("ha status");
    assert!(status.iter().all(|row| row.is("verdict", "ok")), "{status:#?}");
}

fn every_table_has_its_columns_and_types(cluster: &Cluster) {
    for (pipeline, wanted) in COLUMNS {
        let columns = cluster
            .nu(&format!("{pipeline} | columns | to json --raw | from json"))
            .expect("columns");
        let columns: Vec<_> = columns
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|it| it.as_str())
            .collect();
        for column in wanted.split_whitespace() {
            assert!(columns.contains(&column), "{pipeline} has no {column}, but {columns:?}");
        }
    }
    for (pipeline, wanted) in TYPES {
        for (column, kind) in *wanted {
            let found = cluster
                .nu(&format!("{pipeline} | get 0.{column} | describe"))
                .expect("a row");
            assert_eq!(found.as_str(), Some(*kind), "{column} of {pipeline}");
        }
    }
}

fn what_one_region_writes_the_others_read(cluster: &Cluster) {
    for (region, balancer) in BALANCERS {
        let id = cluster
            .write(region, balancer)
            .unwrap_or_else(|error| panic!("write in {region}: {error}"));
        for (region, balancer) in BALANCERS {
            eventually(&format!("row {id} in {region}"), Duration::from_secs(10), || {
                cluster.read(region, balancer, &id).map(drop)
            });
        }
    }
}

fn the_write_listener_leads_to_the_primary(cluster: &Cluster) {
    for (region, balancer) in BALANCERS {
        let answer = cluster.get(region, balancer, "/status").expect("an answer").json();
        assert_eq!(answer["region"], region, "{answer}");
        assert_eq!(answer["primary"], "us-east", "{answer}");
    }
}

fn the_second_time_there_is_nothing_to_do(cluster: &Cluster) {
    assert!(cluster.changes().is_empty(), "{:#?}", cluster.changes());
    let before: Vec<_> = processes(cluster);
    let started = Instant::now();
    assert!(cluster.provision().is_empty());
    eprintln!("nothing to do: {:?}", started.elapsed());
    assert_eq!(processes(cluster), before, "nothing was restarted");
}

fn a_server_can_be_switched_off_and_on(cluster: &Cluster) {
    let place = ("eu-central", "eu-app-2", "app");
    let process = cluster.process(place).expect("it runs");
    cluster.rows("ha power off eu-app-2");
    eventually("the server to be off", Duration::from_secs(10), || {
        if process.alive() { Err("it runs".into()) } else { Ok(()) }
    });
    let row = cluster.rows("ha inventory server | where name == eu-app-2");
    assert_eq!(row[0].text("status"), "off");
    assert!(
        cluster
            .get("eu-central", "eu-lb", "/health")
            .is_ok_and(|it| it.status == 200)
    );
    assert!(
        cluster.changes().is_empty(),
        "off on purpose is no difference: {:#?}",
        cluster.changes()
    );
    cluster.rows("ha power on eu-app-2");
    cluster.wait_healthy(Duration::from_secs(30));
}

fn the_configuration_of_the_balancer_can_be_read(cluster: &Cluster) {
    let text = cluster
        .nu("ha render haproxy us-east | to json --raw | from json")
        .expect("a configuration");
    let text = text.to_string();
    for part in ["/health", "/primary", "inter 5s fall 3 rise 2", "roundrobin"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

fn processes(cluster: &Cluster) -> Vec<ha_tests::Process> {
    let mut found: Vec<_> = REGIONS.iter().filter_map(|region| cluster.supervisor(region)).collect();
    for (region, prefix) in [("us-east", "us"), ("eu-central", "eu"), ("asia-southeast", "asia")] {
        let app = format!("{prefix}-app-1");
        let db = format!("{prefix}-db-1");
        found.extend(cluster.process((region, &app, "app")));
        found.extend(cluster.process((region, &db, "guard")));
        found.extend(cluster.process((region, &db, "etcd")));
        found.extend(cluster.postgres(region, &db));
    }
    assert_eq!(found.len(), 15);
    found
}
