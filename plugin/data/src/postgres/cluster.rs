//! A data folder: what it holds, making a new one, its configuration.
//!
//! A folder under its own name is complete. Whatever is being made has another name until it is, so that nothing
//! needs to be guessed after a crash.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use ha_core::{agent::PostgresConfig, agreement::FENCED_NAMES};

use super::{ADMIN_USER, beside, control::control, follow, process, program, seal, settings, timeline};
use crate::DataError;

/// What stands where the data should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    Absent,
    Present {
        system_identifier: String,
        /// It will start as a replica.
        standby: bool,
    },
    /// A rewind of it began and did not end, or it was disowned. Never to be started; [`set_aside`] makes way for a
    /// copy.
    Ruined,
}

/// What the data folder holds. An error when it holds something else, or is of another major version than the
/// programs: nothing may be started or made there then.
pub async fn data_dir(config: &PostgresConfig) -> Result<DataDir, DataError> {
    let dir = &config.data_dir;
    // Before anything in it is believed.
    if ruined(config)?.is_some() {
        return Ok(DataDir::Ruined);
    }
    let found = match fs::read_to_string(dir.join("PG_VERSION")) {
        Ok(version) => version.trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
                Ok(true) => Ok(DataDir::Absent),
                Ok(false) => Err(DataError::BadFile {
                    path: dir.clone(),
                    reason: "is not empty and holds no database; move it away".to_owned(),
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(DataDir::Absent),
                Err(error) => Err(DataError::file(dir)(error)),
            };
        }
        Err(error) => return Err(DataError::file(dir)(error)),
    };
    let installed = installed_version(config).await?;
    if installed != found {
        let program = config.bin_dir.join("postgres");
        return Err(DataError::OtherVersion {
            path: dir.clone(),
            found,
            program,
            installed,
        });
    }
    Ok(DataDir::Present {
        system_identifier: control(config).await?.system_identifier,
        standby: dir.join("standby.signal").exists(),
    })
}

/// Says why the folder beside it must not be started. Beside, not in it: a rewind removes what it does not know.
fn mark(config: &PostgresConfig) -> PathBuf {
    beside(&config.data_dir, ".rewinding")
}

/// Why the folder must not be started. A mark without a folder is about one that was moved away.
pub(super) fn ruined(config: &PostgresConfig) -> Result<Option<String>, DataError> {
    let path = mark(config);
    match fs::read_to_string(&path) {
        Ok(why) => Ok(config.data_dir.exists().then_some(why)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataError::file(path)(error)),
    }
}

/// The folder is [`DataDir::Ruined`] from now on, also after a power cut.
pub(super) fn ruin(config: &PostgresConfig, why: &str) -> Result<(), DataError> {
    follow::write_private(&mark(config), why)?;
    sync_beside(config)
}

/// The folder may be started again.
pub(super) fn mend(config: &PostgresConfig) -> Result<(), DataError> {
    process::remove(&mark(config))?;
    sync_beside(config)
}

fn sync_beside(config: &PostgresConfig) -> Result<(), DataError> {
    timeline::sync(config.data_dir.parent().unwrap_or(&config.data_dir))
}

/// The stopped folder is [`DataDir::Ruined`] from now on: it was made primary without being chosen, so that its
/// timeline may have the number of another one, and `pg_rewind` would see no difference. Repeating it is harmless.
pub fn disown(config: &PostgresConfig) -> Result<(), DataError> {
    if process::adopt(config)?.is_some() {
        let path = config.data_dir.clone();
        return Err(DataError::Running { path });
    }
    ruin(config, "it was made primary without being chosen")
}

/// `15`
async fn installed_version(config: &PostgresConfig) -> Result<String, DataError> {
    let printed = program::run(config, "postgres", &["--version".to_owned()], &config.data_dir).await?;
    // postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)
    let number = printed.split_whitespace().nth(2).unwrap_or_default();
    Ok(number.split(['.', 'b', 'r']).next().unwrap_or_default().to_owned())
}

/// A new, empty cluster with one superuser; a folder that holds one is never touched.
///
/// Dying half-way leaves nothing under the folder's name; the next call begins anew.
pub async fn init(config: &PostgresConfig, node: &str) -> Result<(), DataError> {
    let new = begin(config).await?;
    let args = [
        format!("--pgdata={}", new.display()),
        format!("--username={ADMIN_USER}"),
        format!("--pwfile={}", config.admin_password_file.display()),
        "--data-checksums".to_owned(),
        // The only one that sorts alike on all systems; C libraries differ between images.
        "--locale=C".to_owned(),
        "--encoding=UTF8".to_owned(),
        "--auth-local=scram-sha-256".to_owned(),
        "--auth-host=scram-sha-256".to_owned(),
        "--no-instructions".to_owned(),
    ];
    let made = async {
        program::run(config, "initdb", &args, &new).await?;
        write_config_in(config, node, &new)?;
        // Nothing is acknowledged before somebody says to whom.
        seal::write_auto_conf(&new, FENCED_NAMES)?;
        finish(config, &new)
    };
    or_clear(config, made.await).await
}

/// The folder's `postgresql.conf` and `pg_hba.conf` say what `config` says. Whom it follows and whom its commits wait
/// for is not in there.
pub fn write_config(config: &PostgresConfig, node: &str) -> Result<(), DataError> {
    write_config_in(config, node, &config.data_dir)
}

