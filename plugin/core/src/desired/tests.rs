use serde_json::json;

use super::*;
use crate::{fixture::workspace, model::Role};

fn local(workspace: &Workspace) -> Vec<Resource> {
    resources(workspace, &Config::default())
}

fn find<'a>(all: &'a [Resource], name: &str) -> &'a Resource {
    all.iter()
        .find(|it| it.id.name == name)
        .expect("a resource of that name")
}

fn needs(resource: &Resource) -> Vec<&str> {
    resource.depends_on.iter().map(|id| id.name.as_str()).collect()
}

#[test]
fn every_field_that_a_provider_reads_is_there() {
    let all = local(&workspace());
    assert_eq!(all.len(), 3 * 8);
    assert_eq!(
        find(&all, "us-net").spec,
        json!({ "ip_range": "10.0.0.0/16", "location": "nyc3" })
    );
    let server = json!({
        "group": "us-app", "index": 2, "image": "debian-12", "size": "small", "location": "nyc3",
        "roles": ["app"], "command": null,
    });
    assert_eq!(find(&all, "us-app-2").spec, server);
    assert_eq!(find(&all, "us-db-1").spec["roles"], json!(["database", "store"]));
    let store = json!({ "server": "eu-db-1", "heartbeat_ms": 200, "election_ms": 2000 });
    assert_eq!(find(&all, "eu-store").spec, store);
    let database = json!({
        "server": "eu-db-1", "cluster": "postgres", "engine": "postgres", "version": "15", "founder": false,
        "settings": { "max_connections": "100" }, "peers": ["asia-southeast/asia-db-1", "us-east/us-db-1"],
        "sync_mode": "strict",
        "timing": {
            "renew_ms": 1000, "call_timeout_ms": 1000, "store_election_ms": 2000, "hold_ms": 6500, "fence_budget_ms": 1000,
            "watchdog_ms": 8000, "take_ms": 10000, "probe_interval_ms": 1000, "probe_failures": 3, "probe_timeout_ms": 700,
        },
        "failover": {
            "automatic": true, "cooldown_ms": 300_000, "daily_limit": 3, "restart_budget_ms": 5000,
            "degrade_after_ms": 15000, "stall_limit_ms": 30000, "max_loss_bytes": 16_777_216,
        },
        "voters": [
            { "place": "asia-southeast/asia-db-1", "data": true, "priority": 20, "forbidden": null },
            { "place": "eu-central/eu-db-1", "data": true, "priority": 10, "forbidden": null },
            { "place": "us-east/us-db-1", "data": true, "priority": 0, "forbidden": null },
        ],
    });
    assert_eq!(find(&all, "eu-pg-1").spec, database);
    let balancer = &find(&all, "us-lb").spec;
    assert_eq!(balancer["targets"], json!(["us-app-1", "us-app-2", "us-app-3"]));
    assert_eq!(
        balancer["databases"],
        json!(["asia-southeast/asia-db-1", "eu-central/eu-db-1", "us-east/us-db-1"])
    );
    assert_eq!(balancer["rules"][0]["entry_port"], 80);
    assert_eq!(balancer["health_check"]["path"], "/health");
}

#[test]
fn at_the_clouds_nothing_is_asked_for_that_only_this_machine_has() {
    let mut config = Config {
        target: Target::Cloud,
        ..Config::default()
    };
    config.local.app_command = Some(vec!["/usr/bin/app".to_owned()]);
    let mut workspace = workspace();
    let key = json!(["provisioning-key"]);
    let fields = &mut workspace.regions[0].servers[0].declared.fields;
    fields.insert("ssh_keys".to_owned(), key.clone());
    fields.insert("user_data".to_owned(), json!("#!/bin/sh"));
    let fields = &mut workspace.regions[2].servers[0].declared.fields;
    fields.insert("key_name".to_owned(), key[0].clone());
    let all = resources(&workspace, &config);
    // What is wanted once, when a server is made.
    let app = find(&all, "us-app-1");
    assert_eq!(
        (&app.spec["ssh_keys"], &app.spec["user_data"]),
        (&key, &json!("#!/bin/sh"))
    );
    assert_eq!(find(&all, "asia-app-1").spec["ssh_keys"], key);
    assert_eq!(
        app.spec_hash(),
        crate::resource::spec_hash(&crate::resource::lasting(&app.spec))
    );
    assert_eq!(find(&all, "us-lb").spec["databases"], json!([]));
    assert_eq!(find(&all, "us-app-2").spec["command"], json!(null));
    // The databases and the stores are there all the same: they run on its servers.
    let kinds = |kind| all.iter().filter(|it| it.id.kind == kind).count();
    assert_eq!((kinds(Kind::Database), kinds(Kind::Store)), (3, 3));
}

