//! The cloud-config of one server: which files, which packages, which commands.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use ha_core::{
    agent::{AppConfig, GuardConfig},
    resource::ResourceId,
    systemd::{self, Install},
};
use ha_edge::haproxy::{self, HaproxyInput};
use serde::Serialize;

use super::{
    APP_CONFIG, APP_ENV, APP_PASSWORD, APP_PGPASS, APP_USER, Brought, CA, ETCD_CONFIG, FIRST_BOOT, GUARD_CONFIG,
    GUARD_PROGRAM, HAPROXY_CONFIG, HAPROXY_SOCKET, HOSTS, HOSTS_SCRIPT, ServerRole, USER, UserData, UserDataError,
    brought, mime,
    scripts::{self, FirstBoot},
    units, yaml,
};
use crate::{
    ProviderError,
    local::{
        kinds::{
            balancing::DRAINS_WITHIN,
            database::{self, DatabaseSpec},
            load_balancer::{self, HOLD, MAX_CONNECTIONS, THREADS},
            nodes::{self, Node},
            server, store,
        },
        state::layout::port,
    },
};

/// Where HAProxy and the application of one server meet: nobody else is let in.
const LOOPBACK: &str = "127.0.0.1";

/// What is written at the first start.
struct File {
    path: String,
    text: String,
    runs: bool,
    /// Written packed, since the whole would not fit otherwise.
    packed: Option<String>,
}

/// All of one server, before it is YAML.
#[derive(Default)]
struct Parts {
    packages: BTreeSet<String>,
    files: Vec<File>,
    /// Services of packages that must not start.
    masked: Vec<&'static str>,
    /// In the order in which they are to start; their files are among the others.
    units: Vec<&'static str>,
}

impl Parts {
    fn file(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.files.push(File {
            path: path.into(),
            text: text.into(),
            runs: false,
            packed: None,
        });
    }

    fn unit(&mut self, name: &'static str, text: String) {
        self.file(format!("{}/{name}", systemd::FOLDER), text);
        self.units.push(name);
    }

    fn script(&mut self, path: &str, text: String) {
        self.files.push(File {
            path: path.into(),
            text,
            runs: true,
            packed: None,
        });
    }

    /// The largest file that is not packed yet is from now on; none when no other gets smaller by it.
    ///
    /// cloud-init unpacks it (`encoding: gz+b64`):
    /// <https://cloudinit.readthedocs.io/en/latest/reference/modules.html#write-files>
    fn pack(&mut self) -> io::Result<Option<()>> {
        let plain = self.files.iter_mut().filter(|it| it.packed.is_none());
        let Some(largest) = plain.max_by_key(|it| it.text.len()) else {
            return Ok(None);
        };
        let packed = packed(&largest.text)?;
        Ok((packed.len() < largest.text.len()).then(|| largest.packed = Some(packed)))
    }
}

impl UserData {
    /// With `own`, the user adds a text, and with it an application. Where the whole is longer than `limit`, files are
    /// packed, the largest first, until it is not; it may still be too long when nothing more can be packed.
    pub(super) fn cloud_config(
        &self,
        id: &ResourceId,
        roles: &[ServerRole],
        own: Option<&str>,
        limit: Option<usize>,
    ) -> Result<String, UserDataError> {
        let mut parts = self.parts(id, roles, own.is_some())?;
        let needs = brought(roles);
        loop {
            let text = mime::join(&self.written(id, roles, &needs, &parts), own);
            let fits = limit.is_none_or(|limit| text.len() <= limit);
            let packing = |source| ProviderError::Io {
                what: format!("cannot pack the user data of {id}"),
                source,
            };
            if fits || parts.pack().map_err(packing)?.is_none() {
                return Ok(text);
            }
        }
    }

