//! `workspace.json`: whose folder this is, and which addresses it gave out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ha_core::resource::{Kind, Resource, ResourceId};
use jiff::Timestamp;
use serde::Deserialize;

use crate::ProviderError;
use crate::local::state::{
    addresses::Octets,
    files::{self, Files, ReadError, read_json},
    hosts::{Addresses, HostKind, WorkspaceFile},
    layout::{Layout, RELAY},
};

/// Grows when an older `ha` could do harm with the folder.
const FORMAT: u32 = 1;

/// The file, read anew each time: another shell may have written it since.
#[derive(Debug)]
pub(crate) struct WorkspaceRecord {
    layout: Layout,
    files: Files,
    source: PathBuf,
    workspace: String,
    octets: Octets,
    /// Regions are made side by side; each gives out addresses.
    writing: Mutex<()>,
    /// Instead of the file on disk, for a preview.
    memory: Option<Mutex<WorkspaceFile>>,
}

impl WorkspaceRecord {
    pub(crate) fn new(layout: &Layout, files: &Files, source: &Path, workspace: &str, octets: Octets) -> Self {
        Self {
            layout: layout.clone(),
            files: files.clone(),
            source: source.to_owned(),
            workspace: workspace.to_owned(),
            octets,
            writing: Mutex::new(()),
            memory: None,
        }
    }

    /// None when the workspace was not provisioned.
    ///
    /// # Errors
    /// `Refused` when the folder is another's, of another format, or damaged.
    pub(crate) fn read(&self) -> Result<Option<WorkspaceFile>, ProviderError> {
        if let Some(memory) = &self.memory {
            return Ok(Some(memory.lock().unwrap_or_else(PoisonError::into_inner).clone()));
        }
        let path = self.layout.workspace_file();
        let folder = self.layout.root.display();
        let refused = |what: String, help: String| Err(ProviderError::Refused { what, help });
        let file: WorkspaceFile = match self.read_any(&path) {
            Ok(Some(file)) => file,
            Ok(None) if self.layout.regions().exists() => {
                return refused(
                    format!("{folder} holds regions and no workspace.json, so nothing says whose they are"),
                    format!("put workspace.json back, or end the processes that run below {folder} and remove it"),
                );
            }
            Ok(None) => return Ok(None),
            Err(ReadError::Unreadable(error)) => {
                return Err(files::failed("cannot read", &path, error));
            }
            Err(error @ ReadError::Damaged(_)) => {
                return refused(
                    format!("{} {error}", path.display()),
                    format!("put it back from a copy, or end the processes that run below {folder} and remove it"),
                );
            }
        };
        if file.workspace != self.workspace {
            return refused(
                format!(
                    "{folder} belongs to workspace {}, not {}",
                    file.workspace, self.workspace
                ),
                "set HA_STATE_HOME to another folder, or give the workspace another name".into(),
            );
        }
        // A checkout that moved is still the same one; two that exist side by side are not.
        if !same_file(&file.source, &self.source) && file.source.exists() {
            let old = file.source.display();
            return refused(
                format!(
                    "workspace {} on this machine was made from {old}, not from {}",
                    self.workspace,
                    self.source.display()
                ),
                format!("give this workspace another name, or remove the other one: ha destroy --workspace {old}"),
            );
        }
        Ok(Some(file))
    }

