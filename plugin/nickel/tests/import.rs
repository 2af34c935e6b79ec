//! What `ha import` writes is a workspace, whatever was found.

use std::{collections::BTreeMap, path::Path};

use ha_core::{
    config::{Config, Target},
    desired,
    existing::{Found, FoundKind},
    finding::Severity,
    import::{Outcome, import},
    names::{ProviderName, WorkspaceName},
    resource::{Kind, Status, lasting},
};
use ha_nickel::{Evaluation, evaluate};
use proptest::prelude::*;
use serde_json::{Value, json};

fn evaluated(text: &str) -> Evaluation {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("workspace.ncl");
    std::fs::write(&file, text).expect("a file");
    evaluate(&file, &folder.path().join("cache")).expect("the file is there")
}

fn errors(evaluation: &Evaluation) -> Vec<String> {
    let errors = evaluation.findings.iter().filter(|it| it.severity == Severity::Error);
    errors
        .map(|it| format!("{} {:?}: {}", it.code, it.path, it.message))
        .collect()
}

#[test]
fn the_golden_text_is_a_workspace() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src/import/golden.ncl");
    let evaluation = evaluated(&std::fs::read_to_string(golden).expect("the golden text"));
    assert_eq!(errors(&evaluation), [] as [String; 0]);
    let workspace = evaluation.workspace.expect("no error, so there is a workspace");
    let groups: Vec<(&str, u32)> = workspace
        .regions
        .iter()
        .flat_map(|region| &region.servers)
        .map(|it| (it.declared.name.as_str(), it.count))
        .collect();
    assert_eq!(groups, [("us-app", 3), ("asia-app", 2), ("eu-app", 1)]);
}

fn place(provider: ProviderName) -> &'static str {
    match provider {
        ProviderName::Digitalocean => "nyc3",
        ProviderName::Hetzner => "nbg1",
        _ => "ap-southeast-1",
    }
}

prop_compose! {
    /// Names of people, also such as no workspace can write.
    fn name()(plain in "[a-z]{1,4}(-[1-3])?", wild in "[ -~é\n%{\"]{0,12}", which in 0..5) -> String {
        if which == 0 { wild } else { plain }
    }
}

prop_compose! {
    fn found()(
        provider in prop::sample::select(&[ProviderName::Digitalocean, ProviderName::Hetzner, ProviderName::Aws][..]),
        kind in prop::sample::select(&[Kind::Network, Kind::Server, Kind::LoadBalancer, Kind::Firewall, Kind::Volume,
            Kind::Database][..]),
        name in name(),
        target in name(),
        size in prop::sample::select(&["s-1vcpu-1gb", "cpx21", "t3.medium", "Standard B1"][..]),
        image in prop::sample::select(&["ubuntu-24.04", "ami-12c6146b", "63663980"][..]),
        second in 0u8..=255,
        gigabytes in 0u64..20000,
        port in 0u64..70000,
        text in "[ -~é%{\"\\\\]{0,12}",
        labels in prop::collection::btree_map("[ -~]{1,8}", "[ -~%{]{0,8}", 0..3),
        odd: bool,
    ) -> Found {
        let location = place(provider);
        let mut spec = match kind {
            Kind::Network => json!({ "location": location, "ip_range": format!("10.{second}.0.0/16") }),
            Kind::Server => json!({ "location": location, "size": size, "image": image, "roles": [], "group": null,
                "index": null, "command": null }),
            Kind::LoadBalancer => json!({
                "location": location, "algorithm": "round_robin", "targets": [target],
                "rules": [{ "entry_protocol": "http", "entry_port": port, "target_protocol": "http", "target_port": 80,
                    "certificate_id": text }],
                "health_check": { "path": text, "interval_seconds": 5, "timeout_seconds": 5, "fall": 3, "rise": 2 },
                "redirect_http_to_https": false, "databases": [],
            }),
            Kind::Firewall => json!({ "targets": [target],
                "inbound": [{ "protocol": "tcp", "ports": text, "sources": [text] }] }),
            Kind::Volume => json!({ "region": location, "size_gb": gigabytes, "attach_to": target }),
            _ => json!({ "region": location, "engine": "pg", "version": text, "size": size, "num_nodes": port % 5,
                "instance_class": "db.t3.small", "allocated_storage_gb": gigabytes, "multi_az": false,
                "trusted_sources": [text] }),
        };
        if odd {
            spec["said_nowhere"] = Value::from(text);
        }
        Found {
            kind: FoundKind::Resource(kind),
            provider,
            number: format!("number of {name}"),
            name,
            location: (kind != Kind::Firewall).then(|| location.to_owned()),
            owner: None,
            labels: labels.into_iter().collect::<BTreeMap<_, _>>(),
            spec,
            status: Status::Running,
            detail: None,
            address: None,
            size: None,
            created_at: None,
            idle: None,
            of_the_account: false,
        }
    }
}

proptest! {
    // Each is an evaluation by the real Nickel.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_found_the_text_evaluates_and_declares_it_as_it_is(all in prop::collection::vec(found(), 0..24)) {
        let ws = WorkspaceName::new("shop");
        let imported = import(&ws, &all, |_, _| None);
        prop_assert_eq!(imported.told.len(), all.len());
        let evaluation = evaluated(&imported.text);
        let has_region = imported.told.iter().any(|it| it.region.is_some());
        let errors: Vec<String> = errors(&evaluation);
        if !has_region {
            return Ok(());
        }
        prop_assert!(errors.is_empty(), "{errors:#?}\n{}", imported.text);
        let workspace = evaluation.workspace.expect("no error, so there is a workspace");
        let config = Config { target: Target::Cloud, ..Config::default() };
        let desired = desired::resources(&workspace, &config);
        for told in imported.told.iter().filter(|it| it.outcome == Outcome::Written) {
            let found = told.found;
            let want = desired.iter().find(|want| found.could_be(want));
            let Some(want) = want else {
                return Err(TestCaseError::fail(format!("{} is not declared:\n{}", found.name, imported.text)));
            };
            // What a plan would compare: a server's size must not change because somebody imported it.
            let spec = lasting(&want.spec);
            for field in ["ip_range", "size", "image", "rules", "size_gb", "engine", "version", "inbound"] {
                if let Some(is) = found.spec.get(field).filter(|_| spec.get(field).is_some()) {
                    prop_assert_eq!(&spec[field], is, "{} of {}", field, found.name);
                }
            }
        }
    }
}
