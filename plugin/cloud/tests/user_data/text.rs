//! The text itself: how long, always the same, without a secret; and what is refused.

use ha_cloud::user_data::{Beginning, UserData, host_name, limit};
use ha_core::{
    config::GuardSource,
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, ResourceId},
};
use serde_json::{Value, json};

use crate::support::{ALL, CLOUDS, Shop, combinations, everything, judged, resource, server};

#[test]
fn the_last_byte_that_fits_is_taken_and_no_more() {
    for provider in CLOUDS {
        let most = limit(provider).expect("a limit");
        let with = |more: usize| {
            let mut shop = Shop::new(provider, &ALL);
            shop.own = Some(format!("#!/bin/sh\n#{}\n", "x".repeat(more)));
            shop
        };
        // As much of the user's own as fits when all that gets smaller is packed.
        let (mut fits, mut too_much) = (0, most);
        while too_much - fits > 1 {
            let middle = usize::midpoint(fits, too_much);
            match with(middle).render() {
                Ok(_) => fits = middle,
                Err(_) => too_much = middle,
            }
        }
        assert_eq!(with(fits).text().len(), most);
        let error = with(too_much).render().expect_err("a byte too many");
        let words = format!("has {} bytes, and {provider} takes {most}", most + 1);
        assert!(error.to_string().contains(&words), "{error}");
        assert!(
            error.to_string().contains(&format!("{} of them", too_much + 12)),
            "{error}"
        );
        assert!(error.help().contains("ha render user-data x-1"), "{}", error.help());
        assert_eq!(error.code(), "ha::user_data::too_large");
    }
}

#[test]
fn what_is_packed_to_fit_is_the_same_on_the_server() {
    let shop = Shop::new(ProviderName::Aws, &ALL);
    let mut server = shop.server();
    let data = shop.user_data().expect("all read");
    let tight = data.render(&server).expect("it fits");
    server.provider = ProviderName::Digitalocean;
    let plain = data.render(&server).expect("it fits");
    assert!(
        tight.contains("encoding: gz+b64") && !plain.contains("encoding:"),
        "{tight}"
    );
    assert!(tight.contains("create_main_cluster"), "no more is packed than needed");
    let Some(verdicts) = judged(&[tight.clone(), plain]) else {
        return;
    };
    verdicts[0].assert_fine(&tight);
    assert_eq!(verdicts[0].files(), verdicts[1].files());
}

#[test]
fn the_servers_of_the_example_can_be_read_at_every_provider() {
    for provider in CLOUDS {
        for roles in [["app"].as_slice(), &["database", "store"]] {
            let text = Shop::new(provider, roles).text();
            assert!(
                !text.contains("encoding:"),
                "{provider} {roles:?}: {} bytes",
                text.len()
            );
            assert!(!text.contains("content: \""), "every file is lines: {text}");
        }
    }
}

#[test]
fn the_same_workspace_gives_the_same_bytes() {
    for provider in CLOUDS {
        let shop = Shop::new(provider, &ALL);
        let mut turned = shop.resources();
        turned.reverse();
        let turned = UserData::new(&WorkspaceName::new("shop"), &turned, shop.guard.clone()).expect("all read");
        assert_eq!(turned.render(&shop.server()).expect("user data"), shop.text());
    }
}

/// The renderer is given resources and nothing else; what it writes are files that hold no secret, and what is secret
/// has another way.
#[test]
fn no_secret_is_in_it_and_what_is_brought_is_not_written() {
    // Where nothing is packed, so that all of it can be looked at.
    for provider in [ProviderName::Digitalocean, ProviderName::Hetzner] {
        for roles in combinations() {
            let shop = Shop::new(provider, &roles);
            let text = shop.text();
            assert!(!text.contains("encoding:"));
            let brought = shop
                .user_data()
                .expect("all read")
                .brought(&shop.server())
                .expect("a list");
            assert!(brought.iter().any(|it| it.mode == 0o600), "{roles:?}");
            for file in &brought {
                assert!(!text.contains(&format!("- path: {}\n", file.path)), "{}", file.path);
                assert!(text.contains(&format!("#   {:<28} {:<6} {:04o}\n", file.path, file.owner, file.mode)));
            }
            assert!(!text.contains("-----BEGIN"), "{text}");
            // Passwords of a workspace are 64 hexadecimal digits; only the guard's hash looks like one.
            let hash = &shop.guard.as_ref().expect("a guard").sha256;
            let words = text.split(|c: char| !c.is_ascii_alphanumeric());
            let long: Vec<&str> = words.filter(|word| word.len() >= 32 && word != hash).collect();
            assert!(long.is_empty(), "{long:?}");
        }
    }
}

