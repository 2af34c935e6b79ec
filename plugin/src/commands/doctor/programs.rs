//! The programs that are started, and what they say of their version.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use super::{NU, Row, minor};
use crate::context::Places;

/// The oldest PostgreSQL whose replication functions are used.
const POSTGRES_MAJOR: u32 = 13;

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

/// A row for each, and one for the guard that comes with this plugin.
pub(super) async fn rows(places: &Places) -> Vec<Row> {
    let also = folders();
    let asked = PROGRAMS.iter().map(|program| {
        let path = places.program(program.name, &also);
        async move {
            let row = Row::new(program.name, program.needed_for);
            match path {
                None => row.missing(format!(
                    "./scripts/start.sh installs it, or: apt-get install {}",
                    program.package
                )),
                Some(path) => found(program, row, path).await,
            }
        }
    });
    let (mut rows, guard, nu) = tokio::join!(futures::future::join_all(asked), guard(places), on_path(places));
    rows.extend([guard, nu]);
    rows
}

async fn found(program: &Program, row: Row, path: PathBuf) -> Row {
    let version = first_version(&path, program.version_flag).await;
    // It holds who comes to write between two primaries.
    let without_lua = program.name == "haproxy" && version.is_ok() && !has_lua(&path).await;
    let row = Row {
        version: version.as_ref().ok().cloned(),
        path: Some(path),
        ..row
    };
    let major = |version: &str| version.split('.').next().and_then(|it| it.parse().ok());
    match version {
        Ok(version) if program.name == "postgres" && major(&version) < Some(POSTGRES_MAJOR) => row.wrong(format!(
            "PostgreSQL {POSTGRES_MAJOR} or newer is needed: apt-get install {}",
            program.package
        )),
        Ok(_) if without_lua => row.wrong(format!(
            "it was built without Lua; Debian's has it: apt-get install {}",
            program.package
        )),
        Ok(_) => row,
        Err(why) => row.wrong(format!("it does not start: {why}")),
    }
}

/// In the list of what it was built with: `+LUA`, and `-LUA` without.
async fn has_lua(haproxy: &Path) -> bool {
    said(haproxy, "-vv")
        .await
        .is_ok_and(|text| text.split_whitespace().any(|word| word == "+LUA"))
}

/// Built together with the plugin; each reads what the other writes.
async fn guard(places: &Places) -> Row {
    let row = Row::new("ha-guard", "everything that runs");
    let path = match places.guard() {
        Ok(path) => path,
        Err(failed) => return row.missing(failed.help().unwrap_or_default()),
    };
    let version = first_version(&path, "--version").await;
    let row = Row {
        version: version.as_ref().ok().cloned(),
        path: Some(path),
        ..row
    };
    let own = env!("CARGO_PKG_VERSION");
    match version {
        Ok(version) if version != own => row.wrong(format!(
            "it is not of this plugin's version, {own}: cargo build -p ha-guard -p nu_plugin_ha"
        )),
        Ok(_) => row,
        Err(why) => row.wrong(format!("it does not start: {why}")),
    }
}

/// The `nu` that typing `nu` starts, which may be another than the one that asks.
async fn on_path(places: &Places) -> Row {
    let row = Row::new("nu on PATH", "typing nu; ./scripts/nu.sh does without");
    let Some(path) = places.program("nu", &[]) else {
        return row.missing("start the right one with ./scripts/nu.sh, or put it on PATH".into());
    };
    let version = first_version(&path, "--version").await;
    let row = Row {
        version: version.as_ref().ok().cloned(),
        path: Some(path),
        ..row
    };
    match version {
        Ok(version) if minor(&version) == minor(NU) => row,
        Ok(_) => row.wrong(format!(
            "it cannot load this plugin, which speaks to {NU}: ./scripts/nu.sh starts the right one"
        )),
        Err(why) => row.wrong(format!("it does not start: {why}")),
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
async fn first_version(program: &Path, flag: &str) -> Result<String, String> {
    version_in(&said(program, flag).await?).ok_or_else(|| "it does not say its version".to_owned())
}

async fn said(program: &Path, flag: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(flag).kill_on_drop(true);
    let said = tokio::time::timeout(Duration::from_secs(2), command.output());
    let said = said
        .await
        .map_err(|_| "no answer within 2 s".to_owned())?
        .map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

fn version_in(text: &str) -> Option<String> {
    let word = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '+'));
    Some(word[..end.unwrap_or(word.len())].to_owned())
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
}
