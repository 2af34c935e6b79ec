//! What a cloud server is told when it is made: cloud-init user data, rendered from the same templates as the local
//! target, without a secret and without an address.
//!
//! # How a server comes up
//!
//! 1. **The provider boots it with this text.** cloud-init writes the files below `/etc/ha`, the units and two scripts,
//!    masks the packages' own services, installs the packages of the server's roles, and runs
//!    `/usr/local/lib/ha/first-boot`: users, folders, PostgreSQL of the wanted major version
//!    ([PGDG](https://wiki.postgresql.org/wiki/Apt) where the image has another; the key comes with the distribution's
//!    signed package `postgresql-common`), and `ha-guard` from an address in `config.toml`, kept only when its SHA-256 is
//!    the one named there. No cluster is made by a package (`create_main_cluster = false`): the guard makes it.
//! 2. **What is secret or not known yet comes over SSH**, never in user data, which every process of a server and
//!    whoever may look at the account's servers can read: [`UserData::brought`] lists it, with owner and mode. `/etc/ha/hosts` says where the
//!    workspace's servers are; all other files name servers by [`host_name`], and no file has to be written again when
//!    an address changes.
//! 3. **`systemctl start ha.target`** starts what has all its files. Every unit says by `ConditionPathExists=` what it
//!    waits for: a boot in between leaves it alone, and is no failure. From then on `ha.target` is part of every boot.
//!
//! | role | packages | units | files of ours |
//! |---|---|---|---|
//! | `database` | PostgreSQL | `ha-deadman`, `ha-guard` | `guard.json`; `postgresql.conf` and `pg_hba.conf` are written from it by the guard |
//! | `store` | etcd | `ha-etcd` | `etcd.json` |
//! | `app` | HAProxy | `ha-haproxy`, `ha-app` | `haproxy.cfg`, `hold.lua`, `app/app.json`, `app/env` |
//!
//! Guard, database, store and HAProxy run as the user `ha`, the application as `ha-app`; programs that share a server
//! and a user read one key of mode 0600, as on the local target. Images: Debian 12, Ubuntu 24.04, or later ones.
//!
//! - A member of the store begins nothing by itself: `etcd.json` has it join a cluster of nobody, as the local target
//!   leaves it after a member's first start, and `ha-etcd` waits for `/etc/ha/etcd.birth`. Whoever adds the member puts
//!   a file with [`UserData::member`] in its place for the first start, and this one back afterwards.
//! - On an application's server HAProxy listens at 127.0.0.1, port 5432 for writes and 5433 for reads; `app/env` says
//!   so to any program (`EnvironmentFile=/etc/ha/app/env`). Where no database of the workspace runs on its servers,
//!   there is nothing to lead to, and none of it.
//! - A group with `user_data` of its own brings its own application: the reference application (`ha-app`) is left out,
//!   and the text is added as a further part, byte for byte. A script runs after ours; a cloud-config is merged by
//!   adding lists, ours first.
//! - A server with no role gets the user's text alone.
//!
//! The same workspace gives the same bytes. It is text that can be read, but for a server whose text would be longer than
//! its provider takes: then its files are packed (`gz+b64`, which cloud-init unpacks), the largest first, and no more of
//! them than needed. The whole is never compressed: DigitalOcean takes plain text only, and Hetzner's field is a text, too.

mod files;
mod mime;
mod scripts;
mod units;
mod yaml;

use std::{collections::BTreeSet, path::Path};

use ha_core::{
    config::GuardSource,
    names::{ProviderName, WorkspaceName},
    resource::{Kind, Resource, ResourceId},
    systemd,
};
use ha_data::DataError;
use serde::Deserialize;

use crate::{
    ProviderError,
    local::{
        kinds::{
            database::DatabaseSpec,
            store::{self, StoreSpec},
        },
        state::record,
    },
};

const USER: &str = "ha";
const APP_USER: &str = "ha-app";
const GUARD_PROGRAM: &str = "/usr/local/bin/ha-guard";
const GUARD_CONFIG: &str = "/etc/ha/guard.json";
const ETCD: &str = "/usr/bin/etcd";
const ETCD_CONFIG: &str = "/etc/ha/etcd.json";
const ETCD_BIRTH: &str = "/etc/ha/etcd.birth";
const HAPROXY: &str = "/usr/sbin/haproxy";
const HAPROXY_CONFIG: &str = "/etc/ha/haproxy.cfg";
const HAPROXY_SOCKET: &str = "/run/ha-haproxy/admin.sock";
const HOSTS: &str = "/etc/ha/hosts";
const HOSTS_SCRIPT: &str = "/usr/local/lib/ha/hosts";
const FIRST_BOOT: &str = "/usr/local/lib/ha/first-boot";
const APP_CONFIG: &str = "/etc/ha/app/app.json";
const APP_ENV: &str = "/etc/ha/app/env";
const APP_PASSWORD: &str = "/etc/ha/app/password";
const APP_PGPASS: &str = "/etc/ha/app/pgpass";
const CA: &str = "/etc/ha/tls/ca.pem";
const CERT: &str = "/etc/ha/tls/cert.pem";
const KEY: &str = "/etc/ha/tls/key.pem";
/// Of the package `postgresql-common`, in Debian and in Ubuntu.
const PGDG: &str = "/usr/share/postgresql-common/pgdg/apt.postgresql.org.sh";