pub(super) fn write_config_in(config: &PostgresConfig, node: &str, dir: &Path) -> Result<(), DataError> {
    follow::write_private(&dir.join("postgresql.conf"), &settings::postgresql_conf(config, node)?)?;
    follow::write_private(&dir.join("pg_hba.conf"), &settings::pg_hba_conf(config)?)
}

/// A fresh name for something in the making; remains of earlier attempts are gone.
pub(super) async fn begin(config: &PostgresConfig) -> Result<PathBuf, DataError> {
    let dir = &config.data_dir;
    if dir.join("PG_VERSION").exists() {
        return Err(DataError::BadFile {
            path: dir.clone(),
            reason: "holds a database already".to_owned(),
        });
    }
    private_dir(dir.parent().unwrap_or(dir))?;
    clear_partial(config).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(beside(dir, &format!(".partial-{}", now.as_nanos())))
}

/// What was made now has its name, also after a power cut.
pub(super) fn finish(config: &PostgresConfig, new: &Path) -> Result<(), DataError> {
    let dir = &config.data_dir;
    // The mark was about a folder that had this name before.
    mend(config)?;
    let renamed = (|| {
        fs::rename(new, dir)?;
        fs::File::open(dir.parent().unwrap_or(dir))?.sync_all()
    })();
    renamed.map_err(DataError::file(dir))
}

/// What failed leaves no data behind: after a full disk nothing else could be done on it. The first error is told.
pub(super) async fn or_clear<T>(config: &PostgresConfig, made: Result<T, DataError>) -> Result<T, DataError> {
    if made.is_err()
        && let Err(error) = clear_partial(config).await
    {
        tracing::warn!(%error, "cannot remove what was left half-made");
    }
    made
}

/// No half-made data folder is left, nor a program of a guard that was killed which still makes one: it would hold
/// on to the slot that the next copy needs.
pub async fn clear_partial(config: &PostgresConfig) -> Result<(), DataError> {
    let dir = &config.data_dir;
    let (Some(parent), Some(prefix)) = (
        dir.parent(),
        beside(dir, ".partial-").file_name().map(|it| it.to_owned()),
    ) else {
        return Ok(());
    };
    let killed = process::end_makers(&beside(dir, ".partial-")).await?;
    if killed > 0 {
        tracing::warn!(killed, "programs of an earlier guard were still making a data folder");
    }
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(DataError::file(parent)(error)),
    };
    for entry in entries.flatten() {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes())
        {
            continue;
        }
        remove_tree(&entry.path()).await?;
    }
    Ok(())
}

/// Gone afterwards, also when it was not there.
async fn remove_tree(path: &Path) -> Result<(), DataError> {
    let mut tries = 0;
    while let Err(error) = tokio::fs::remove_dir_all(path).await {
        tries += 1;
        match error.kind() {
            io::ErrorKind::NotFound => break,
            // A file appeared between listing and removing.
            io::ErrorKind::DirectoryNotEmpty if tries < 100 => {}
            _ => return Err(DataError::file(path)(error)),
        }
    }
    Ok(())
}

/// Where the data of a replica is kept that has to be copied anew, until the copy is there.
fn outdated(config: &PostgresConfig) -> PathBuf {
    beside(&config.data_dir, ".outdated")
}

/// The data folder has made way for a new copy; what it held is kept beside it. The server must have ended.
pub async fn set_aside(config: &PostgresConfig) -> Result<(), DataError> {
    let dir = &config.data_dir;
    clear_outdated(config).await?;
    let moved = (|| {
        fs::rename(dir, outdated(config))?;
        fs::File::open(dir.parent().unwrap_or(dir))?.sync_all()
    })();
    moved.map_err(DataError::file(dir))?;
    mend(config)
}

/// What [`set_aside`] kept is gone. For when the data folder is complete again.
pub async fn clear_outdated(config: &PostgresConfig) -> Result<(), DataError> {
    remove_tree(&outdated(config)).await
}

/// The folder exists; made with mode 0700 if it did not.
pub(super) fn private_dir(dir: &Path) -> Result<(), DataError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(DataError::file(dir))
}

/// A log larger than this is put aside, in place of the last such.
const LARGE: u64 = 32 << 20;

/// The log, opened to be added to.
pub(super) fn open_log(path: &Path) -> Result<fs::File, DataError> {
    if let Some(parent) = path.parent() {
        private_dir(parent)?;
    }
    if fs::metadata(path).is_ok_and(|it| it.len() > LARGE) {
        fs::rename(path, beside(path, ".1")).map_err(DataError::file(path))?;
    }
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(DataError::file(path))
}

/// A log that a running server adds to is no larger than it may be: a replica without its primary complains twice a
/// second, for days. The server goes on at the file's new end; lines it writes in this moment may be lost.
pub fn bound_log(config: &PostgresConfig) -> Result<(), DataError> {
    let path = &config.log_file;
    if !fs::metadata(path).is_ok_and(|it| it.len() > LARGE) {
        return Ok(());
    }
    let shortened = (|| {
        fs::copy(path, beside(path, ".1"))?;
        fs::OpenOptions::new().write(true).open(path)?.set_len(0)
    })();
    shortened.map_err(DataError::file(path))
}
