use std::{path::Path, process::Command};

use super::*;
use crate::haproxy::{Algorithm, AppServer, HealthCheck, Https, testing};

fn node(region: &str, name: &str, address: &str) -> DatabaseNode {
    DatabaseNode {
        name: name.into(),
        region: region.into(),
        address: address.into(),
        port: 5432,
        guard_port: 8008,
    }
}

/// The balancer of the example's first region: the other regions behind their relays.
fn example(folder: &Path) -> HaproxyInput {
    HaproxyInput {
        workspace: "shop".into(),
        region: "us-east".into(),
        name: "us-lb".into(),
        admin_socket: folder.join("admin.sock"),
        source: Some("127.93.1.2".into()),
        max_connections: 2000,
        threads: 1,
        drain: Duration::from_secs(300),
        app: Some(AppSide {
            http: Some("127.93.1.2:8080".into()),
            https: Some(Https {
                listen: "127.93.1.2:8443".into(),
                certificate: folder.join("combined.pem"),
                public_port: 8443,
            }),
            redirect_to_https: true,
            algorithm: Algorithm::RoundRobin,
            health: HealthCheck::default(),
            servers: (1..=3)
                .map(|index| AppServer {
                    name: format!("us-app-{index}"),
                    address: format!("127.93.1.{}:8080", 10 + index),
                })
                .collect(),
        }),
        database: Some(DatabaseSide {
            write: "127.93.1.2:5432".into(),
            read: "127.93.1.2:5433".into(),
            hold: folder.join("hold.lua"),
            max_lag: "10s".into(),
            nodes: vec![
                node("us-east", "us-db-1", "127.93.1.14"),
                node("eu-central", "eu-db-1", "127.93.102.14"),
                node("asia-southeast", "asia-db-1", "127.93.103.14"),
            ],
        }),
    }
}

/// `haproxy -c`, with everything it says being a fault.
fn assert_clean(program: &Path, input: &HaproxyInput, folder: &Path, why: &str) {
    let file = folder.join("haproxy.cfg");
    let text = render(input);
    std::fs::write(&file, &text).expect("a configuration file can be written");
    for mode in [["-c"].as_slice(), ["-c", "-W"].as_slice()] {
        let out = Command::new(program)
            .args(mode)
            .arg("-f")
            .arg(&file)
            .output()
            .expect("haproxy starts");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        let bad = ["WARNING", "ALERT", "NOTICE"].iter().any(|word| said.contains(word));
        assert!(
            out.status.success() && !bad,
            "{why}: haproxy {} says:\n{said}\nof\n{text}",
            mode.join(" ")
        );
    }
}

fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).expect("a certificate can be made");
    let combined = made.cert.pem() + &made.signing_key.serialize_pem();
    std::fs::write(folder.join("combined.pem"), combined).expect("a certificate can be written");
    std::fs::write(folder.join("hold.lua"), crate::haproxy::HOLD).expect("a file can be written");
}

/// After a change that is meant: `HA_GOLDEN=write cargo test -p ha-edge`, then review the difference.
#[test]
fn the_example_renders_as_reviewed() {
    let text = render(&example(Path::new("/run/ha/93/us-lb")));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/haproxy/golden.cfg");
    if std::env::var_os("HA_GOLDEN").is_some_and(|it| it == "write") {
        std::fs::write(&golden, &text).expect("the golden file can be written");
    }
    let wanted = std::fs::read_to_string(&golden).expect("the golden file can be read");
    for (number, (line, wanted)) in text.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(line, wanted, "line {} differs from src/haproxy/golden.cfg", number + 1);
    }
    assert_eq!(
        text.lines().count(),
        wanted.lines().count(),
        "src/haproxy/golden.cfg has another length:\n{text}"
    );
}

#[test]
fn a_name_that_nobody_knows_yet_is_a_server_that_is_down_and_no_more() {
    let Some(program) = testing::program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    certificate(folder.path());
    let mut input = example(folder.path());
    assert!(!render(&input).contains("init-addr"), "addresses need none of it");
    input.database.as_mut().expect("has one").nodes[1].address = "eu-db-1.eu-central.shop.internal".into();
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, render(&input)).expect("a configuration file can be written");
    let out = Command::new(&program)
        .arg("-c")
        .arg("-f")
        .arg(&file)
        .output()
        .expect("haproxy starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let unknown = "could not resolve address 'eu-db-1.eu-central.shop.internal', disabling server";
    for line in said
        .lines()
        .filter(|line| line.contains("WARNING") || line.contains("ALERT"))
    {
        assert!(line.contains(unknown), "{said}");
    }
}

#[test]
fn haproxy_takes_every_shape_without_a_warning() {
    let Some(program) = testing::program() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    certificate(folder.path());
    let whole = example(folder.path());
    let check = |why: &str, change: &dyn Fn(&mut HaproxyInput)| {
        let mut input = whole.clone();
        change(&mut input);
        assert_clean(&program, &input, folder.path(), why);
    };
    let app = |input: &mut HaproxyInput, change: &dyn Fn(&mut AppSide)| change(input.app.as_mut().expect("has an app"));
    let database = |input: &mut HaproxyInput, change: &dyn Fn(&mut DatabaseSide)| {
        change(input.database.as_mut().expect("has one"))
    };

    check("the whole", &|_| {});
    check("no source address", &|input| input.source = None);
    check("no application", &|input| input.app = None);
    check("no database", &|input| input.database = None);
    check("neither", &|input| (input.app, input.database) = (None, None));
    check("http only", &|input| {
        app(input, &|app| {
            app.https = None;
            app.redirect_to_https = false;
        })
    });
    check("https only", &|input| app(input, &|app| app.http = None));
    check("no redirect", &|input| app(input, &|app| app.redirect_to_https = false));
    check("port 443", &|input| {
        app(input, &|app| app.https.as_mut().expect("has https").public_port = 443)
    });
    check("least connections", &|input| {
        app(input, &|app| app.algorithm = Algorithm::LeastConnections)
    });
    check("no servers", &|input| app(input, &|app| app.servers.clear()));
    check("parts of seconds", &|input| {
        app(input, &|app| app.health.interval = Duration::from_millis(1500))
    });
    check("a name", &|input| {
        database(input, &|it| it.nodes[1].address = "localhost".into())
    });
    check("one database", &|input| database(input, &|it| it.nodes.truncate(1)));
    check("databases elsewhere", &|input| {
        database(input, &|it| drop(it.nodes.remove(0)))
    });
    check("no databases", &|input| database(input, &|it| it.nodes.clear()));
    check("two of this region", &|input| {
        database(input, &|it| it.nodes.push(node("us-east", "us-db-2", "127.93.1.15")));
    });
}

#[test]
fn times_are_exact() {
    assert_eq!(time(Duration::from_secs(5)), "5s");
    assert_eq!(time(Duration::from_millis(1500)), "1500ms");
    assert_eq!(time(Duration::ZERO), "0s");
}
