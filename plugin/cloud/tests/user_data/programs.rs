//! The files of a server, read by the programs that they are for.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use ha_core::{
    agent::{AppConfig, GuardConfig},
    config::GuardSource,
    names::ProviderName,
};

use crate::support::{ALL, Shop, Verdict, everything, judged, program, said};

#[test]
fn haproxy_takes_its_file_before_any_name_is_known() {
    let (Some(haproxy), Some(files)) = (program("haproxy"), everything()) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let hold = folder.path().join("hold.lua");
    fs::write(&hold, files.file("/etc/ha/hold.lua")).expect("written");
    let text = files.file("/etc/ha/haproxy.cfg");
    assert!(
        text.contains("bind 127.0.0.1:5432") && text.contains("db-1.us-east.shop.internal:5432"),
        "{text}"
    );
    let text = text
        .replace("/etc/ha/hold.lua", &hold.display().to_string())
        .replace("/run/ha-haproxy", &folder.path().display().to_string());
    let file = folder.path().join("haproxy.cfg");
    fs::write(&file, &text).expect("written");
    for mode in [["-c"].as_slice(), &["-c", "-Ws"]] {
        let out = Command::new(&haproxy)
            .args(mode)
            .arg("-f")
            .arg(&file)
            .output()
            .expect("haproxy starts");
        let said = said(&out);
        assert!(out.status.success(), "{said}\n{text}");
        for line in said.lines().filter(|it| it.contains("WARNING") || it.contains("ALERT")) {
            assert!(line.contains("could not resolve address"), "{said}\n{text}");
        }
    }
}

#[test]
fn postgres_takes_what_the_guard_is_told() {
    let (Some(postgres), Some(files)) = (program("postgres"), everything()) else {
        return;
    };
    let told: GuardConfig = serde_json::from_str(&files.file("/etc/ha/guard.json")).expect("guard.json");
    assert_eq!(told.postgres.bin_dir, Path::new("/usr/lib/postgresql/15/bin"));
    assert_eq!(told.postgres.tls.key, Path::new("/etc/ha/tls/key.pem"));
    assert_eq!(told.failover.balancers, [Path::new("/run/ha-haproxy/admin.sock")]);
    assert_eq!(told.store.endpoints[0], "https://x-1.eu-central.shop.internal:2379");
    let folder = tempfile::tempdir().expect("a folder");
    let conf = ha_data::postgres::postgresql_conf(&told.postgres, &told.node).expect("settings");
    fs::write(folder.path().join("postgresql.conf"), conf).expect("written");
    for (name, value) in [
        ("max_connections", "100"),
        ("listen_addresses", "x-1.eu-central.shop.internal"),
        ("ssl_key_file", "/etc/ha/tls/key.pem"),
    ] {
        let out = Command::new(&postgres)
            .args(["-C", name, "-D"])
            .arg(folder.path())
            .output();
        let out = out.expect("postgres starts");
        assert!(out.status.success(), "{}", said(&out));
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), value);
    }
    // A line for each server that has business with it, and for nobody else.
    let hba = ha_data::postgres::pg_hba_conf(&told.postgres).expect("names");
    let hosts = hba.lines().filter(|line| line.starts_with("hostssl   replication"));
    assert_eq!(hosts.count(), told.postgres.allow.len());
    assert_eq!(told.postgres.allow.len(), 5, "{:?}", told.postgres.allow);
    let app: AppConfig = serde_json::from_str(&files.file("/etc/ha/app/app.json")).expect("app.json");
    assert_eq!(
        (app.write.as_str(), app.read.as_str()),
        ("127.0.0.1:5432", "127.0.0.1:5433")
    );
}

#[test]
fn systemd_takes_the_units_and_leaves_them_alone_until_their_files_are_there() {
    let (Some(analyze), Some(files)) = (program("systemd-analyze"), everything()) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut units = Vec::new();
    for (path, (text, _)) in files.files() {
        let Some(name) = path.strip_prefix("/etc/systemd/system/") else {
            continue;
        };
        // Programs that only a server has.
        let text = [
            "/usr/local/bin/ha-guard",
            "/usr/local/lib/ha/hosts",
            "/usr/bin/etcd",
            "/usr/sbin/haproxy",
        ]
        .iter()
        .fold(text, |text, program| text.replace(&format!("={program}"), "=/bin/sh"));
        let waits = text.contains("ConditionPathExists=/etc/ha/hosts\n");
        assert_eq!(waits, name != "ha.target", "{name}: {text}");
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        units.push(file);
    }
    assert_eq!(units.len(), 7, "{units:?}");
    let out = Command::new(analyze)
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
        .expect("it starts");
    let said = said(&out);
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("ha-") || line.contains("ha.target"))
        .collect();
    assert!(out.status.success() && ours.is_empty(), "{said}");
    // What a guard would end without is what it waits for.
    let guard = files.file("/etc/systemd/system/ha-guard.service");
    for path in [
        "/etc/ha/tls/key.pem",
        "/etc/ha/secrets/replication",
        "/usr/local/bin/ha-guard",
    ] {
        assert!(guard.contains(&format!("ConditionPathExists={path}\n")), "{guard}");
    }
    assert!(
        files
            .file("/etc/systemd/system/ha-etcd.service")
            .contains("ConditionPathExists=/etc/ha/etcd.birth\n")
    );
}