    fn parts(&self, id: &ResourceId, roles: &[ServerRole], has_own: bool) -> Result<Parts, UserDataError> {
        let region = id.region.as_str();
        let mut parts = Parts::default();
        let nodes = self.nodes()?;
        let leads = roles.contains(&ServerRole::App);
        let store = self.store_on(id);
        let database = self.database_on(id);
        let needs = brought(roles);
        if let Some((member, store_spec)) = store {
            let birth = self.birth_behind(member, store_spec);
            parts.packages.extend(["etcd-server".into(), "etcd-client".into()]);
            parts.masked.push("etcd.service");
            let config = store::config(&self.store_seat(member, store_spec), store_spec, &birth);
            parts.file(ETCD_CONFIG, json(&config)?);
            let needs = paths(&needs, |it| {
                !it.starts_with("/etc/ha/secrets") && !it.starts_with("/etc/ha/app")
            });
            parts.unit(units::ETCD_UNIT, units::etcd(&needs));
        }
        let mut major = None;
        if let Some((of, database_spec)) = database {
            major = Some(self.database(&mut parts, of, database_spec, leads, &needs)?);
        }
        if leads {
            parts.packages.insert("haproxy".into());
            parts.masked.push("haproxy.service");
            self.way_to_databases(&mut parts, region, &id.name, &nodes);
            self.application(&mut parts, region, &id.name, &nodes, &needs, has_own)?;
        }
        let runs_guard = database.is_some() || (leads && !has_own);
        if runs_guard && self.guard.is_some() {
            parts.packages.extend(["ca-certificates".into(), "curl".into()]);
        }
        self.common(&mut parts, leads);
        let first = FirstBoot {
            postgres: major,
            etcd: store.is_some(),
            haproxy: leads,
            guard: runs_guard.then_some(self.guard.as_ref()),
        };
        parts.script(FIRST_BOOT, scripts::first_boot(&first));
        Ok(parts)
    }

    /// The guard's files, and the major version of PostgreSQL.
    fn database(
        &self,
        parts: &mut Parts,
        id: &ResourceId,
        spec: &DatabaseSpec,
        leads: bool,
        needs: &[Brought],
    ) -> Result<u32, UserDataError> {
        let wrong = |what: String| UserDataError::Database { id: id.clone(), what };
        if !spec.is_postgres() {
            return Err(wrong(format!("the servers run PostgreSQL, not {}", spec.engine)));
        }
        let major = spec
            .major()
            .ok_or_else(|| wrong(format!("{:?} is no version of PostgreSQL", spec.version)))?;
        let config = self.guard_config(id, spec, major, leads)?;
        // What the guard writes at every start is looked at now, while nothing exists yet.
        ha_data::postgres::postgresql_conf(&config.postgres, &config.node)
            .and_then(|_| ha_data::postgres::pg_hba_conf(&config.postgres))
            .map_err(|source| UserDataError::Settings { id: id.clone(), source })?;
        parts.packages.insert("postgresql-common".into());
        parts.file(
            "/etc/postgresql-common/createcluster.d/ha.conf",
            "# The guard makes the cluster.\ncreate_main_cluster = false\n",
        );
        parts.file(GUARD_CONFIG, json(&config)?);
        let mut needs = paths(needs, |it| !it.starts_with("/etc/ha/app") && !it.ends_with(".birth"));
        needs.push(Path::new(GUARD_PROGRAM));
        let install = Install {
            program: Path::new(GUARD_PROGRAM),
            config: Path::new(GUARD_CONFIG),
            user: USER,
            needs: &needs,
        };
        for unit in systemd::units(&config, &install) {
            parts.unit(unit.name, unit.text);
        }
        Ok(major)
    }

    fn guard_config(
        &self,
        id: &ResourceId,
        spec: &DatabaseSpec,
        major: u32,
        leads: bool,
    ) -> Result<GuardConfig, UserDataError> {
        let region = id.region.as_str();
        let name = self.host_name(region, &spec.server);
        let elsewhere = PathBuf::new;
        let seat = database::Seat {
            workspace: self.workspace.as_str(),
            region,
            server: &spec.server,
            listen: name.clone(),
            source: None,
            reached: name,
            bin_dir: format!("/usr/lib/postgresql/{major}/bin").into(),
            // Where they are on a server is said by `on_server`.
            files: database::Files {
                data_dir: elsewhere(),
                log: elsewhere(),
                run: elsewhere(),
                events: elsewhere(),
                promise: elsewhere(),
                tls: systemd::tls(),
                passwords: elsewhere(),
            },
            allow: self.allowed(),
            endpoints: self.endpoints(region),
            balancers: leads.then(|| HAPROXY_SOCKET.into()).into_iter().collect(),
        };
        let told = database::guard_config(seat, spec, |node| Ok(self.host_name(&node.region, &node.server)))?;
        Ok(systemd::on_server(&told))
    }