    fn read_any(&self, path: &Path) -> Result<Option<WorkspaceFile>, ReadError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        match read_json::<Format>(path)? {
            None => Ok(None),
            Some(Format { format: FORMAT }) => read_json(path),
            Some(Format { format }) => Err(ReadError::Damaged(serde::de::Error::custom(format!(
                "it has format {format}, and this ha knows format {FORMAT}; use the ha that made it"
            )))),
        }
    }

    /// Afterwards the workspace has its folder, its octet and these addresses; the same ones each time.
    ///
    /// # Errors
    /// As [`Self::read`]; `NoCapacity` when no address is free.
    pub(crate) fn allocate(&self, region: &str, host: &str, kind: HostKind) -> Result<Addresses, ProviderError> {
        let _writing = self.hold();
        let mut file = match self.read()? {
            Some(file) => file,
            None => self.make()?,
        };
        let moved = file.source != self.source;
        if file.allocate(region, host, kind)? || moved {
            file.source = self.source.clone();
            self.save(&file)?;
        }
        file.address(region, host).ok_or_else(|| ProviderError::Other {
            what: format!("{host} in {region} got no address"),
        })
    }

    /// Afterwards every host that is wanted has its addresses, given out in this order: regions and hosts get the
    /// lowest free ones. Those of hosts that are neither wanted nor there are free again; nobody else's change.
    ///
    /// # Errors
    /// As [`Self::allocate`].
    pub(crate) fn reserve(&self, wanted: &[Resource]) -> Result<(), ProviderError> {
        let _writing = self.hold();
        let old = match self.read()? {
            Some(file) => file,
            None => self.make()?,
        };
        let mut file = old.clone();
        file.source.clone_from(&self.source);
        file.keep(wanted, |region, host| self.layout.host(region, host).0.exists());
        file.give(wanted)?;
        if file != old {
            self.save(&file)?;
        }
        Ok(())
    }

    /// The same addresses, for a look: what this writes stays in memory.
    ///
    /// # Errors
    /// As [`Self::reserve`].
    pub(crate) fn preview(&self, wanted: &[Resource]) -> Result<Self, ProviderError> {
        let mut file = match self.read()? {
            Some(file) => file,
            None => self.file(self.octets.free(&self.layout)?),
        };
        file.give(wanted)?;
        Ok(Self {
            layout: self.layout.clone(),
            files: self.files.clone(),
            source: self.source.clone(),
            workspace: self.workspace.clone(),
            octets: self.octets.clone(),
            writing: Mutex::new(()),
            memory: Some(Mutex::new(file)),
        })
    }

    /// Afterwards the octet is this workspace's for the whole machine (a restart forgets claims).
    pub(crate) fn claim(&self) -> Result<u8, ProviderError> {
        let _writing = self.hold();
        match self.read()? {
            Some(file) => {
                self.octets.claim_again(&self.layout, file.octet)?;
                Ok(file.octet)
            }
            None => self.make().map(|file| file.octet),
        }
    }

    fn make(&self) -> Result<WorkspaceFile, ProviderError> {
        self.files.workspace(&self.layout.state_root, &self.layout.root)?;
        self.octets.claim(&self.layout, |octet| {
            let file = self.file(octet);
            self.save(&file)?;
            Ok(file)
        })
    }

    fn file(&self, octet: u8) -> WorkspaceFile {
        WorkspaceFile {
            format: FORMAT,
            workspace: self.workspace.clone(),
            source: self.source.clone(),
            octet,
            addresses: BTreeMap::new(),
            created_at: Timestamp::now(),
        }
    }

    fn save(&self, file: &WorkspaceFile) -> Result<(), ProviderError> {
        match &self.memory {
            Some(memory) => {
                file.clone_into(&mut memory.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(())
            }
            None => self.files.write_json(&self.layout.workspace_file(), file),
        }
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        // What the lock protects is on disk and whole at any moment, so a panic elsewhere spoils nothing.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Afterwards nothing is left of the workspace: no socket, no claim, no folder. Its processes have ended before.
pub(crate) fn erase(layout: &Layout, octets: &Octets, octet: u8) -> Result<(), ProviderError> {
    files::remove_all(&layout.runtime(octet))?;
    files::remove_if_empty(layout.runtime_root())?;
    // Should we die in between, the workspace claims it again; the other way round nobody would give it back.
    octets.release(layout, octet)?;
    files::vanish(&layout.root, &layout.state_root)
}

/// As long as a label of a DNS name: files that are named after it get a few characters more.
const LONGEST_NAME: usize = 63;

/// A folder or file can be named after it, and it leads nowhere else.
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

/// Files are named after all parts of an identity.
///
/// # Errors
/// `Refused` when one of them cannot be one.
pub(crate) fn check_names(id: &ResourceId) -> Result<(), ProviderError> {
    let host = matches!(id.kind, Kind::Server | Kind::LoadBalancer);
    for (name, is_host) in [(id.region.as_str(), false), (id.name.as_str(), host)] {
        if !is_plain(name) || name.len() > LONGEST_NAME || (is_host && name == RELAY) {
            return Err(ProviderError::Refused {
                what: format!("{name:?} cannot be a name here ({id})"),
                help: format!(
                    "use up to {LONGEST_NAME} letters, digits and dashes, and not {RELAY} for a server or load \
                     balancer: the region's relay has that name"
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ha_core::names::{ProviderName, RegionName};

    use super::*;

    fn record(dir: &Path, source: &str, octets: &Path) -> WorkspaceRecord {
        let layout = Layout::new(&dir.join("state"), &dir.join("run"), "shop");
        let octets = Octets::in_folder(octets.to_owned());
        WorkspaceRecord::new(&layout, &Files::new(None), &dir.join(source), "shop", octets)
    }

    #[test]
    fn addresses_are_stable_and_two_workspaces_share_no_octet() {
        let dir = tempfile::tempdir().expect("temp");
        let other = tempfile::tempdir().expect("temp");
        let octets = dir.path().join("octets");
        let one = record(dir.path(), "a.ncl", &octets);
        let two = record(other.path(), "a.ncl", &octets);
        let first = one.allocate("us-east", "us-lb", HostKind::Balancer).expect("address");
        assert_eq!(first.direct.octets()[2..], [1, 2]);
        assert_eq!(first.front.octets()[2..], [101, 2]);
        let server = one.allocate("us-east", "us-app-1", HostKind::Server).expect("address");
        assert_eq!(server.direct.octets()[3], 11);
        assert_eq!(
            one.allocate("us-east", "us-lb", HostKind::Balancer).expect("again"),
            first
        );
        let elsewhere = two.allocate("us-east", "us-lb", HostKind::Balancer).expect("address");
        assert_ne!(elsewhere.direct.octets()[1], first.direct.octets()[1]);
        for record in [&one, &two] {
            let octet = record.claim().expect("claimed");
            erase(&record.layout, &record.octets, octet).expect("erase");
        }
        assert!(!octets.exists(), "nothing is left of the claims");
    }

    fn wanted(names: &[(&str, Kind, &str)]) -> Vec<Resource> {
        let resource = |(region, kind, name): &(&str, Kind, &str)| Resource {
            id: ResourceId::new(&RegionName::new(*region), *kind, *name),
            provider: ProviderName::Hetzner,
            spec: serde_json::Value::Null,
            depends_on: Vec::new(),
            protect: false,
            path: String::new(),
        };
        names.iter().map(resource).collect()
    }

    #[test]
    fn addresses_follow_the_declaration_and_come_back_when_nobody_has_them() {
        let dir = tempfile::tempdir().expect("temp");
        let record = record(dir.path(), "a.ncl", &dir.path().join("octets"));
        let two = wanted(&[
            ("us-east", Kind::Network, "net"),
            ("us-east", Kind::Server, "us-app-1"),
            ("us-east", Kind::Server, "us-app-2"),
            ("us-east", Kind::LoadBalancer, "us-lb"),
            ("asia", Kind::Network, "net"),
            ("asia", Kind::Server, "asia-app-1"),
        ]);
        let preview = record.preview(&two).expect("preview");
        let seen = preview.read().expect("read").expect("there").addresses;
        assert!(!dir.path().join("state").exists(), "a look makes nothing");
        record.reserve(&two).expect("reserved");
        let last = |region: &str, host: &str| {
            let file = record.read().expect("read").expect("made");
            file.address(region, host)
                .map(|it| [it.direct.octets()[2], it.direct.octets()[3]])
        };
        assert_eq!(record.read().expect("read").expect("made").addresses, seen);
        assert_eq!(last("us-east", "us-app-2"), Some([1, 12]));
        assert_eq!(last("us-east", RELAY), Some([1, 1]));
        assert_eq!(last("asia", "asia-app-1"), Some([2, 11]));

        // The first region goes; of its hosts one is still there, and nobody else moves.
        std::fs::create_dir_all(dir.path().join("state/shop/regions/us-east/hosts/us-app-2")).expect("host");
        record.reserve(&two[4..]).expect("reserved");
        assert_eq!(last("us-east", "us-app-1"), None);
        assert_eq!(last("us-east", "us-app-2"), Some([1, 12]));
        assert_eq!(last("asia", "asia-app-1"), Some([2, 11]));
    }

    #[test]
    fn another_source_is_refused_while_the_first_exists() {
        let dir = tempfile::tempdir().expect("temp");
        let octets = dir.path().join("octets");
        std::fs::write(dir.path().join("a.ncl"), "").expect("write");
        record(dir.path(), "a.ncl", &octets).claim().expect("claim");
        let error = record(dir.path(), "b.ncl", &octets).read().expect_err("refused");
        assert!(
            error.to_string().contains("a.ncl") && error.to_string().contains("b.ncl"),
            "{error}"
        );
        assert!(error.help().is_some_and(|help| help.contains("ha destroy --workspace")));
        std::fs::remove_file(dir.path().join("a.ncl")).expect("remove");
        assert!(record(dir.path(), "b.ncl", &octets).read().is_ok());
    }

    #[test]
    fn another_format_and_a_damaged_file_are_refused() {
        let dir = tempfile::tempdir().expect("temp");
        let record = record(dir.path(), "a.ncl", &dir.path().join("octets"));
        record.claim().expect("claim");
        let path = dir.path().join("state/shop/workspace.json");
        std::fs::write(&path, r#"{"format": 9, "new": true}"#).expect("write");
        assert!(record.read().expect_err("refused").to_string().contains("format 9"));
        std::fs::write(&path, "{").expect("write");
        assert_eq!(record.read().expect_err("refused").code(), "ha::provider::refused");
    }

    #[test]
    fn names_that_are_no_plain_folder_are_refused() {
        let id = |region: &str, name: &str| ResourceId::new(&RegionName::new(region), Kind::Server, name);
        assert!(check_names(&id("us-east", "us-app-1")).is_ok());
        for bad in ["relay", "", "../x", ".hidden", "a/b", "a b", &"a".repeat(64)] {
            assert!(check_names(&id("us-east", bad)).is_err(), "{bad}");
            assert_eq!(check_names(&id(bad, "us-app-1")).is_err(), bad != "relay", "{bad}");
        }
    }
}