/// A folder of programs that say what they were called with; `curl` fetches `fetched`.
fn pretended(fetched: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("a program");
    };
    for name in [
        "apt-get",
        "systemctl",
        "systemd-sysusers",
        "systemd-tmpfiles",
        "pgdg",
        "haproxy",
        "install",
    ] {
        put(name, &format!("echo {name} \"$@\""));
    }
    put("apt-cache", "echo '  Candidate: (none)'");
    put("etcd", "echo 'etcd Version: 3.4.23'");
    put(
        "curl",
        &format!("while [ \"$1\" != --output ]; do shift; done; printf '%s' '{fetched}' >\"$2\"; echo curl \"$3\""),
    );
    folder
}

#[test]
fn the_first_start_installs_the_guard_that_was_meant_and_no_other() {
    let mut shop = Shop::new(ProviderName::Hetzner, &ALL);
    let url = "https://files.example.com/it's $(here)?a=1".replace(' ', "%20");
    let sha256 = "0".repeat(64);
    shop.guard = Some(GuardSource {
        url: url.clone(),
        sha256,
    });
    let with = |shop: &Shop| judged(&[shop.text()])?.pop();
    let Some(wrong) = with(&shop) else { return };
    let run = |files: &Verdict, pretended: &Path| {
        let script = files
            .file("/usr/local/lib/ha/first-boot")
            .replace("/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh", "pgdg")
            .replace("/usr/sbin/haproxy", "haproxy");
        let path = format!("{}:{}", pretended.display(), std::env::var("PATH").unwrap_or_default());
        Command::new("sh")
            .args(["-c", &script])
            .env("PATH", path)
            .output()
            .expect("a shell")
    };
    let programs = pretended("guard");
    let out = run(&wrong, programs.path());
    assert!(
        !out.status.success() && said(&out).contains("another SHA-256"),
        "{}",
        said(&out)
    );
    assert!(!said(&out).contains("install -m 755"), "{}", said(&out));

    let sum = Command::new("sh")
        .args(["-c", "printf guard | sha256sum"])
        .output()
        .expect("a shell");
    let sum = String::from_utf8_lossy(&sum.stdout)[..64].to_owned();
    shop.guard = Some(GuardSource {
        url: url.clone(),
        sha256: sum.to_uppercase(),
    });
    let right = with(&shop).expect("it was there a moment ago");
    let out = run(&right, programs.path());
    assert!(out.status.success(), "{}", said(&out));
    let said = said(&out);
    let order = [
        "systemd-sysusers",
        "systemd-tmpfiles",
        "pgdg -y",
        "install --no-install-recommends postgresql-15",
        "haproxy -c",
        "systemctl enable ha.target",
        &format!("curl {url}"),
        "install -m 755",
        "systemctl start --no-block ha.target",
    ];
    let mut from = 0;
    for step in order {
        let at = said[from..]
            .find(step)
            .unwrap_or_else(|| panic!("no {step} after {from} in\n{said}"));
        from += at;
    }

    shop.guard = None;
    let without = with(&shop).expect("it was there a moment ago");
    let out = run(&without, programs.path());
    assert!(
        out.status.success() && self::said(&out).contains("no guard was fetched"),
        "{}",
        self::said(&out)
    );
    assert!(!self::said(&out).contains("curl"));
}

#[test]
fn names_get_into_the_file_of_hosts_once() {
    let Some(files) = everything() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (hosts, ours) = (folder.path().join("hosts"), folder.path().join("ours"));
    let script = files
        .file("/usr/local/lib/ha/hosts")
        .replace("/etc/ha/hosts", &ours.display().to_string())
        .replace("/etc/hosts", &hosts.display().to_string());
    fs::write(&hosts, "127.0.0.1 localhost\n").expect("written");
    for address in ["10.0.0.1", "10.0.0.2", "10.0.0.2"] {
        // The last line of a file may have no end.
        fs::write(&ours, format!("{address} db-1.us-east.shop.internal")).expect("written");
        let out = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        assert!(out.status.success(), "{}", said(&out));
        let wanted = format!("127.0.0.1 localhost\n# ha: begin\n{address} db-1.us-east.shop.internal\n# ha: end\n");
        assert_eq!(fs::read_to_string(&hosts).expect("read"), wanted);
    }
}
