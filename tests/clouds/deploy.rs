//! What a user types, and providers whose own descriptions are the judge.

use ha_stand_ins::prism::NoJudge;
use ha_tests::Row;
use serde_json::Value;

use crate::world::{AWS_SECRET, Clouds};

/// How `./deploy.nu` ended, and what it said meanwhile.
fn deploy(clouds: &Clouds, arguments: &str) -> (Option<i64>, String) {
    let code = format!("^./deploy.nu {arguments} | complete | select exit_code stderr");
    let answer = clouds.cluster.nu(&code).unwrap_or_else(|refused| panic!("{refused}"));
    let said = answer["stderr"].as_str().unwrap_or_default().to_owned();
    (answer["exit_code"].as_i64(), said)
}

/// Up, changed, shown, drifted, repaired and gone, and neither a request nor an answer that the descriptions do not know.
#[test]
fn deploy_does_all_of_it_as_the_providers_describe_themselves() {
    let (clouds, mut judges) = match Clouds::judged("deploy") {
        Ok(judged) => judged,
        Err(nobody) => {
            assert!(matches!(nobody, NoJudge::Skipped(_)), "{nobody}");
            eprintln!("{nobody}");
            return;
        }
    };
    let cluster = &clouds.cluster;
    cluster.like_a_checkout();

    // One region, then the others.
    let (ended, said) = deploy(&clouds, "--region us-east");
    assert_eq!(ended, Some(0), "{said}");
    assert!(said.contains("us-east create server us-app-1"), "{said}");
    let regions: Vec<Value> = cluster
        .rows("ha inventory server | where status == running | select region | uniq")
        .iter()
        .map(|it| it.text("region").into())
        .collect();
    assert_eq!(regions, ["us-east"]);
    let (ended, said) = deploy(&clouds, "--debug");
    assert_eq!(ended, Some(0), "{said}");
    assert_eq!(cluster.changes(), []);
    // Each call is shown, and what it was sent with is not.
    for request in [
        "provider=\"digitalocean\" method=GET path=\"/v2/droplets\" status=200",
        "provider=\"hetzner\" method=POST path=\"/servers\" status=201",
        "provider=\"aws\" action=\"ec2:RunInstances\"",
    ] {
        assert!(said.contains(request), "{request} is not in: {said}");
    }
    for secret in [
        &clouds.digitalocean.token(),
        &clouds.hetzner.token(),
        AWS_SECRET,
        "#cloud-config",
    ] {
        assert!(!said.contains(secret), "{secret} is shown: {said}");
    }

    // Changed here, then by hand there.
    cluster.edit(
        "location = \"nbg1\",\n      count = 3",
        "location = \"nbg1\",\n      count = 4",
    );
    let (ended, said) = deploy(&clouds, "");
    assert_eq!(ended, Some(0), "{said}");
    assert!(said.contains("eu-central create server eu-app-4"), "{said}");
    clouds.hetzner.world(|world| {
        let balancer = world.load_balancers.values_mut().next().expect("a balancer");
        balancer.algorithm = "least_connections";
    });
    let drift = cluster.changes();
    assert!(
        drift.len() == 1 && drift[0].is("name", "eu-lb") && drift[0].text("reason").contains("by hand"),
        "{drift:?}"
    );
    let (ended, said) = deploy(&clouds, "");
    assert_eq!(ended, Some(0), "{said}");
    assert_eq!(cluster.changes(), []);

    let last: Row = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert_eq!(
        (last.text("status"), last.number("left")),
        ("done", Some(0)),
        "{last:?}"
    );
    assert_eq!(judges.violations(), Vec::<String>::new());
}