/// The most bytes of user data that a provider takes; none for this machine, which takes none.
///
/// - AWS: 16 KB in raw form, before it is base64-encoded:
///   <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html>; the API counts 16,384.
/// - Hetzner: "limited to 32KiB": <https://docs.hetzner.cloud/reference/cloud#servers-create-a-server>
/// - DigitalOcean: "plain text and may not exceed 64 KiB":
///   <https://docs.digitalocean.com/reference/api/reference/droplets/#droplets_create>
pub const fn limit(provider: ProviderName) -> Option<usize> {
    match provider {
        ProviderName::Aws => Some(16 << 10),
        ProviderName::Hetzner => Some(32 << 10),
        ProviderName::Digitalocean => Some(64 << 10),
        ProviderName::Local => None,
    }
}

/// Variants are what a person would change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserDataError {
    #[error(
        "the user data of {id} has {bytes} bytes, and {provider} takes {limit}; {own} of them are the group's own user_data"
    )]
    TooLarge {
        id: ResourceId,
        provider: ProviderName,
        bytes: usize,
        limit: usize,
        own: usize,
    },
    /// It would break the files that it is written into.
    #[error("{0:?} cannot be the name of a workspace, region or server on a cloud server")]
    Name(String),
    #[error("the guard of config.toml: {what}")]
    Guard { what: String },
    #[error("{id}: {what}")]
    Database { id: ResourceId, what: String },
    /// PostgreSQL's settings, as the guard would refuse them.
    #[error("{id}: {source}")]
    Settings {
        id: ResourceId,
        #[source]
        source: DataError,
    },
    /// A spec that this version cannot read.
    #[error(transparent)]
    Spec(#[from] ProviderError),
}

impl UserDataError {
    /// Stable; scripts match on it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "ha::user_data::too_large",
            Self::Name(_) => "ha::user_data::name",
            Self::Guard { .. } => "ha::user_data::guard",
            Self::Database { .. } => "ha::user_data::database",
            Self::Settings { .. } => "ha::user_data::settings",
            Self::Spec(_) => "ha::user_data::spec",
        }
    }

    /// What to type or change next.
    pub fn help(&self) -> String {
        match self {
            Self::TooLarge { id, .. } => format!(
                "shorten user_data of the group in workspace.ncl, or let it name what to fetch (#include https://...); see \
                 all of it: ha render user-data {}",
                id.name
            ),
            Self::Name(_) => "use lower-case letters, digits and inner dashes".into(),
            Self::Guard { .. } => {
                "write in config.toml: [cloud] guard = { url = \"https://...\", sha256 = \"...\" } with the output of \
                 sha256sum"
                    .into()
            }
            Self::Database { .. } => "declare it as ha.Postgres with a major version such as \"15\"".into(),
            Self::Settings { .. } => "change settings of the database in workspace.ncl, then run: ha check".into(),
            Self::Spec(_) => "run: ha check".into(),
        }
    }
}

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerRole {
    App,
    Database,
    Store,
}

/// A file that comes to a server over SSH, after it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    pub path: &'static str,
    /// User and group.
    pub owner: &'static str,
    pub mode: u32,
    pub what: &'static str,
}