#[test]
fn what_is_needed_comes_first() {
    let all = local(&workspace());
    for (at, resource) in all.iter().enumerate() {
        for id in &resource.depends_on {
            assert!(all[..at].iter().any(|it| it.id == *id), "{} before {id}", resource.id);
        }
    }
    assert_eq!(needs(find(&all, "asia-store")), ["asia-db-1", "eu-store"]);
    assert_eq!(needs(find(&all, "us-store")), ["us-db-1"]);
    assert_eq!(needs(find(&all, "eu-pg-1")), ["eu-db-1", "eu-store", "us-pg-1"]);
    assert_eq!(needs(find(&all, "us-pg-1")), ["us-db-1", "us-store"]);
    assert_eq!(find(&all, "us-app-1").path, "region_us_east.app_servers");
}

#[test]
fn another_declared_primary_changes_no_hash() {
    let before = local(&workspace());
    let mut workspace = workspace();
    workspace.regions[0].role = Role::Tertiary;
    workspace.regions[2].role = Role::Primary;
    let after = local(&workspace);
    assert_eq!(find(&after, "asia-pg-1").spec["founder"], true);
    for resource in &before {
        assert_eq!(
            find(&after, &resource.id.name).spec_hash(),
            resource.spec_hash(),
            "{}",
            resource.id
        );
    }
}

