//! A workspace to render from, and the judge.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ha_cloud::user_data::{UserData, UserDataError};
use ha_core::{
    config::GuardSource,
    model::{FailoverPolicy, TimingProfile},
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Resource, ResourceId},
};
use serde_json::{Value, json};

pub(crate) const CLOUDS: [ProviderName; 3] = [ProviderName::Digitalocean, ProviderName::Hetzner, ProviderName::Aws];
pub(crate) const REGIONS: [&str; 3] = ["us-east", "eu-central", "asia-southeast"];
pub(crate) const ALL: [&str; 3] = ["app", "database", "store"];

pub(crate) fn resource(region: &str, provider: ProviderName, kind: Kind, name: &str, spec: Value) -> Resource {
    Resource {
        id: ResourceId::new(&RegionName::new(region), kind, name),
        provider,
        spec,
        depends_on: Vec::new(),
        protect: false,
        path: String::new(),
    }
}

pub(crate) fn server(region: &str, provider: ProviderName, name: &str, roles: &[&str], own: Option<&str>) -> Resource {
    let spec = json!({
        "group": name, "index": 1, "image": "ubuntu-24.04", "size": "small", "location": "x", "roles": roles,
        "command": null, "ssh_keys": ["key"], "user_data": own,
    });
    resource(region, provider, Kind::Server, name, spec)
}

/// Three regions at three providers; the one at `provider` has a server `x-1` with these roles, the others have one of
/// each.
pub(crate) struct Shop {
    pub(crate) provider: ProviderName,
    pub(crate) roles: Vec<&'static str>,
    pub(crate) own: Option<String>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) forbidden: Option<String>,
    pub(crate) guard: Option<GuardSource>,
}

impl Shop {
    pub(crate) fn new(provider: ProviderName, roles: &[&'static str]) -> Self {
        Self {
            provider,
            roles: roles.to_vec(),
            own: None,
            settings: BTreeMap::from([("max_connections".to_owned(), "100".to_owned())]),
            forbidden: None,
            guard: Some(GuardSource {
                url: "https://files.example.com/ha-guard".into(),
                sha256: "0123456789abcdef".repeat(4),
            }),
        }
    }

    pub(crate) fn resources(&self) -> Vec<Resource> {
        let places = |role: &str| -> Vec<(&str, ProviderName, &str)> {
            let all = REGIONS.iter().zip(CLOUDS);
            all.filter_map(|(region, provider)| match provider == self.provider {
                true => self.roles.contains(&role).then_some((*region, provider, "x-1")),
                false => Some((*region, provider, if role == "app" { "app-1" } else { "db-1" })),
            })
            .collect()
        };
        let mut out = vec![self.server()];
        for (region, provider) in REGIONS.iter().zip(CLOUDS).filter(|(_, it)| *it != self.provider) {
            out.push(server(region, provider, "app-1", &["app"], None));
            out.push(server(region, provider, "db-1", &["database", "store"], None));
        }
        for (region, provider, server) in places("store") {
            let spec = json!({ "server": server, "heartbeat_ms": 100, "election_ms": 1000 });
            out.push(resource(
                region,
                provider,
                Kind::Store,
                &format!("{region}-store"),
                spec,
            ));
        }
        let nodes: Vec<_> = places("database")
            .into_iter()
            .map(|(region, provider, server)| (format!("{region}/{server}"), region, provider, server))
            .collect();
        let voter =
            |place: &String| json!({ "place": place, "data": true, "priority": 0, "forbidden": self.forbidden });
        let voters: Vec<Value> = nodes.iter().map(|(place, ..)| voter(place)).collect();
        for (place, region, provider, server) in &nodes {
            let peers: Vec<&String> = nodes.iter().map(|(it, ..)| it).filter(|it| *it != place).collect();
            let spec = json!({
                "server": server, "cluster": "postgres", "engine": "postgres", "version": "15", "founder": false,
                "settings": self.settings, "peers": peers, "sync_mode": "strict",
                "timing": TimingProfile::Near.timing(), "failover": FailoverPolicy::default(), "voters": voters,
            });
            out.push(resource(
                region,
                *provider,
                Kind::Database,
                &format!("{region}-pg-1"),
                spec,
            ));
        }
        out
    }

    pub(crate) fn server(&self) -> Resource {
        let region = REGIONS.iter().zip(CLOUDS).find(|(_, it)| *it == self.provider);
        let (region, provider) = region.expect("one of them");
        server(region, provider, "x-1", &self.roles, self.own.as_deref())
    }

    pub(crate) fn user_data(&self) -> Result<UserData, UserDataError> {
        UserData::new(&WorkspaceName::new("shop"), &self.resources(), self.guard.clone())
    }

    pub(crate) fn render(&self) -> Result<String, UserDataError> {
        self.user_data()?.render(&self.server())
    }

    pub(crate) fn text(&self) -> String {
        self.render().expect("user data")
    }
}

pub(crate) fn combinations() -> Vec<Vec<&'static str>> {
    let pick = |bits: usize| {
        ALL.iter()
            .enumerate()
            .filter(|(at, _)| bits >> at & 1 == 1)
            .map(|(_, it)| *it)
            .collect()
    };
    (1..8).map(pick).collect()
}

/// What cloud-init makes of one text.
pub(crate) struct Verdict(pub(crate) Value);

impl Verdict {
    pub(crate) fn assert_fine(&self, text: &str) {
        assert_eq!(self.0["wrong"], json!([]), "{text}");
    }

    /// What is written at the first start, by path, with its mode.
    pub(crate) fn files(&self) -> BTreeMap<String, (String, String)> {
        let all = self.0["files"].as_array().expect("files").iter();
        let word = |file: &Value, key: &str| file[key].as_str().expect("a word").to_owned();
        all.map(|it| (word(it, "path"), (word(it, "text"), word(it, "mode"))))
            .collect()
    }

    pub(crate) fn file(&self, path: &str) -> String {
        let files = self.files();
        let found = files.get(path);
        found
            .unwrap_or_else(|| panic!("no {path} among {:?}", files.keys()))
            .0
            .clone()
    }
}

/// None, and a message, where cloud-init is not at hand. In CI that is a failure.
pub(crate) fn judged(texts: &[String]) -> Option<Vec<Verdict>> {
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<PathBuf> = (0..texts.len()).map(|at| folder.path().join(at.to_string())).collect();
    for (file, text) in files.iter().zip(texts) {
        fs::write(file, text).expect("written");
    }
    let judge = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/judges/cloud-init.sh");
    let out = Command::new(judge).args(&files).output().expect("a shell");
    if out.status.code() == Some(77) {
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(std::env::var_os("CI").is_none(), "{said}");
        eprintln!("SKIPPED: {said}");
        return None;
    }
    let lines = String::from_utf8(out.stdout).expect("JSON");
    let verdicts: Vec<Verdict> = lines
        .lines()
        .map(|line| Verdict(serde_json::from_str(line).expect("a line of JSON")))
        .collect();
    assert_eq!(verdicts.len(), texts.len(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(verdicts)
}

/// Where a program is, also outside of the PATH of ordinary users. In CI it has to be somewhere.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/lib/postgresql/15/bin".into()]);
    let found = folders.map(|it| it.join(name)).find(|it| it.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not installed");
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

pub(crate) fn said(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// The files of one server that is all at once, as cloud-init reads them.
pub(crate) fn everything() -> Option<Verdict> {
    let texts = [Shop::new(ProviderName::Hetzner, &ALL).text()];
    judged(&texts)?.pop()
}