#[test]
fn what_would_not_come_up_is_said_before_anything_is_made() {
    let shop = || Shop::new(ProviderName::Hetzner, &ALL);
    let refused = |shop: &Shop| shop.render().expect_err("refused");

    let mut fenced = shop();
    fenced.settings.insert("fsync".into(), "off".into());
    let error = refused(&fenced);
    assert_eq!(
        (error.code(), error.to_string().contains("fsync")),
        ("ha::user_data::settings", true),
        "{error}"
    );

    for name in ["a b", "a\nb", "-a", "a.b", "\"", "", "$(x)"] {
        let named = UserData::new(&WorkspaceName::new(name), &[], None).expect_err("no name");
        assert_eq!(named.code(), "ha::user_data::name");
        let data = shop().user_data().expect("all read");
        let error = data.render(&server("us-east", ProviderName::Hetzner, name, &["app"], None));
        assert_eq!(error.expect_err("no name").code(), "ha::user_data::name");
    }

    let hash = "0".repeat(64);
    for (url, sha256) in [
        ("ftp://a/b", hash.as_str()),
        ("https://", &hash),
        ("https://a/b c", &hash),
        ("https://user:secret@a/b", &hash),
        ("https://a/b", "0"),
        ("https://a/b", &"g".repeat(64)),
    ] {
        let mut fetched = shop();
        fetched.guard = Some(GuardSource {
            url: url.into(),
            sha256: sha256.into(),
        });
        let error = refused(&fetched);
        assert_eq!(error.code(), "ha::user_data::guard", "{url}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    let data = shop().user_data().expect("all read");
    let broken = resource(
        "us-east",
        ProviderName::Hetzner,
        Kind::Server,
        "a",
        json!({ "roles": ["king"] }),
    );
    assert_eq!(data.render(&broken).expect_err("no role").code(), "ha::user_data::spec");
}

#[test]
fn a_server_without_a_role_gets_the_users_text_alone() {
    let data = Shop::new(ProviderName::Aws, &ALL).user_data().expect("all read");
    let idle = |own| {
        data.render(&server("us-east", ProviderName::Aws, "idle-1", &[], own))
            .expect("user data")
    };
    assert_eq!(idle(None), "");
    assert_eq!(idle(Some("#!/bin/sh\n\u{fc}\r\n")), "#!/bin/sh\n\u{fc}\r\n");
    // Where the databases are managed, only their provider knows where.
    let managed = UserData::new(&WorkspaceName::new("shop"), &[], None).expect("nothing to read");
    let app = server("us-east", ProviderName::Aws, "app-1", &["app"], None);
    assert_eq!(managed.render(&app).expect("user data"), "");
    assert_eq!(managed.brought(&app).expect("a list"), []);
}

#[test]
fn a_member_begins_nothing_unless_it_is_told() {
    let shop = Shop::new(ProviderName::Hetzner, &ALL);
    let data = shop.user_data().expect("all read");
    let id = ResourceId::new(&RegionName::new("eu-central"), Kind::Store, "eu-central-store");
    let name = host_name(&WorkspaceName::new("shop"), "eu-central", "x-1");
    let read = |text: &str| -> Value { serde_json::from_str(text).expect("etcd.json") };
    let founded = data
        .member(&id, &Beginning::Found { token: "t".into() })
        .expect("JSON")
        .expect("of ours");
    let founded = read(&founded);
    let own = format!("eu-central.eu-central-store=https://{name}:2380");
    assert_eq!(founded["initial-cluster-state"], json!("new"));
    assert_eq!(founded["initial-cluster"], json!(own));
    let members = vec![
        ("a".to_owned(), "https://a:2380".to_owned()),
        ("b".to_owned(), "https://b:2380".to_owned()),
    ];
    let joined = data
        .member(&id, &Beginning::Join { members })
        .expect("JSON")
        .expect("of ours");
    assert_eq!(
        read(&joined)["initial-cluster"],
        json!("a=https://a:2380,b=https://b:2380")
    );
    let stranger = ResourceId::new(&RegionName::new("mars"), Kind::Store, "x");
    assert_eq!(
        data.member(&stranger, &Beginning::Found { token: "t".into() })
            .expect("JSON"),
        None
    );

    let Some(files) = everything() else { return };
    let written = read(&files.file("/etc/ha/etcd.json"));
    assert_eq!(written["initial-cluster-state"], json!("existing"));
    assert_eq!(written["initial-cluster"], json!(own));
    assert_eq!(
        written["listen-peer-urls"],
        json!("https://0.0.0.0:2380"),
        "etcd takes no name here"
    );
    assert_eq!(written["peer-transport-security"]["client-cert-auth"], json!(true));
}
