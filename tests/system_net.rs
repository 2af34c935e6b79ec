//! Traffic between regions can be slowed and cut, in either direction, and the tables tell the truth about it.

use std::time::Duration;

use ha_tests::{Cluster, eventually};

#[test]
fn links_can_be_slowed_and_cut() {
    let cluster = Cluster::up("net");
    a_fresh_network_has_no_delay_and_no_cut(&cluster);
    a_delay_is_felt_by_a_write_far_away(&cluster);
    a_cut_region_is_stale_and_never_shows_a_small_number(&cluster);
    after_healing_everything_arrives(&cluster);
}

fn a_fresh_network_has_no_delay_and_no_cut(cluster: &Cluster) {
    let links = cluster.rows("ha net");
    assert_eq!(links.len(), 6, "each direction of each pair: {links:#?}");
    assert!(
        links
            .iter()
            .all(|row| row.get("cut") == false && row.number("delay") == Some(0)),
        "{links:#?}"
    );
}

fn a_delay_is_felt_by_a_write_far_away(cluster: &Cluster) {
    cluster
        .nu("ha net set --from us-east --to asia-southeast --delay 50ms")
        .expect("set");
    cluster
        .nu("ha net set --from asia-southeast --to us-east --delay 50ms")
        .expect("set");
    eventually("a slow write", Duration::from_secs(10), || {
        let started = std::time::Instant::now();
        cluster.write("asia-southeast", "asia-lb")?;
        let took = started.elapsed();
        // There and back, at least once.
        if took >= Duration::from_millis(100) {
            Ok(())
        } else {
            Err(format!("took {took:?}"))
        }
    });
    let started = std::time::Instant::now();
    cluster.write("us-east", "us-lb").expect("a write at home");
    assert!(started.elapsed() < Duration::from_secs(2));
    cluster.nu("ha net heal").expect("healed");
}

fn a_cut_region_is_stale_and_never_shows_a_small_number(cluster: &Cluster) {
    cluster
        .nu("ha net cut --from asia-southeast; ha net cut --to asia-southeast")
        .expect("cut");
    assert_eq!(
        cluster.rows("ha net | where cut").len(),
        4,
        "both directions, to two others"
    );
    let ids: Vec<_> = (0..5)
        .map(|_| {
            cluster
                .write("us-east", "us-lb")
                .expect("the other regions are a majority")
        })
        .collect();
    eventually("the lag to tell", Duration::from_secs(60), || {
        let row = cluster
            .rows("ha lag --check | where region == asia-southeast")
            .remove(0);
        let state = row.text("state");
        if ["stale", "disconnected", "unknown"].contains(&state) && !row.is("verdict", "ok") {
            let small = row.duration("lag").is_some_and(|lag| lag < Duration::from_secs(1));
            return if small {
                Err(format!("a small number out of old information: {row:?}"))
            } else {
                Ok(())
            };
        }
        Err(format!("{row:?}"))
    });
    let status = cluster.rows("ha status | where region == asia-southeast");
    assert!(!status[0].is("verdict", "ok"), "{status:#?}");
    assert!(
        cluster
            .read("eu-central", "eu-lb", ids.last().expect("written"))
            .is_ok()
    );
    assert!(
        cluster
            .read("asia-southeast", "asia-lb", ids.last().expect("written"))
            .is_err(),
        "nothing came through"
    );

    let first = lag_of(cluster);
    std::thread::sleep(Duration::from_secs(2)); // what is measured here is time itself
    let second = lag_of(cluster);
    assert!(
        second.zip(first).is_none_or(|(second, first)| second > first),
        "it grows: {first:?}, then {second:?}"
    );
}

fn after_healing_everything_arrives(cluster: &Cluster) {
    cluster.nu("ha net heal").expect("healed");
    cluster.wait_streaming(Duration::from_secs(60));
    cluster.wait_healthy(Duration::from_secs(60));
    let id = cluster.write("asia-southeast", "asia-lb").expect("a write");
    eventually("the row at home", Duration::from_secs(10), || {
        cluster.read("asia-southeast", "asia-lb", &id).map(drop)
    });
}

fn lag_of(cluster: &Cluster) -> Option<Duration> {
    cluster
        .rows("ha lag | where region == asia-southeast")
        .remove(0)
        .duration("lag")
}
