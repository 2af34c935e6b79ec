//! What the clouds ask for what they sell: told by themselves, or by the dated file where they do not tell it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ha_stand_ins::{digitalocean, hetzner};
use ha_tests::{Cluster, Row};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Of a server at the stand-in of Hetzner, in euros; the dated file says otherwise.
const CPX21: f64 = 7.55;

/// The rows of one component, as the columns that say where the price is from.
fn origins<'a>(rows: &'a [Row], provider: &str, component: &str) -> Vec<&'a Value> {
    let of_it = rows
        .iter()
        .filter(|row| row.is("provider", provider) && row.is("component", component));
    of_it.map(|row| row.get("origin")).collect()
}

#[test]
fn a_price_is_the_providers_own_and_the_files_while_it_is_silent() {
    let runtime = Runtime::new().expect("threads");
    let (hetzner, digitalocean) =
        runtime.block_on(async { (hetzner::StandIn::start().await, digitalocean::StandIn::start().await) });
    let cluster = Cluster::new("prices");
    for (name, text) in [
        ("do", digitalocean.token()),
        ("hetzner", hetzner.token()),
        ("aws", "secret".to_owned()),
    ] {
        let path = cluster.folder().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    // AWS tells no prices: nobody is asked there.
    let config = format!(
        "target = \"cloud\"\n\
         [providers.digitalocean]\ntoken = {{ file = \"do\" }}\nendpoint = \"{}\"\n\
         [providers.hetzner]\ntoken = {{ file = \"hetzner\" }}\nendpoint = \"{}\"\n\
         [providers.aws]\naccess_key_id = {{ command = [\"echo\", \"AKIAEXAMPLE\"] }}\n\
         secret_access_key = {{ file = \"aws\" }}\nendpoint = \"http://127.0.0.1:9\"\n",
        digitalocean.endpoint(),
        hetzner.endpoint(),
    );
    fs::write(cluster.folder().join("config.toml"), config).expect("config.toml");

    let rows = cluster.rows("ha cost");
    for component in ["server", "address", "load_balancer"] {
        let origins = origins(&rows, "hetzner", component);
        assert!(
            !origins.is_empty() && origins.iter().all(|it| *it == "told"),
            "{component}: {rows:?}"
        );
    }
    assert_eq!(origins(&rows, "digitalocean", "server"), ["told", "told"]);
    assert_eq!(origins(&rows, "digitalocean", "load_balancer"), ["file"]);
    assert_eq!(origins(&rows, "aws", "server"), ["file", "file"]);
    assert!(rows.iter().all(|row| row.is_null("note")), "{rows:?}");
    let of_group = |rows: &[Row], name: &str| -> Row {
        let found = rows
            .iter()
            .find(|row| row.is("name", name) && row.is("component", "server"));
        found.cloned().unwrap_or_else(|| panic!("{name}: {rows:?}"))
    };
    let euros = of_group(&rows, "eu-app").get("monthly_cost_eur").as_f64();
    assert_eq!(euros, Some((3.0 * CPX21 * 100.0).round() / 100.0));
    assert_eq!(of_group(&rows, "eu-app").get("stale"), &json!(false));

    // The plan goes by the same price: one server, in dollars, and its address.
    let plan = cluster.rows("ha plan | where name == eu-app-1");
    let unit = |component: &str| {
        let row = rows
            .iter()
            .find(|row| row.is("name", "eu-app") && row.is("component", component));
        row.and_then(|row| row.get("unit_cost").as_f64()).expect("a price")
    };
    let planned = plan[0].get("monthly_cost").as_f64().expect("a price");
    assert!(
        (planned - unit("server") - unit("address")).abs() < 0.011,
        "{planned}: {rows:?}"
    );

    // Nobody answers there any more, and a new shell has no list of before.
    drop(hetzner);
    let rows = cluster.rows("ha cost");
    let server = of_group(&rows, "eu-app");
    assert_eq!(server.get("origin"), "file", "{server:?}");
    assert!(
        server.text("note").starts_with("hetzner did not tell its prices: "),
        "{server:?}"
    );
    assert_ne!(server.get("monthly_cost_eur").as_f64(), euros);
    assert_eq!(origins(&rows, "digitalocean", "server"), ["told", "told"]);
}
