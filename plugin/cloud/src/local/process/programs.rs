//! The real programs: where they are, and which package brings them when they are not there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::ProviderError;

/// Debian keeps each major version of PostgreSQL apart, outside of `PATH`.
const POSTGRES: &str = "/usr/lib/postgresql";
/// `pg_promote`, `max_slot_wal_keep_size` and others are taken for granted.
const OLDEST_POSTGRES: u32 = 13;
/// Not in the `PATH` of ordinary users on Debian, and haproxy is there.
const SBIN: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// # Errors
/// `NotInstalled` names the package.
pub(crate) fn haproxy(path: &str) -> Result<PathBuf, ProviderError> {
    find(path, "haproxy", "haproxy")
}

/// # Errors
/// `NotInstalled` names the package.
pub(crate) fn etcd(path: &str) -> Result<PathBuf, ProviderError> {
    find(path, "etcd", "etcd-server")
}

/// # Errors
/// `NotInstalled` names the package.
pub(crate) fn setsid(path: &str) -> Result<PathBuf, ProviderError> {
    find(path, "setsid", "util-linux")
}

/// The folder with `initdb`, `postgres` and `pg_basebackup`: of the wanted major version if that is there, otherwise
/// of the newest.
///
/// # Errors
/// `NotInstalled` when there is none of version 13 or later.
pub(crate) fn postgres(path: &str, wanted: Option<u32>) -> Result<PathBuf, ProviderError> {
    let packaged = fs::read_dir(POSTGRES)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let found = std::env::split_paths(path)
        .chain(packaged)
        .filter(|folder| {
            ["initdb", "postgres", "pg_basebackup"]
                .iter()
                .all(|it| folder.join(it).is_file())
        })
        .filter_map(|folder| Some((major_of(&folder)?, folder)))
        .filter(|(major, _)| *major >= OLDEST_POSTGRES);
    let best = found.max_by_key(|(major, _)| (Some(*major) == wanted, *major));
    best.map(|(_, folder)| folder)
        .ok_or_else(|| ProviderError::NotInstalled {
            program: format!("PostgreSQL {OLDEST_POSTGRES} or later"),
            package: "postgresql".into(),
        })
}

/// From the folder's name where Debian says it there, otherwise by asking: `postgres (PostgreSQL) 15.14`.
fn major_of(folder: &Path) -> Option<u32> {
    if let Some(version) = folder.strip_prefix(POSTGRES).ok().and_then(|rest| rest.iter().next()) {
        return version.to_str()?.parse().ok();
    }
    let out = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let number = text
        .split_ascii_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn find(path: &str, program: &str, package: &str) -> Result<PathBuf, ProviderError> {
    std::env::split_paths(path)
        .chain(SBIN.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| ProviderError::NotInstalled {
            program: program.into(),
            package: package.into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_names_its_package() {
        let error = find("/nowhere", "etcd-of-another-world", "etcd-server").expect_err("missing");
        assert!(
            error
                .help()
                .is_some_and(|help| help.contains("apt-get install etcd-server"))
        );
    }
}
