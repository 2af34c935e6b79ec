use super::*;

fn host(name: &str, region: &str, provider: ProviderName, uses: &[&str], role: Option<NodeRole>) -> Host {
    Host {
        name: name.to_owned(),
        region: region.to_owned(),
        provider,
        group: name.rsplit_once('-').map(|(group, _)| group.to_owned()),
        image: Some("ubuntu-24-04-x64".to_owned()),
        size: Some("s-2vcpu-4gb".to_owned()),
        location: Some("nyc3".to_owned()),
        status: "running".to_owned(),
        address: "203.0.113.7".to_owned(),
        private_address: None,
        uses: uses.iter().map(|it| (*it).to_owned()).collect(),
        role,
    }
}

/// The example, without what no test here looks at.
fn workspace() -> Workspace {
    let text = r#"{
        "name": "shop", "profile": "default", "sync_mode": "strict", "dns": null, "regions": [],
        "objectives": { "rto_seconds": 300, "rpo_seconds": 60, "lag_warn_seconds": 30, "lag_expected_seconds": 300,
            "lag_critical_seconds": 600, "min_distance_km": 500, "max_latency_ms": 100, "monthly_budget_usd": null }
    }"#;
    let mut value: Value = serde_json::from_str(text).expect("JSON");
    value["timing"] = json!(ha_core::model::TimingProfile::Default.timing());
    value["failover"] = json!(ha_core::model::FailoverPolicy::default());
    serde_json::from_value(value).expect("a workspace")
}

fn names(inventory: &Value, group: &str) -> Vec<String> {
    let hosts = inventory[group]["hosts"]
        .as_array()
        .unwrap_or_else(|| panic!("no {group} in {inventory:#}"));
    hosts.iter().map(|it| it.as_str().expect("a name").to_owned()).collect()
}

#[test]
fn hosts_are_grouped_by_place_group_and_use_and_the_primary_is_first() {
    let (digitalocean, aws) = (ProviderName::Digitalocean, ProviderName::Aws);
    let hosts = [
        host("us-app-1", "us-east", digitalocean, &["app"], None),
        host(
            "us-db-1",
            "us-east",
            digitalocean,
            &["database", "store"],
            Some(NodeRole::Replica),
        ),
        host(
            "asia-db-1",
            "asia-southeast",
            aws,
            &["database", "store"],
            Some(NodeRole::Primary),
        ),
    ];
    let inventory = inventory(&workspace(), Target::Cloud, &hosts);
    assert_eq!(names(&inventory, "db_servers"), ["asia-db-1", "us-db-1"]);
    assert_eq!(names(&inventory, "app_servers"), ["us-app-1"]);
    assert_eq!(names(&inventory, "store_servers"), ["asia-db-1", "us-db-1"]);
    assert_eq!(names(&inventory, "region_us_east"), ["us-app-1", "us-db-1"]);
    assert_eq!(names(&inventory, "provider_aws"), ["asia-db-1"]);
    assert_eq!(names(&inventory, "group_us_app"), ["us-app-1"]);

    let of = |name: &str| &inventory["_meta"]["hostvars"][name];
    assert_eq!(of("asia-db-1")["role"], "primary");
    assert_eq!(of("us-db-1")["role"], "replica");
    assert_eq!(of("us-app-1")["ansible_host"], "203.0.113.7");
    assert_eq!(of("us-app-1")["ansible_user"], "root");
    // Ansible would take null for a value.
    assert!(of("us-app-1").get("role").is_none() && of("us-app-1").get("private_address").is_none());
    assert_eq!(
        inventory["all"]["vars"],
        json!({ "workspace": "shop", "target": "cloud" })
    );
}

#[test]
fn every_group_name_is_an_identifier_and_every_host_has_its_variables() {
    let strange = host("1-é.x-1", "us-east", ProviderName::Hetzner, &["app"], None);
    let inventory = inventory(&workspace(), Target::Cloud, &[strange]);
    for (name, group) in inventory
        .as_object()
        .expect("a record")
        .iter()
        .filter(|(name, _)| *name != "_meta")
    {
        assert!(name.starts_with(|it: char| it.is_ascii_alphabetic()), "{name}");
        assert!(name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_'), "{name}");
        for host in group["hosts"].as_array().into_iter().flatten() {
            assert!(
                inventory["_meta"]["hostvars"]
                    .get(host.as_str().expect("a name"))
                    .is_some(),
                "{host}"
            );
        }
    }
}

#[test]
fn servers_of_one_name_in_two_regions_are_two_hosts() {
    let hosts = [
        host("app-1", "us-east", ProviderName::Digitalocean, &["app"], None),
        host("app-1", "eu-central", ProviderName::Hetzner, &["app"], None),
    ];
    let inventory = inventory(&workspace(), Target::Cloud, &hosts);
    assert_eq!(names(&inventory, "app_servers"), ["app-1.us-east", "app-1.eu-central"]);
    assert_eq!(names(&inventory, "group_app"), ["app-1.us-east", "app-1.eu-central"]);
}

#[test]
fn a_user_is_named_only_where_it_is_known() {
    let aws = |image| user(ProviderName::Aws, image);
    assert_eq!(
        aws("resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"),
        Some("ubuntu")
    );
    assert_eq!(
        aws("resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"),
        Some("ec2-user")
    );
    assert_eq!(aws("ami-09d56f8956ab235b7"), None);
    assert_eq!(user(ProviderName::Hetzner, "debian-12"), Some("root"));

    // On this machine nobody is let in.
    let here = inventory(
        &workspace(),
        Target::Local,
        &[host("us-app-1", "us-east", ProviderName::Digitalocean, &["app"], None)],
    );
    assert!(here["_meta"]["hostvars"]["us-app-1"].get("ansible_user").is_none());
    assert_eq!(here["all"]["vars"]["target"], "local");
}

#[test]
fn before_anything_is_there_the_groups_are() {
    let empty = inventory(&workspace(), Target::Local, &[]);
    for group in ["app_servers", "db_servers", "store_servers"] {
        assert_eq!(names(&empty, group), Vec::<String>::new());
    }
    assert_eq!(empty["_meta"], json!({ "hostvars": {} }));
}