/// All that a server of these roles waits for, in the order in which to write it.
fn brought(roles: &[ServerRole]) -> Vec<Brought> {
    let file = |path, owner, mode, what| Brought {
        path,
        owner,
        mode,
        what,
    };
    let has = |role| roles.contains(&role);
    let mut out = vec![
        file(
            HOSTS,
            "root",
            0o644,
            "a line for each server, as in hosts(5): its address as reached from here, its host_name",
        ),
        file(CA, "root", 0o644, "the workspace's certificate authority"),
    ];
    if has(ServerRole::Database) || has(ServerRole::Store) {
        out.push(file(
            CERT,
            USER,
            0o644,
            "the server's certificate, for its host_name and all its addresses",
        ));
        out.push(file(KEY, USER, 0o600, "the certificate's key"));
    }
    if has(ServerRole::Database) {
        out.push(file(
            "/etc/ha/secrets/admin",
            USER,
            0o600,
            "the password of the database's administrator",
        ));
        out.push(file(
            "/etc/ha/secrets/replication",
            USER,
            0o600,
            "the password of the replicas",
        ));
        out.push(file(
            "/etc/ha/secrets/app",
            USER,
            0o600,
            "the password of the application",
        ));
    }
    if has(ServerRole::App) {
        out.push(file(APP_PASSWORD, APP_USER, 0o600, "the password of the application"));
        out.push(file(
            APP_PGPASS,
            APP_USER,
            0o600,
            "the same as libpq reads it: *:*:app:app:<password>",
        ));
    }
    if has(ServerRole::Store) {
        out.push(file(
            ETCD_BIRTH,
            USER,
            0o644,
            "anything: the store counts on this member, and etcd.json says how it begins",
        ));
    }
    out
}

/// What a server is called in the files of all others; only `/etc/ha/hosts` knows where that is. `.internal` is kept
/// for private use: <https://www.icann.org/en/board-activities-and-meetings/materials/approved-resolutions-special-meeting-of-the-icann-board-29-07-2024-en>.
pub fn host_name(workspace: &WorkspaceName, region: &str, server: &str) -> String {
    format!("{server}.{region}.{workspace}.internal")
}

/// How a member of the store begins, for its very first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// There is no other member, and never was.
    Found {
        /// Another one for each cluster that is founded.
        token: String,
    },
    /// The members that there are have taken it in; each with its name and the URL of its peers, this one included.
    Join { members: Vec<(String, String)> },
}

