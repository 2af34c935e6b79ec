//! The example workspace on three clouds, from nothing to nothing.

use ha_stand_ins::Token;

use crate::world::Clouds;

#[test]
fn the_example_comes_up_changes_drifts_is_repaired_and_goes() {
    let clouds = Clouds::new("clouds");
    let cluster = &clouds.cluster;
    assert_eq!(cluster.rows("ha check"), []);
    let steps = clouds.provision();
    let made = |kind: &str| steps.iter().filter(|step| step.is("kind", kind)).count();
    assert_eq!(
        (
            made("network"),
            made("server"),
            made("load_balancer"),
            made("store"),
            made("database")
        ),
        (3, 12, 3, 3, 3)
    );
    let servers = clouds.servers();
    assert_eq!(servers.len(), 12);
    for server in &servers {
        assert!(
            !server.is_null("address") && !server.is_null("private_address"),
            "{server:?}"
        );
    }
    // What a server is given holds no secret, and the guard's unit is in it.
    let user_data = clouds.hetzner.world(|world| {
        let mut servers = world.servers.values();
        let of_database = servers.find(|it| it.name == "eu-db-1").expect("eu-db-1");
        of_database.user_data.clone().unwrap_or_default()
    });
    assert!(user_data.contains("ha-guard"), "{user_data}");

    // One more, and one less elsewhere.
    cluster.edit(
        "location = \"nbg1\",\n      count = 3",
        "location = \"nbg1\",\n      count = 4",
    );
    cluster.edit(
        "region = \"nyc3\",\n      count = 3",
        "region = \"nyc3\",\n      count = 2",
    );
    let names: Vec<_> = clouds
        .provision()
        .iter()
        .map(|step| step.text("name").to_owned())
        .collect();
    assert!(
        names.contains(&"eu-app-4".to_owned()) && names.contains(&"us-app-3".to_owned()),
        "{names:?}"
    );
    assert_eq!(clouds.servers().len(), 12);

    // By hand, at the provider: seen, named, and put back.
    clouds.hetzner.world(|world| {
        let balancer = world.load_balancers.values_mut().next().expect("a balancer");
        balancer.algorithm = "least_connections";
    });
    let drift = cluster.changes();
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert!(
        drift[0].is("name", "eu-lb") && drift[0].text("reason").contains("by hand"),
        "{drift:?}"
    );
    clouds.provision();

    // Off and on again.
    let off = cluster.rows("ha power off us-app-1");
    assert!(off[0].is("status", "off"), "{off:?}");
    assert_eq!(clouds.servers().len(), 11);
    cluster.rows("ha power on us-app-1");

    let last = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert_eq!(
        (last.text("status"), last.number("left")),
        ("done", Some(0)),
        "{last:?}"
    );
    let left = clouds
        .hetzner
        .world(|world| world.servers.len() + world.networks.len() + world.load_balancers.len());
    assert_eq!(left, 0, "at Hetzner");
    let left = clouds
        .digitalocean
        .world(|world| world.droplets.len() + world.load_balancers.len());
    assert_eq!(left, 0, "at DigitalOcean");
}

#[test]
fn a_provider_that_refuses_hides_no_other() {
    let clouds = Clouds::new("refused");
    let cluster = &clouds.cluster;
    clouds.provision();
    clouds.hetzner.knobs(|knobs| knobs.token = Token::Expired);

    let rows = cluster.rows("ha inventory");
    let unknown: Vec<_> = rows.iter().filter(|row| row.is("status", "unknown")).collect();
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert!(
        unknown[0].is("provider", "hetzner") && unknown[0].is("region", "eu-central"),
        "{unknown:?}"
    );
    assert!(
        rows.iter().filter(|row| row.is("status", "running")).count() > 10,
        "{rows:?}"
    );
    let plan = cluster.changes();
    assert!(plan.len() == 1 && plan[0].is("action", "unknown"), "{plan:?}");
    // Nothing is claimed of what could not be asked.
    let last = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert!(last.is("status", "failed") && last.is_null("left"), "{last:?}");

    clouds.hetzner.knobs(|knobs| knobs.token = Token::Full);
    let last = cluster
        .rows(&format!("ha destroy {}", cluster.name))
        .pop()
        .expect("rows");
    assert_eq!(
        (last.text("status"), last.number("left")),
        ("done", Some(0)),
        "{last:?}"
    );
}
