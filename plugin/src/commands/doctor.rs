use std::{path::PathBuf, time::Duration};

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Example, IntoValue, LabeledError, PipelineData, Signature, Type, Value};
use tokio::process::Command;

use crate::{
    HaPlugin,
    context::{Context, Places},
    error::Failed,
    nu::{At, Wanted, args, table},
};

/// The shell that this plugin was built for; patch versions of it fit, too.
const NU: &str = "0.115.1";

/// The oldest PostgreSQL whose replication functions are used.
const POSTGRES_MAJOR: u32 = 13;

pub(super) struct Doctor;

#[derive(IntoValue)]
struct Row {
    subject: String,
    /// `ok`, `missing`, `wrong`
    status: &'static str,
    version: Option<String>,
    path: Option<PathBuf>,
    needed_for: &'static str,
    help: Option<String>,
}

impl PluginCommand for Doctor {
    type Plugin = HaPlugin;

    fn name(&self) -> &str {
        "ha doctor"
    }

    fn signature(&self) -> Signature {
        args::signature(self.name()).input_output_type(Type::Nothing, Type::table())
    }

    fn description(&self) -> &str {
        "Look at this machine: programs, versions, and what to install"
    }

    fn search_terms(&self) -> Vec<&str> {
        vec!["install", "requirements", "versions", "environment"]
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![Example {
            example: "ha doctor | where status != ok",
            description: "What is missing, and how to get it",
            result: None,
        }]
    }

    fn run(
        &self,
        plugin: &HaPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let places = Places::ask(engine)?;
        let runtime = plugin.runtime().at(call.head)?;
        let wanted = Wanted::new(engine, runtime)?;
        let shell = engine.get_env_var("NU_VERSION")?;
        let programs = wanted
            .block_on(runtime, async { Ok::<_, Failed>(programs(&places).await) })
            .at(call.head)?;
        let mut rows = vec![nushell(shell), this_plugin()];
        rows.extend(programs);
        rows.push(workspace(plugin, engine, call));
        Ok(table(rows, &["subject", "status", "help"], call.head))
    }
}

fn nushell(version: Option<Value>) -> Row {
    let version = version.and_then(|it| it.into_string().ok());
    let fits = version.as_deref().is_some_and(|it| minor(it) == minor(NU));
    Row {
        subject: "nu".into(),
        status: if fits { "ok" } else { "wrong" },
        help: (!fits)
            .then(|| format!("install Nushell {NU}, or a plugin built for the one you have: ./scripts/start.sh")),
        version,
        path: None,
        needed_for: "everything",
    }
}

fn this_plugin() -> Row {
    Row {
        subject: "nu_plugin_ha".into(),
        status: "ok",
        version: Some(env!("CARGO_PKG_VERSION").into()),
        path: std::env::current_exe().ok(),
        needed_for: "everything",
        help: None,
    }
}

/// `0.115` of `0.115.1`: another one speaks another protocol.
fn minor(version: &str) -> &str {
    version
        .match_indices('.')
        .nth(1)
        .map_or(version, |(end, _)| &version[..end])
}

/// One program that is asked for its version.
struct Program {
    name: &'static str,
    version_flag: &'static str,
    package: &'static str,
    needed_for: &'static str,
}

const PROGRAMS: [Program; 3] = [
    Program {
        name: "postgres",
        version_flag: "--version",
        package: "postgresql",
        needed_for: "databases",
    },
    Program {
        name: "etcd",
        version_flag: "--version",
        package: "etcd-server",
        needed_for: "the store",
    },
    Program {
        name: "haproxy",
        version_flag: "-v",
        package: "haproxy",
        needed_for: "load balancers",
    },
];