/// All of a workspace that its servers are told of.
#[derive(Clone, Debug)]
pub struct UserData {
    workspace: WorkspaceName,
    guard: Option<GuardSource>,
    /// Self-run ones, with what they are.
    databases: Vec<(ResourceId, DatabaseSpec)>,
    stores: Vec<(ResourceId, StoreSpec)>,
    /// `region/server` of each application's server.
    apps: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct ServerSpec {
    roles: BTreeSet<ServerRole>,
    #[serde(default)]
    user_data: Option<String>,
}

impl UserData {
    /// From all resources of the target `cloud`; nothing is asked or read besides.
    ///
    /// # Errors
    /// `Guard` for an address or hash that cannot be one, `Name` and `Spec` for resources that `ha check` refuses.
    pub fn new(
        workspace: &WorkspaceName,
        resources: &[Resource],
        guard: Option<GuardSource>,
    ) -> Result<Self, UserDataError> {
        check_name(workspace.as_str())?;
        guard.as_ref().map_or(Ok(()), check_guard)?;
        let mut out = Self {
            workspace: workspace.clone(),
            guard,
            databases: Vec::new(),
            stores: Vec::new(),
            apps: Vec::new(),
        };
        for resource in resources {
            let id = &resource.id;
            match id.kind {
                Kind::Server => {
                    check_name(id.region.as_str())?;
                    check_name(&id.name)?;
                    let spec: ServerSpec = record::fields(id, &resource.spec)?;
                    if spec.roles.contains(&ServerRole::App) {
                        out.apps.push((id.region.to_string(), id.name.clone()));
                    }
                }
                // A managed one runs on no server of ours.
                Kind::Database if resource.spec.get("server").is_some() => {
                    let spec = record::fields(id, &resource.spec)?;
                    out.databases.push((id.clone(), spec));
                }
                Kind::Store => {
                    check_name(&id.name)?;
                    out.stores.push((id.clone(), record::fields(id, &resource.spec)?));
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// What a server is for: by what runs on it. Where there is no database to lead to, its application is its own
    /// business.
    fn roles(&self, id: &ResourceId, spec: &ServerSpec) -> Vec<ServerRole> {
        let is = |role: &ServerRole| match role {
            ServerRole::App => spec.roles.contains(role) && !self.databases.is_empty(),
            ServerRole::Database => self.database_on(id).is_some(),
            ServerRole::Store => self.store_on(id).is_some(),
        };
        let all = [ServerRole::App, ServerRole::Database, ServerRole::Store];
        all.into_iter().filter(is).collect()
    }

    fn database_on(&self, server: &ResourceId) -> Option<&(ResourceId, DatabaseSpec)> {
        let mut all = self.databases.iter();
        all.find(|(id, spec)| id.region == server.region && spec.server == server.name)
    }

    fn store_on(&self, server: &ResourceId) -> Option<&(ResourceId, StoreSpec)> {
        let mut all = self.stores.iter();
        all.find(|(id, spec)| id.region == server.region && spec.server == server.name)
    }

    /// All that a server waits for, in the order in which to write it; then `systemctl start ha.target`. Users and
    /// folders are there once `cloud-init status --wait` has returned.
    ///
    /// # Errors
    /// `Spec` for a server whose roles cannot be read.
    pub fn brought(&self, server: &Resource) -> Result<Vec<Brought>, UserDataError> {
        let spec: ServerSpec = record::fields(&server.id, &server.spec)?;
        let roles = self.roles(&server.id, &spec);
        Ok(if roles.is_empty() { Vec::new() } else { brought(&roles) })
    }

    /// The user data of one server; empty for one without a role and without a text of the user.
    ///
    /// # Errors
    /// `TooLarge` for what its provider would not take, `Database` and `Settings` for what would not come up.
    pub fn render(&self, server: &Resource) -> Result<String, UserDataError> {
        let spec: ServerSpec = record::fields(&server.id, &server.spec)?;
        check_name(server.id.region.as_str())?;
        check_name(&server.id.name)?;
        let own = spec.user_data.as_deref().filter(|text| !text.trim().is_empty());
        let roles = self.roles(&server.id, &spec);
        let text = if roles.is_empty() {
            own.unwrap_or_default().to_owned()
        } else {
            self.cloud_config(&server.id, &roles, own, limit(server.provider))?
        };
        match limit(server.provider) {
            Some(limit) if text.len() > limit => Err(UserDataError::TooLarge {
                id: server.id.clone(),
                provider: server.provider,
                bytes: text.len(),
                limit,
                own: own.map_or(0, str::len),
            }),
            _ => Ok(text),
        }
    }

    /// `etcd.json` for the first start of a member; none for a store that is not of this workspace.
    ///
    /// # Errors
    /// `Spec` when it cannot be written as JSON.
    pub fn member(&self, store: &ResourceId, begins: &Beginning) -> Result<Option<String>, UserDataError> {
        let Some((id, spec)) = self.stores.iter().find(|(id, _)| id == store) else {
            return Ok(None);
        };
        let seat = self.store_seat(id, spec);
        let birth = match begins {
            Beginning::Found { token } => store::Birth {
                state: "new",
                token: token.clone(),
                ..self.birth_behind(id, spec)
            },
            Beginning::Join { members } => store::Birth {
                state: "existing",
                cluster: members
                    .iter()
                    .map(|(name, url)| format!("{name}={url}"))
                    .collect::<Vec<_>>()
                    .join(","),
                token: self.workspace.to_string(),
            },
        };
        Ok(Some(files::json(&store::config(&seat, spec, &birth))?))
    }

    fn host_name(&self, region: &str, server: &str) -> String {
        host_name(&self.workspace, region, server)
    }

    fn store_seat(&self, id: &ResourceId, spec: &StoreSpec) -> store::Seat {
        store::Seat {
            name: store::member_name(id),
            data_dir: Path::new("/var/lib/ha").join(store::UNIT),
            tls: systemd::tls(),
            // It takes no name here, and every one who comes needs a certificate of the workspace.
            listen: "0.0.0.0".into(),
            reached: self.host_name(id.region.as_str(), &spec.server),
            metrics: "127.0.0.1".into(),
        }
    }

    fn birth_behind(&self, id: &ResourceId, spec: &StoreSpec) -> store::Birth {
        let reached = self.host_name(id.region.as_str(), &spec.server);
        store::Birth::behind(&store::member_name(id), &store::peer_url(&reached))
    }
}

fn check_guard(guard: &GuardSource) -> Result<(), UserDataError> {
    let bad = |what: String| Err(UserDataError::Guard { what });
    let host = guard
        .url
        .strip_prefix("https://")
        .or_else(|| guard.url.strip_prefix("http://"));
    // Who signs in by the address itself would have a password in it.
    let secret = host
        .and_then(|it| it.split('/').next())
        .is_some_and(|it| it.contains('@'));
    if host.is_none_or(str::is_empty) || !guard.url.chars().all(|c| c.is_ascii_graphic()) {
        return bad(format!("{:?} is no https:// address", guard.url));
    }
    if secret {
        return bad("its url has a user or a password in it, and user data is no place for one".into());
    }
    if guard.sha256.len() != 64 || !guard.sha256.bytes().all(|it| it.is_ascii_hexdigit()) {
        return bad(format!("sha256 {:?} is not 64 hexadecimal digits", guard.sha256));
    }
    Ok(())
}

/// A part of a host's name: nothing that a unit, HAProxy, a shell or `/etc/hosts` would read as more than a word.
fn check_name(name: &str) -> Result<(), UserDataError> {
    let inner = |it: u8| it.is_ascii_alphanumeric() || it == b'-';
    let fits = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fits {
        Ok(())
    } else {
        Err(UserDataError::Name(name.to_owned()))
    }
}
