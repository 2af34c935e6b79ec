//! Where the local target puts things, decided once from what the caller's shell says.

use std::path::{Path, PathBuf};

use ha_core::names::WorkspaceName;
use nix::unistd::Uid;

use crate::ProviderError;
use crate::local::state::{
    layout::EVENTS,
    user::{self, RunAs},
    workspace::is_plain,
};

/// `CommonName` of the workspace's authority holds 64 characters, some of them ours.
const LONGEST_WORKSPACE: usize = 50;

/// All that the local provider must be told; it reads no environment of its own (the plugin's is frozen at its start).
#[derive(Clone, Debug)]
pub struct LocalOptions {
    pub workspace: WorkspaceName,
    /// `workspace.ncl`: another file may not take over a workspace of the same name.
    pub source: PathBuf,
    /// Holds a folder per workspace.
    pub state_root: PathBuf,
    /// Holds a folder per workspace's octet; short, since a socket's path has at most 107 bytes.
    pub runtime_root: PathBuf,
    /// `ha-guard`; a copy of it runs, so that the original may change or be unreadable for the database's user.
    pub guard_binary: PathBuf,
    /// The user of all processes when root asks; none otherwise.
    pub run_as: Option<RunAs>,
    /// `PATH` of the caller, for finding programs.
    pub path: String,
}

impl LocalOptions {
    /// Reads `HA_STATE_HOME`, `HA_RUNTIME_DIR`, `HA_GUARD`, `XDG_STATE_HOME`, `XDG_RUNTIME_DIR`, `HOME` and `PATH`
    /// through `env`.
    ///
    /// # Errors
    /// `NotInstalled` when root asks on a system without user `postgres`, or `ha-guard` is neither named by
    /// `HA_GUARD` nor beside the running program; `Refused` when there is no home to keep state in.
    pub fn from_env(
        workspace: WorkspaceName,
        source: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ProviderError> {
        let env = |key: &str| env(key).filter(|value| !value.is_empty());
        let run_as = user::detect()?;
        let uid = Uid::effective();
        check_name(workspace.as_str())?;
        let state_root = match (env("HA_STATE_HOME"), uid.is_root(), env("XDG_STATE_HOME"), env("HOME")) {
            (Some(root), ..) => PathBuf::from(root),
            (None, true, ..) => PathBuf::from("/var/lib/ha"),
            (None, false, Some(state), _) => Path::new(&state).join("ha"),
            (None, false, None, Some(home)) => Path::new(&home).join(".local/state/ha"),
            (None, false, None, None) => {
                return Err(ProviderError::Refused {
                    what: "there is no folder to keep the state of the local target in".into(),
                    help: "set HOME, or HA_STATE_HOME to a folder of yours".into(),
                });
            }
        };
        let runtime_root = match (env("HA_RUNTIME_DIR"), uid.is_root(), env("XDG_RUNTIME_DIR")) {
            (Some(root), ..) => PathBuf::from(root),
            (None, true, _) => PathBuf::from("/run/ha"),
            (None, false, Some(runtime)) => Path::new(&runtime).join("ha"),
            (None, false, None) => PathBuf::from(format!("/tmp/ha-{uid}")),
        };
        Ok(Self {
            workspace,
            source: std::path::absolute(source).unwrap_or_else(|_| source.to_owned()),
            state_root: resolved(&absolute(state_root)?),
            runtime_root: absolute(runtime_root)?,
            guard_binary: match env("HA_GUARD") {
                Some(path) => path.into(),
                None => guard_beside_us()?,
            },
            run_as,
            path: env("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        })
    }
}

/// Processes have other working folders than the shell, so a relative path would mean something else to them.
fn absolute(path: PathBuf) -> Result<PathBuf, ProviderError> {
    if path.is_absolute() {
        return Ok(path);
    }
    Err(ProviderError::Refused {
        what: format!("{} is a relative path", path.display()),
        help: "set HA_STATE_HOME and HA_RUNTIME_DIR to absolute paths".into(),
    })
}

/// # Errors
/// `Refused` for what a folder, a certificate or the folder of events could not be named after.
fn check_name(name: &str) -> Result<(), ProviderError> {
    if is_plain(name) && name.len() <= LONGEST_WORKSPACE && name != EVENTS {
        return Ok(());
    }
    Err(ProviderError::Refused {
        what: format!("{name:?} cannot be the name of a workspace: a folder is named after it"),
        help: format!(
            "use up to {LONGEST_WORKSPACE} letters, digits and dashes in the workspace field of workspace.ncl, and not \
             {EVENTS}"
        ),
    })
}

/// The same folder without symbolic links, as the kernel names it to whoever asks where a process works; what does
/// not exist yet has none.
fn resolved(path: &Path) -> PathBuf {
    let there = path
        .ancestors()
        .find_map(|above| Some((above, above.canonicalize().ok()?)));
    match there {
        Some((above, real)) => path.strip_prefix(above).map_or(real.clone(), |rest| {
            if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            }
        }),
        None => path.to_owned(),
    }
}

fn guard_beside_us() -> Result<PathBuf, ProviderError> {
    let here = std::env::current_exe().map_err(|source| ProviderError::Io {
        what: "cannot find the running program".into(),
        source,
    })?;
    let beside = here.with_file_name("ha-guard");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(ProviderError::Refused {
        what: format!("ha-guard is not beside the plugin: {} does not exist", beside.display()),
        help: "build it: cargo build -p ha-guard; or set HA_GUARD to where it is".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, pairs: &[(&str, &str)]) -> Result<LocalOptions, ProviderError> {
        LocalOptions::from_env(WorkspaceName::new(name), Path::new("/shop/workspace.ncl"), |key| {
            let found = pairs.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_the_environment_names_wins() {
        let set = [
            ("HA_STATE_HOME", "/s"),
            ("HA_RUNTIME_DIR", "/r"),
            ("HA_GUARD", "/g/ha-guard"),
        ];
        let options = options("shop", &set).expect("options");
        assert_eq!(options.state_root, Path::new("/s"));
        assert_eq!(options.runtime_root, Path::new("/r"));
        assert_eq!(options.guard_binary, Path::new("/g/ha-guard"));
    }

    #[test]
    fn a_name_that_leaves_the_folder_and_a_relative_root_are_refused() {
        let set = [("HA_STATE_HOME", "s"), ("HA_RUNTIME_DIR", "/r"), ("HA_GUARD", "/g")];
        assert!(options("shop", &set).is_err());
        let set = [("HA_STATE_HOME", "/s"), ("HA_RUNTIME_DIR", "/r"), ("HA_GUARD", "/g")];
        assert!(options("shop-2", &set).is_ok());
        // The last one is the folder that remembers what was done to all workspaces.
        for bad in ["../etc", "", ".shop", "a b", "a\nb", &"a".repeat(51), "events"] {
            assert!(options(bad, &set).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_state_folder_behind_a_link_is_named_as_the_kernel_does() {
        let dir = tempfile::tempdir().expect("temp");
        let real = dir.path().canonicalize().expect("real").join("real");
        std::fs::create_dir(&real).expect("folder");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        assert_eq!(resolved(&link), real);
        assert_eq!(resolved(&link.join("ha/deep")), real.join("ha/deep"));
    }
}