async fn programs(places: &Places) -> Vec<Row> {
    let also = folders();
    let asked = PROGRAMS.iter().map(|program| {
        let path = places.program(program.name, &also);
        async move {
            match path {
                None => Row {
                    subject: program.name.into(),
                    status: "missing",
                    version: None,
                    path: None,
                    needed_for: program.needed_for,
                    help: Some(format!(
                        "./scripts/start.sh installs it, or: apt-get install {}",
                        program.package
                    )),
                },
                Some(path) => found(program, path).await,
            }
        }
    });
    let mut rows = futures::future::join_all(asked).await;
    rows.push(match places.guard() {
        Ok(path) => Row {
            subject: "ha-guard".into(),
            status: "ok",
            version: first_version(&path, "--version").await.ok(),
            path: Some(path),
            needed_for: "everything that runs",
            help: None,
        },
        Err(failed) => Row {
            subject: "ha-guard".into(),
            status: "missing",
            version: None,
            path: None,
            needed_for: "everything that runs",
            help: failed.help(),
        },
    });
    rows
}

async fn found(program: &Program, path: PathBuf) -> Row {
    let version = first_version(&path, program.version_flag).await;
    let old = program.name == "postgres"
        && version
            .as_ref()
            .is_ok_and(|it| it.split('.').next().and_then(|it| it.parse().ok()) < Some(POSTGRES_MAJOR));
    let help = match &version {
        Ok(_) if old => Some(format!(
            "PostgreSQL {POSTGRES_MAJOR} or newer is needed: apt-get install postgresql"
        )),
        Ok(_) => None,
        Err(why) => Some(format!("it does not start: {why}")),
    };
    Row {
        subject: program.name.into(),
        status: if help.is_none() { "ok" } else { "wrong" },
        version: version.ok(),
        path: Some(path),
        needed_for: program.needed_for,
        help,
    }
}

/// Where Debian puts programs that are not on the PATH of an ordinary user.
fn folders() -> Vec<PathBuf> {
    let mut of_postgres: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    of_postgres.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let mut folders: Vec<PathBuf> = of_postgres.into_iter().map(|(_, folder)| folder).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders
}

/// The first word that begins with a digit in what the program says of itself.
async fn first_version(program: &PathBuf, flag: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(flag).kill_on_drop(true);
    let said = tokio::time::timeout(Duration::from_secs(2), command.output());
    let said = said
        .await
        .map_err(|_| "no answer within 2 s".to_owned())?
        .map_err(|error| error.to_string())?;
    version_in(&String::from_utf8_lossy(&said.stdout)).ok_or_else(|| "it does not say its version".to_owned())
}

fn version_in(text: &str) -> Option<String> {
    let word = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '+'));
    Some(word[..end.unwrap_or(word.len())].to_owned())
}

/// The workspace around, when there is one: whether it can be read, and where its state is.
fn workspace(plugin: &HaPlugin, engine: &EngineInterface, call: &EvaluatedCall) -> Row {
    let row = |status, path, help| Row {
        subject: "workspace".into(),
        status,
        version: None,
        path,
        needed_for: "everything of it",
        help,
    };
    let context = match Context::open(plugin, engine, call) {
        Ok(context) => context,
        Err(error) => return row("missing", None, error.help.or(Some(error.msg))),
    };
    let file = Some(context.file.clone());
    match context.workspace().and_then(|it| context.provider(it).at(call.head)) {
        Ok(_) => row("ok", file, None),
        Err(error) => row("wrong", file, Some(error.msg)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(
            version_in("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)").as_deref(),
            Some("15.14")
        );
        assert_eq!(
            version_in("etcd Version: 3.4.23\nGit SHA: Not").as_deref(),
            Some("3.4.23")
        );
        assert_eq!(
            version_in("HAProxy version 2.6.12-1+deb12u3 2025/10/03 -").as_deref(),
            Some("2.6.12-1+deb12u3")
        );
        assert_eq!(version_in("no version"), None);
    }

    #[test]
    fn a_patch_version_fits_and_another_minor_does_not() {
        assert_eq!(minor("0.115.0"), minor(NU));
        assert_ne!(minor("0.114.2"), minor(NU));
    }
}