#[test]
fn a_witness_votes_and_holds_nothing() {
    let mut workspace = workspace();
    workspace.regions[2].role = Role::Witness;
    workspace.regions[2].databases.clear();
    workspace.regions[1].can_lead = false;
    let all = local(&workspace);
    let voters = &find(&all, "us-pg-1").spec["voters"];
    assert_eq!(voters[0]["place"], "asia-southeast/asia-db-1");
    assert_eq!(voters[0]["data"], false);
    assert_eq!(voters[1]["forbidden"], "eu-central says can_lead = false");
    assert_eq!(voters[2]["forbidden"], Value::Null);
    assert_eq!(find(&all, "us-pg-1").spec["peers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_commit_without_a_second_copy_waits_for_nobody() {
    let mut workspace = workspace();
    workspace.regions.truncate(1);
    assert_eq!(find(&local(&workspace), "us-pg-1").spec["sync_mode"], "async");
}

#[test]
fn several_servers_hold_several_nodes_and_one_store_member() {
    let mut workspace = workspace();
    workspace.regions[0].servers[1].count = 3;
    let all = local(&workspace);
    let founders = all
        .iter()
        .filter(|it| it.spec["founder"] == true)
        .map(|it| it.id.name.as_str());
    assert_eq!(founders.collect::<Vec<_>>(), ["us-pg-1"]);
    assert_eq!(find(&all, "us-pg-3").spec["server"], "us-db-3");
    assert_eq!(needs(find(&all, "us-pg-3")), ["us-db-3", "us-store", "us-pg-1"]);
    assert_eq!(find(&all, "us-db-2").spec["roles"], json!(["database"]));
    assert_eq!(find(&all, "eu-pg-1").spec["peers"].as_array().map(Vec::len), Some(4));
}

#[test]
fn without_a_balancer_whatever_holds_nothing_is_an_application_server() {
    let mut workspace = workspace();
    workspace.regions[0].load_balancers.clear();
    let config = Config {
        local: crate::config::LocalConfig {
            app_command: Some(vec!["/usr/bin/app".into()]),
        },
        ..Config::default()
    };
    let all = resources(&workspace, &config);
    assert_eq!(find(&all, "us-app-1").spec["roles"], json!(["app"]));
    assert_eq!(find(&all, "us-app-1").spec["command"], json!(["/usr/bin/app"]));
    assert_eq!(find(&all, "us-db-1").spec["command"], Value::Null);
}

#[test]
fn a_region_without_a_network_gets_one_locally() {
    let mut workspace = workspace();
    workspace.regions[0].networks.clear();
    let all = local(&workspace);
    assert_eq!(find(&all, "us-east-net").spec["ip_range"], Value::Null);
    assert!(needs(find(&all, "us-app-1")).contains(&"us-east-net"));
    let cloud = Config {
        target: Target::Cloud,
        ..Config::default()
    };
    assert!(
        !resources(&workspace, &cloud)
            .iter()
            .any(|it| it.id.name == "us-east-net")
    );
}

#[test]
fn what_a_check_would_refuse_is_left_out() {
    let mut workspace = workspace();
    workspace.regions[0].databases[0].runs_on = Some("nowhere".into());
    workspace.regions[0].stores[0].runs_on = "nowhere".into();
    workspace.regions[1].servers[0].count = 0;
    let all = local(&workspace);
    assert!(!all.iter().any(|it| it.id.name == "us-pg-1" || it.id.name == "us-store"));
    assert_eq!(find(&all, "eu-pg-1").spec["founder"], true, "somebody has to be");
    assert_eq!(find(&all, "eu-lb").spec["targets"], json!([]));
}

#[test]
fn managed_databases_are_for_clouds() {
    let mut workspace = workspace();
    for region in &mut workspace.regions {
        region.databases[0].managed = true;
    }
    workspace.regions[1].databases[0].replicate_from = Some("us-pg".into());
    assert!(!local(&workspace).iter().any(|it| it.id.kind == Kind::Database));
    let cloud = Config {
        target: Target::Cloud,
        ..Config::default()
    };
    let all = resources(&workspace, &cloud);
    assert_eq!(needs(find(&all, "eu-pg")), ["eu-net", "us-pg"]);
}

/// At the clouds.
fn cloud(workspace: &Workspace) -> Vec<Resource> {
    let config = Config {
        target: Target::Cloud,
        ..Config::default()
    };
    resources(workspace, &config)
}

#[test]
fn labels_of_the_user_are_wanted_where_something_can_carry_them() {
    let bare = cloud(&workspace());
    assert!(bare.iter().all(|it| it.spec.get(LABELS).is_none()));
    let mut workspace = workspace();
    let team = BTreeMap::from([("team".to_owned(), "platform".to_owned())]);
    let region = &mut workspace.regions[0];
    region.networks[0].declared.labels = team.clone();
    region.servers[0].declared.labels = team.clone();
    region.load_balancers[0].declared.labels = team.clone();
    let labelled = cloud(&workspace);
    for before in &bare {
        let after = find(&labelled, &before.id.name);
        let has = ["us-net", "us-lb"].contains(&before.id.name.as_str()) || before.spec["group"] == "us-app";
        assert_eq!(after.spec_hash() != before.spec_hash(), has, "{}", before.id);
        assert_eq!(
            after.spec.get(LABELS),
            has.then(|| json!(team)).as_ref(),
            "{}",
            before.id
        );
    }
    let here = local(&workspace);
    assert!(here.iter().all(|it| it.spec.get(LABELS).is_none()));
}

#[test]
fn what_nobody_declared_of_a_balancer_changes_no_hash() {
    let before = find(&cloud(&workspace()), "us-lb").clone();
    let with = |change: fn(&mut LoadBalancer)| {
        let mut workspace = workspace();
        change(&mut workspace.regions[0].load_balancers[0]);
        find(&cloud(&workspace), "us-lb").clone()
    };
    let usual = with(|it| drop(it.declared.fields.insert(SIZE_UNIT.into(), 1.into())));
    assert_eq!(usual.spec_hash(), before.spec_hash());
    let more = with(|it| drop(it.declared.fields.insert(SIZE_UNIT.into(), 3.into())));
    assert_eq!(more.spec[SIZE_UNIT], 3);
    let other = with(|it| it.health_check.port = Some(9000));
    assert_eq!(other.spec["health_check"]["port"], 9000);
    let connects = with(|it| it.health_check.protocol = "tcp".into());
    let mut check = before.spec["health_check"].clone();
    check["protocol"] = "tcp".into();
    check.as_object_mut().expect("a record").remove("path");
    assert_eq!(
        connects.spec["health_check"], check,
        "who only connects asks for no path"
    );
}

#[test]
fn an_address_that_stays_is_wanted_in_the_words_of_each_provider() {
    let mut workspace = workspace();
    for (region, word) in [(0, "reserved_ip"), (1, "primary_ip")] {
        let fields = &mut workspace.regions[region].servers[0].declared.fields;
        fields.insert(word.to_owned(), true.into());
    }
    workspace.regions[0].servers[1]
        .declared
        .fields
        .insert("reserved_ip".to_owned(), false.into());
    let all = cloud(&workspace);
    for (name, wants) in [
        ("us-app-1", true),
        ("eu-app-2", true),
        ("us-db-1", false),
        ("asia-app-1", false),
    ] {
        assert_eq!(find(&all, name).spec.get(FIXED_ADDRESS).is_some(), wants, "{name}");
    }
    assert!(local(&workspace).iter().all(|it| it.spec.get(FIXED_ADDRESS).is_none()));
}
