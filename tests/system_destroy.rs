//! Removing everything: asked for by name, in a safe order, and nothing is left.

use ha_tests::Cluster;

#[test]
fn destroy_wants_the_name_and_leaves_nothing() {
    let cluster = Cluster::up("destroy");
    let octet = cluster.octet().expect("claimed");
    assert!(!cluster.left(Some(octet)).is_empty());

    let wrong = cluster.refused("ha destroy another-name");
    assert_eq!(wrong.code, "ha::destroy::wrong_name");
    let shown = cluster.rows(&format!("ha destroy {} --dry-run", cluster.name));
    assert!(shown.iter().all(|row| row.is("action", "delete")), "{shown:#?}");
    assert!(
        cluster.rows("ha health | where status != ok").is_empty(),
        "so far nothing was touched"
    );
    assert_eq!(cluster.rows("ha plan --destroy").len(), shown.len());

    let steps = cluster.destroy();
    assert!(steps.iter().all(|row| row.is_null("error")), "{steps:#?}");
    let last = steps.last().expect("a last row");
    assert!(
        last.is("action", "list") && last.number("left") == Some(0),
        "it lists again: {last:?}"
    );
    let order: Vec<_> = steps.iter().map(|row| row.text("kind")).collect();
    let last_of = |kind: &str| order.iter().rposition(|it| *it == kind).expect("removed");
    let first_of = |kind: &str| order.iter().position(|it| *it == kind).expect("removed");
    assert!(
        first_of("load_balancer") < last_of("server"),
        "users are sent away first: {order:?}"
    );
    assert!(
        last_of("database") < last_of("server") && last_of("server") < last_of("network"),
        "{order:?}"
    );

    assert_eq!(cluster.left(Some(octet)), Vec::<String>::new());
    assert!(cluster.rows("ha inventory | where status != absent").is_empty());
    assert!(cluster.rows("ha status").iter().all(|row| row.is("verdict", "absent")));
    assert!(!cluster.rows("ha events").is_empty(), "what happened is remembered");
    assert_eq!(
        cluster.destroy().len(),
        1,
        "a second time there is nothing to do but to look"
    );
}
