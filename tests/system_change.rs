//! Changes to what runs: planned rightly, and applied without a failed request.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use ha_tests::{Cluster, http};

/// Asks a region's `/health` through its balancer until told to stop.
struct Visitor {
    stop: Arc<AtomicBool>,
    asking: JoinHandle<(u32, Vec<String>)>,
}

impl Visitor {
    fn of(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let asking = std::thread::spawn(move || {
            let (mut count, mut failed) = (0, Vec::new());
            while !asked.load(Ordering::Relaxed) {
                count += 1;
                match http::get(address, "/health") {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => failed.push(format!("request {count}: {} {}", answer.status, answer.body)),
                    Err(error) => failed.push(format!("request {count}: {error}")),
                }
                // Bounded, so that the machine is left to what is being tested: a hundred a second.
                std::thread::sleep(Duration::from_millis(10));
            }
            (count, failed)
        });
        Self { stop, asking }
    }

    /// Not one request may have failed.
    fn satisfied(self, during: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, failed) = self.asking.join().expect("the visitor");
        eprintln!("{during}: {count} requests");
        assert!(count > 20, "{during}: only {count} requests");
        assert!(
            failed.is_empty(),
            "{during}: {} of {count} failed: {:?}",
            failed.len(),
            &failed[..failed.len().min(5)]
        );
    }
}

#[test]
fn a_running_workspace_follows_its_file() {
    let cluster = Cluster::up("change");
    servers_come_and_go_unnoticed(&cluster);
    a_setting_that_needs_a_restart_restarts_only_what_reads_it(&cluster);
    one_region_alone_can_be_brought_up_to_date(&cluster);
    a_region_that_is_not_declared_any_more_goes_away(&cluster);
}

fn servers_come_and_go_unnoticed(cluster: &Cluster) {
    for (from, to, created, deleted) in [(3, 5, 2, 0), (5, 2, 0, 3)] {
        // The first count in the file is that of us-app.
        cluster.edit(&format!("count = {from},"), &format!("count = {to},"));
        let plan = cluster.changes();
        let count = |action: &str| {
            plan.iter()
                .filter(|it| it.is("action", action) && it.is("kind", "server"))
                .count()
        };
        assert_eq!((count("create"), count("delete")), (created, deleted), "{plan:#?}");
        assert!(plan.iter().all(|row| row.is("region", "us-east")), "{plan:#?}");
        let balancer: Vec<_> = plan.iter().filter(|row| row.is("kind", "load_balancer")).collect();
        assert!(
            matches!(balancer.as_slice(), [row] if row.is("action", "update")),
            "{plan:#?}"
        );

        let visitor = Visitor::of(cluster.socket("us-east", "us-lb", 8080));
        cluster.provision();
        cluster.wait_healthy(Duration::from_secs(30));
        visitor.satisfied(&format!("{from} to {to} servers"));
        let servers = cluster.rows("ha inventory server | where name =~ us-app and status == running");
        assert_eq!(servers.len(), to);
        assert!(cluster.changes().is_empty());
    }
    assert!(
        !cluster.host("us-east", "us-app-3").exists(),
        "nothing is left of a removed server"
    );
}

fn a_setting_that_needs_a_restart_restarts_only_what_reads_it(cluster: &Cluster) {
    let app = cluster.process(("us-east", "us-app-1", "app")).expect("it runs");
    let postgres = cluster.postgres("us-east", "us-db-1").expect("it runs");
    cluster.edit("max_connections = 100", "max_connections = 120");
    let plan = cluster.changes();
    assert!(!plan.is_empty());
    assert!(
        plan.iter()
            .all(|row| row.is("kind", "database") && row.is("action", "update")),
        "{plan:#?}"
    );
    assert!(
        plan.iter().any(|row| row.duration("downtime").is_some()),
        "a restart is announced: {plan:#?}"
    );

    cluster.provision();
    cluster.wait_healthy(Duration::from_secs(60));
    cluster.wait_streaming(Duration::from_secs(60));
    assert!(app.alive(), "the application was left alone");
    assert!(!postgres.alive(), "the database was restarted");
    cluster.write("us-east", "us-lb").expect("a write");
}

fn one_region_alone_can_be_brought_up_to_date(cluster: &Cluster) {
    cluster.edit("count = 3,", "count = 4,"); // us-app has 2 by now, so this is eu-app
    let steps = cluster.rows("ha plan | where region == asia-southeast | ha provision | where action != none");
    assert!(steps.is_empty(), "{steps:#?}");
    let steps = cluster.rows("ha plan | where region == eu-central | ha provision | where action != none");
    assert!(
        steps
            .iter()
            .any(|row| row.is("name", "eu-app-4") && row.is_null("error")),
        "{steps:#?}"
    );
    assert!(cluster.changes().is_empty());
}

fn a_region_that_is_not_declared_any_more_goes_away(cluster: &Cluster) {
    cluster.remove_region("asia-southeast");
    let plan = cluster.changes();
    assert!(
        plan.iter()
            .filter(|row| row.is("action", "delete"))
            .all(|row| row.is("region", "asia-southeast")),
        "{plan:#?}"
    );
    let way_out = format!("ha destroy {} --region asia-southeast", cluster.name);
    assert!(
        plan.iter().any(|row| row.is("kind", "database")
            && row.is("action", "conflict")
            && row.text("reason").contains(&way_out)),
        "what holds data is kept until its workspace's name is typed out: {plan:#?}"
    );

    let visitor = Visitor::of(cluster.socket("us-east", "us-lb", 8080));
    cluster.rows(&way_out);
    cluster.provision();
    visitor.satisfied("a region removed");
    assert!(!cluster.state().join("regions/asia-southeast").exists());
    assert!(cluster.supervisor("asia-southeast").is_none());
    cluster.wait_healthy(Duration::from_secs(30));
    cluster.wait_streaming(Duration::from_secs(30));
    cluster
        .write("eu-central", "eu-lb")
        .expect("two of three members of the store are enough");
    assert!(cluster.changes().is_empty(), "{:#?}", cluster.changes());
}
