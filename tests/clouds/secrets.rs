//! What must be seen nowhere.

use std::{fs, path::Path};

use ha_stand_ins::Token;

use crate::world::{AWS_SECRET, Clouds};

/// Tokens and user data stand in no row, no error, and in nothing that is written on this machine.
#[test]
fn no_secret_is_shown_or_kept() {
    let clouds = Clouds::new("secret");
    let cluster = &clouds.cluster;
    let json = |pipeline: &str| {
        let value = cluster.nu(&format!("{pipeline} | to json"));
        value.unwrap_or_else(|refused| panic!("{refused}")).to_string()
    };
    let mut said = vec![
        json("ha provision"),
        json("ha inventory"),
        json("ha limits"),
        json("ha plan"),
    ];
    clouds.hetzner.knobs(|knobs| knobs.token = Token::Expired);
    said.push(json("ha inventory"));
    said.push(json("ha provision"));
    clouds.hetzner.knobs(|knobs| knobs.token = Token::Full);
    // Whatever is logged, at the lowest level.
    let code =
        "^$env.HA_NU -n --plugins $env.HA_PLUGIN -c 'ha provision; ha inventory' | complete | select stdout stderr";
    said.push(json(&format!("with-env {{HA_LOG: trace}} {{ {code} }}")));
    assert!(
        said.last().is_some_and(|it| it.contains("method=GET")),
        "requests are logged"
    );
    said.extend(kept(&cluster.state_home()));
    assert!(said.len() > 6, "acts are written");
    let tokens = [clouds.digitalocean.token(), clouds.hetzner.token()];
    for text in &said {
        let secrets = tokens.iter().map(String::as_str).chain([AWS_SECRET, "#cloud-config"]);
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is shown: {text}");
        }
    }
    cluster.rows(&format!("ha destroy {}", cluster.name));
}

/// All files below a folder.
fn kept(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => kept(&path),
        path => vec![String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned()],
    });
    files.collect()
}
