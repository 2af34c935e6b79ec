//! What cloud-init reads: every part, as it was written.

use ha_core::{agent::GuardConfig, names::ProviderName};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::json;

use crate::support::{ALL, CLOUDS, Shop, combinations, judged};

const CONFIG: &str = "#cloud-config\npackages: [nginx]\nruncmd: [theirs]\nmanage_etc_hosts: true\n";

#[test]
fn every_role_at_every_provider_is_what_cloud_init_takes() {
    let script = "#!/bin/sh\necho 'it: #1' \"$HOME\"\n";
    let several = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n--b\n\n#!/bin/sh\ntrue\n--b--\n";
    let own = [
        None,
        Some(script),
        Some(CONFIG),
        Some("#!/bin/sh\n# \u{fc}ber\r\n"),
        Some(several),
    ];
    let own = own.into_iter().map(|it| it.map(str::to_owned));
    let mut others = own.cycle();
    let mut shops = Vec::new();
    for provider in CLOUDS {
        for roles in combinations() {
            // Each alone; and with the texts of users in turn, which 21 servers all meet with.
            shops.push(Shop::new(provider, &roles));
            let mut shop = Shop::new(provider, &roles);
            shop.own = others.next().flatten();
            shops.push(shop);
        }
    }
    let texts: Vec<String> = shops.iter().map(Shop::text).collect();
    let Some(verdicts) = judged(&texts) else { return };
    for ((shop, text), verdict) in shops.iter().zip(&texts).zip(&verdicts) {
        verdict.assert_fine(text);
        let has = |role: &str| shop.roles.contains(&role);
        let files = verdict.files();
        assert_eq!(files.contains_key("/etc/ha/guard.json"), has("database"));
        assert_eq!(files.contains_key("/etc/ha/etcd.json"), has("store"));
        assert_eq!(files.contains_key("/etc/ha/haproxy.cfg"), has("app"));
        let brings_own = shop.own.is_some();
        assert_eq!(files.contains_key("/etc/ha/app/app.json"), has("app") && !brings_own);
        // Every unit that the target wants is there, and nothing is there that it does not want.
        let target = verdict.file("/etc/systemd/system/ha.target");
        let wants = target.lines().find_map(|it| it.strip_prefix("Wants=")).expect("wants");
        let mut wanted: Vec<String> = wants.split(' ').map(|it| format!("/etc/systemd/system/{it}")).collect();
        wanted.push("/etc/systemd/system/ha.target".into());
        wanted.sort();
        let units = files.keys().filter(|it| it.starts_with("/etc/systemd/system/"));
        assert!(wanted.iter().eq(units), "{wanted:?}");

        let config = &verdict.0["config"];
        assert_eq!(config["manage_etc_hosts"], json!(false), "ours is not replaced");
        let ours = json!(["/usr/local/lib/ha/first-boot"]);
        let commands = if shop.own.as_deref() == Some(CONFIG) {
            json!([ours, "theirs"])
        } else {
            json!([ours])
        };
        assert_eq!(config["runcmd"], commands);
        let parts = verdict.0["parts"].as_array().expect("parts");
        match shop.own.as_deref() {
            Some(own) if own.starts_with("#!") => {
                assert_eq!(parts[0]["text"], json!(own), "byte for byte");
                assert_eq!(parts[0]["name"], json!("user-data"));
            }
            Some(own) if own.starts_with("MIME") => assert_eq!(parts[0]["text"], json!("#!/bin/sh\ntrue")),
            _ => assert!(parts.is_empty(), "{parts:?}"),
        }
    }
}

#[test]
fn whatever_the_user_writes_comes_back_as_it_was() {
    let mut runner = TestRunner::deterministic();
    let any = proptest::string::string_regex("(?s).{0,40}").expect("a pattern");
    let nasty = prop_oneof![
        Just("a: #b".to_owned()),
        Just("'\"{{x}} ${y} $(z) `q` %i \\".to_owned()),
        Just("mime-version: 1.0".to_owned()),
        Just("# ha: begin".to_owned()),
        any,
    ];
    let mut draw = || nasty.new_tree(&mut runner).expect("a text").current();
    let mut shops = Vec::new();
    for _ in 0..64 {
        let mut shop = Shop::new(ProviderName::Digitalocean, &ALL);
        let one_line = |text: String| text.replace(['\n', '\r', '\0'], " ");
        shop.settings.insert("my.note".into(), one_line(draw()));
        shop.forbidden = Some(draw());
        shop.own = Some(format!("#!/bin/sh\n{}", draw().replace('\0', "")));
        shops.push(shop);
    }
    let texts: Vec<String> = shops.iter().map(Shop::text).collect();
    let Some(verdicts) = judged(&texts) else { return };
    for ((shop, text), verdict) in shops.iter().zip(&texts).zip(&verdicts) {
        verdict.assert_fine(text);
        let told: GuardConfig = serde_json::from_str(&verdict.file("/etc/ha/guard.json")).expect("guard.json");
        assert_eq!(told.postgres.settings, shop.settings);
        assert!(told.failover.nodes.iter().all(|it| it.forbidden == shop.forbidden));
        assert_eq!(verdict.0["parts"][0]["text"], json!(shop.own), "{text}");
    }
}

#[test]
fn ours_alone_is_no_several_parts_even_when_it_speaks_of_them() {
    let mut shop = Shop::new(ProviderName::Hetzner, &["database"]);
    shop.settings.insert("my.note".into(), "MIME-Version: 1.0".into());
    let text = shop.text();
    let Some(verdicts) = judged(std::slice::from_ref(&text)) else {
        return;
    };
    verdicts[0].assert_fine(&text);
    assert!(verdicts[0].file("/etc/ha/guard.json").contains("MIME-Version"));
}
