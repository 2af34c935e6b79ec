//! What the caller's environment says. It is asked of the shell each time: this process's own is as old as the process.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nu_plugin::EngineInterface;
use nu_protocol::{ShellError, Value};

use crate::error::Failed;

const VARIABLES: [&str; 9] = [
    crate::log::VARIABLE,
    "HA_STATE_HOME",
    "HA_RUNTIME_DIR",
    "HA_GUARD",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "HOME",
    "USER",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    variables: BTreeMap<&'static str, String>,
    /// This plugin's own binary.
    plugin: PathBuf,
}

impl Places {
    pub(crate) fn ask(engine: &EngineInterface) -> Result<Self, ShellError> {
        let mut places = Self {
            plugin: std::env::current_exe().unwrap_or_default(),
            ..Self::default()
        };
        for name in VARIABLES {
            if let Some(Value::String { val, .. }) = engine.get_env_var(name)?
                && !val.is_empty()
            {
                places.variables.insert(name, val);
            }
        }
        let path = match engine.get_env_var("PATH")? {
            Some(Value::List { vals, .. }) => {
                let folders: Vec<String> = vals.into_iter().filter_map(|it| it.into_string().ok()).collect();
                folders.join(":")
            }
            Some(Value::String { val, .. }) => val,
            _ => String::new(),
        };
        if !path.is_empty() {
            places.variables.insert("PATH", path);
        }
        Ok(places)
    }

    /// As the providers ask for it.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        match self.variables.get(name) {
            Some(value) => Some(value.clone()),
            // Looking needs no guard: a missing one is an error of whatever has to start it.
            None if name == "HA_GUARD" => Some(self.guard_path().display().to_string()),
            None => None,
        }
    }

    /// The folder that the contract library is written to; safe to delete.
    pub(crate) fn cache(&self) -> PathBuf {
        let path = |name| self.variables.get(name).map(PathBuf::from);
        path("XDG_CACHE_HOME")
            .or_else(|| path("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(std::env::temp_dir)
            .join("ha")
    }

    fn guard_path(&self) -> PathBuf {
        match self.variables.get("HA_GUARD") {
            Some(path) => PathBuf::from(path),
            None => self.plugin.with_file_name("ha-guard"),
        }
    }

    /// The guard's binary, which everything that is made needs.
    pub(crate) fn guard(&self) -> Result<PathBuf, Failed> {
        let path = self.guard_path();
        if path.is_file() {
            Ok(path)
        } else {
            Err(Failed::NoGuard(path))
        }
    }

    /// Who types, for the record of acts.
    pub(crate) fn user(&self) -> Option<String> {
        self.variables.get("USER").cloned().or_else(|| {
            // The owner of /proc/self is the user this process runs as.
            let uid = std::fs::metadata("/proc/self").ok()?.uid();
            Some(if uid == 0 { "root".to_owned() } else { uid.to_string() })
        })
    }

    /// Where `program` is on the caller's PATH, or in one of `also`.
    pub(crate) fn program(&self, program: &str, also: &[PathBuf]) -> Option<PathBuf> {
        let path = self.variables.get("PATH").map_or("", String::as_str);
        let folders = path.split(':').filter(|it| !it.is_empty()).map(Path::new);
        folders
            .chain(also.iter().map(PathBuf::as_path))
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&'static str, &str)]) -> Places {
        Places {
            variables: variables
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            plugin: "/opt/nu_plugin_ha".into(),
        }
    }

    #[test]
    fn the_guard_is_beside_the_plugin_unless_the_environment_names_another() {
        let beside = places(&[]);
        assert_eq!(beside.variable("HA_GUARD").as_deref(), Some("/opt/ha-guard"));
        assert!(matches!(beside.guard(), Err(Failed::NoGuard(path)) if path == Path::new("/opt/ha-guard")));
        let named = places(&[("HA_GUARD", "/proc/self/exe")]);
        assert_eq!(named.guard().expect("it is a file"), Path::new("/proc/self/exe"));
    }

    #[test]
    fn the_cache_belongs_to_the_user() {
        assert_eq!(
            places(&[("HOME", "/home/ann")]).cache(),
            Path::new("/home/ann/.cache/ha")
        );
        assert_eq!(
            places(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]).cache(),
            Path::new("/c/ha")
        );
    }
}
