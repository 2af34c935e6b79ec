//! `nickel export --import-path plugin/nickel workspace.ncl` works by itself: the library needs nothing of ours.

use std::path::{Path, PathBuf};

use nickel_lang::Context;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the bare command would print.
fn export(name: &str) -> Value {
    let path = root().join(name);
    let text = std::fs::read_to_string(&path).expect("a workspace");
    let mut context = Context::new()
        .with_added_import_paths(vec![env!("CARGO_MANIFEST_DIR").into()])
        .with_source_name(path.to_string_lossy().into_owned());
    let expr = match context.eval_deep_for_export(&text) {
        Ok(expr) => expr,
        Err(error) => panic!("{name}: {error:?}"),
    };
    let exported = context.expr_to_json(&expr);
    let exported = exported.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    serde_json::from_str(&exported).expect("JSON")
}

#[test]
fn every_default_is_in_the_library() {
    let all = export("workspace.ncl");
    assert_eq!(all["workspace"], "shop");
    assert_eq!(
        (&all["timing"], &all["sync_mode"]),
        (&json!("default"), &json!("strict"))
    );
    assert_eq!(all["objectives"]["max_latency_ms"], 100);
    let us = &all["region_us_east"];
    assert_eq!((&us["role"], &us["residency"]), (&json!("primary"), &json!([])));
    assert_eq!(us["app_servers"]["image"], "ubuntu-24-04-x64");
    let check = json!({
        "protocol": "http", "path": "/health", "check_interval_seconds": 5,
        "response_timeout_seconds": 5, "unhealthy_threshold": 3, "healthy_threshold": 2,
    });
    assert_eq!(us["load_balancer"]["health_check"], check);
    let rule = json!({
        "entry_protocol": "http", "entry_port": 80, "target_protocol": "http", "target_port": 8080,
        "tls_passthrough": false,
    });
    assert_eq!(us["load_balancer"]["forwarding_rules"][0], rule);
    assert_eq!(us["database"]["protect"], true);
    let probe = json!({
        "enabled": true, "protocol": "HTTPS", "path": "/health", "port": 443, "request_interval": 30,
        "failure_threshold": 3,
    });
    assert_eq!(all["dns"]["health_check"], probe);
}

/// Of a workspace that says nothing, the model holds what the library says, and not something of its own.
#[test]
fn the_model_adds_no_default() {
    let name = "tests/workspaces/split.ncl";
    let all = export(name);
    let cache = tempfile::tempdir().expect("a temporary folder");
    let evaluation = ha_nickel::evaluate(&root().join(name), cache.path()).expect("evaluated");
    let workspace = serde_json::to_value(evaluation.workspace.expect("it is right")).expect("JSON");
    for (field, value) in all["objectives"].as_object().expect("filled in") {
        assert_eq!(workspace["objectives"][field].as_f64(), value.as_f64(), "{field}");
    }
    assert_eq!(workspace["profile"], all["timing"]);
    assert_eq!(workspace["failover"]["cooldown_ms"], 300_000);
    assert_eq!(all["failover"]["cooldown_seconds"], 300);
    for (field, unit) in [
        ("restart_budget_ms", "restart_seconds"),
        ("degrade_after_ms", "degrade_after_seconds"),
        ("stall_limit_ms", "stall_seconds"),
    ] {
        let seconds = all["failover"][unit].as_u64().expect("filled in");
        assert_eq!(workspace["failover"][field], seconds * 1000, "{field}");
    }
    for field in ["automatic", "daily_limit", "max_loss_bytes"] {
        assert_eq!(workspace["failover"][field], all["failover"][field], "{field}");
    }
    assert_eq!(workspace["sync_mode"], all["sync_mode"]);
    let group = &workspace["regions"][0]["servers"][0];
    assert_eq!(group["image"], all["region_us_east"]["app_servers"]["image"]);
    assert_eq!(group["size"], all["region_us_east"]["app_servers"]["size"]);
}

#[test]
fn every_shape_is_exported() {
    for name in ["single-region", "storefront", "aws-three", "split", "source-snippets"] {
        assert!(export(&format!("tests/workspaces/{name}.ncl")).is_object());
    }
}