    /// Every server that has business with a database, by name, and nobody else.
    fn allowed(&self) -> Vec<String> {
        let nodes = self
            .databases
            .iter()
            .map(|(it, spec)| (it.region.as_str(), spec.server.as_str()));
        let apps = self
            .apps
            .iter()
            .map(|(region, server)| (region.as_str(), server.as_str()));
        let names: BTreeSet<String> = nodes
            .chain(apps)
            .map(|(region, server)| self.host_name(region, server))
            .collect();
        names.into_iter().collect()
    }

    /// The own region's member first.
    fn endpoints(&self, from: &str) -> Vec<String> {
        let mut found: Vec<(bool, String)> = self
            .stores
            .iter()
            .map(|(id, spec)| {
                let name = self.host_name(id.region.as_str(), &spec.server);
                (id.region != *from, format!("https://{name}:{}", port::ETCD_CLIENT))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, url)| url).collect()
    }

    /// Every node of every self-run database, in the order of their places.
    fn nodes(&self) -> Result<Vec<Node>, ProviderError> {
        let places: BTreeSet<String> = self
            .databases
            .iter()
            .map(|(it, spec)| format!("{}/{}", it.region, spec.server))
            .collect();
        nodes::read(&places.into_iter().collect::<Vec<_>>())
    }

    fn way_to_databases(&self, parts: &mut Parts, region: &str, name: &str, nodes: &[Node]) {
        let behind = nodes.iter().map(|node| {
            let address = self.host_name(&node.region, &node.server);
            load_balancer::behind(node, address)
        });
        let hold = Path::new(HAPROXY_CONFIG).with_file_name(HOLD);
        let input = HaproxyInput {
            workspace: self.workspace.to_string(),
            region: region.to_owned(),
            name: name.to_owned(),
            admin_socket: HAPROXY_SOCKET.into(),
            source: None,
            max_connections: MAX_CONNECTIONS,
            threads: THREADS,
            drain: DRAINS_WITHIN,
            app: None,
            database: load_balancer::database_side(LOOPBACK, hold.clone(), behind.collect()),
        };
        parts.file(hold.display().to_string(), haproxy::HOLD);
        // A comment of the template has this character, and in a cloud-config only plain ones can be read.
        parts.file(HAPROXY_CONFIG, haproxy::render(&input).replace('×', "x"));
        parts.unit(units::HAPROXY_UNIT, units::haproxy());
    }

    fn application(
        &self,
        parts: &mut Parts,
        region: &str,
        name: &str,
        nodes: &[Node],
        needs: &[Brought],
        has_own: bool,
    ) -> Result<(), UserDataError> {
        let config = AppConfig {
            region: region.to_owned(),
            server: name.to_owned(),
            listen: format!("{}:{}", self.host_name(region, name), port::APP),
            write: format!("{LOOPBACK}:{}", port::WRITE),
            read: format!("{LOOPBACK}:{}", port::READ),
            ca: CA.into(),
            user: server::APP_USER.into(),
            database: server::APP_DATABASE.into(),
            password_file: APP_PASSWORD.into(),
            databases: nodes.iter().map(|it| (it.name.clone(), it.region.clone())).collect(),
        };
        let mut env = String::new();
        for (key, value) in server::environment(&config, Path::new(APP_PGPASS)) {
            // Writing to a `String` cannot fail.
            let _ = writeln!(env, "{key}={value}");
        }
        parts.file(APP_ENV, env);
        if !has_own {
            parts.file(APP_CONFIG, json(&config)?);
            let mut needs = paths(needs, |it| [HOSTS, CA, APP_PASSWORD].contains(&it));
            needs.push(Path::new(GUARD_PROGRAM));
            parts.unit(units::APP_UNIT, units::app(&needs));
        }
        Ok(())
    }

