//! Who the processes run as: PostgreSQL refuses root, so root hands everything to one system user.

use nix::unistd::{Uid, User};

use crate::ProviderError;

/// The system user that owns the workspace's folder and runs its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// None for an ordinary user: processes run as whoever types the command.
///
/// # Errors
/// `NotInstalled` when root asks and there is no user `postgres`; Debian's package makes it.
pub(crate) fn detect() -> Result<Option<RunAs>, ProviderError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let user = User::from_name("postgres").map_err(|errno| ProviderError::Io {
        what: "cannot look up the user postgres".into(),
        source: errno.into(),
    })?;
    let user = user.ok_or_else(|| ProviderError::NotInstalled {
        program: "PostgreSQL (its system user postgres, which runs the processes when you are root)".into(),
        package: "postgresql".into(),
    })?;
    Ok(Some(RunAs {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }))
}