    /// Users, folders, names, and the one thing to start.
    fn common(&self, parts: &mut Parts, leads: bool) {
        let mut users = format!("u {USER} - \"ha: guard, database, store, balancer\" /var/lib/ha\n");
        let mut folders = format!(
            "d /etc/ha 0755 root root\nd {} 0755 root root\nd {} 0700 {USER} {USER}\n\
             d /var/lib/ha 0700 {USER} {USER}\nd /var/log/ha 0750 {USER} {USER}\n",
            systemd::TLS,
            systemd::SECRETS
        );
        if leads {
            let _ = writeln!(users, "u {APP_USER} - \"ha: the application\"");
            let _ = writeln!(folders, "d /etc/ha/app 0750 root {APP_USER}");
        }
        parts.file("/etc/sysusers.d/ha.conf", users);
        parts.file("/etc/tmpfiles.d/ha.conf", folders);
        parts.script(HOSTS_SCRIPT, scripts::hosts());
        let waiting = parts.units.clone();
        parts.unit(units::HOSTS_UNIT, units::hosts(&waiting));
        let target = units::target(&parts.units);
        parts.unit(units::TARGET, target);
    }

    fn written(&self, id: &ResourceId, roles: &[ServerRole], needs: &[Brought], parts: &Parts) -> String {
        let mut out = format!(
            "#cloud-config\n# {} in {}, workspace {}: {}.\n# Rendered by ha from workspace.ncl; it acts once, when the server is made.\n\
             # Nothing in here is secret. What comes over SSH, and is waited for:\n",
            id.name,
            id.region,
            self.workspace,
            roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", "),
        );
        for file in needs {
            let _ = writeln!(out, "#   {:<28} {:<6} {:04o}", file.path, file.owner, file.mode);
        }
        let _ = writeln!(out, "# Then: systemctl start {}", units::TARGET);
        // Names of ours stand in /etc/hosts, which some providers' images would write anew at each boot.
        out += "manage_etc_hosts: false\n";
        if !parts.masked.is_empty() {
            let mut command = vec!["cloud-init-per", "once", "ha-mask", "systemctl", "mask"];
            command.extend(&parts.masked);
            let _ = writeln!(out, "bootcmd:\n- {}", yaml::list(&command));
        }
        if !parts.packages.is_empty() {
            out += "package_update: true\npackages:\n";
            for package in &parts.packages {
                let _ = writeln!(out, "- {package}");
            }
        }
        out += "write_files:\n";
        for file in &parts.files {
            let _ = writeln!(out, "- path: {}", file.path);
            if file.runs {
                out += "  permissions: \"0755\"\n";
            }
            match &file.packed {
                None => out += &format!("  content:{}", yaml::block(&file.text, 4)),
                Some(packed) => {
                    let _ = writeln!(out, "  encoding: gz+b64\n  content: \"{packed}\"");
                }
            }
        }
        let _ = writeln!(out, "runcmd:\n- {}", yaml::list(&[FIRST_BOOT]));
        out
    }
}

impl ServerRole {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Database => "database",
            Self::Store => "store",
        }
    }
}

fn paths<'a>(needs: &[Brought], wanted: impl Fn(&str) -> bool) -> Vec<&'a Path> {
    let kept = needs.iter().map(|it| it.path).filter(|path| wanted(path));
    kept.map(Path::new).collect()
}

/// The same text gives the same bytes: no time and no name is in them.
fn packed(text: &str) -> io::Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish().map(aws_smithy_types::base64::encode)
}

/// In plain characters, so that it reads well inside a cloud-config.
pub(super) fn json(value: &impl Serialize) -> Result<String, ProviderError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| ProviderError::Other {
        what: format!("cannot be written as JSON: {error}"),
    })?;
    let mut out = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\n' | ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('\n');
    Ok(out)
}
