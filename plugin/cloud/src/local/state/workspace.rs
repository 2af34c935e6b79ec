//! `workspace.json`: whose folder this is, and which addresses it gave out.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ProviderError;
use crate::local::state::{
    addresses::Octets,
    files::{Files, ReadError, passage, read_json},
    layout::{Layout, RELAY},
};

/// Grows when an older `ha` could do harm with the folder.
const FORMAT: u32 = 1;
/// Regions are 127.W.R.H, and R + 100 is where others reach them.
const REGIONS: std::ops::RangeInclusive<u8> = 1..=99;
const FRONT: u8 = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkspaceFile {
    pub(crate) format: u32,
    pub(crate) workspace: String,
    /// The `workspace.ncl` it was made from.
    pub(crate) source: PathBuf,
    /// W in 127.W.R.H.
    pub(crate) octet: u8,
    pub(crate) addresses: BTreeMap<String, RegionAddresses>,
    pub(crate) created_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegionAddresses {
    pub(crate) octet: u8,
    pub(crate) hosts: BTreeMap<String, u8>,
}

/// What a host is decides which part of the region's addresses it gets one from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    Relay,
    Balancer,
    Server,
}

impl HostKind {
    pub(crate) const FIRST_BALANCER: u8 = 2;

    fn range(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Relay => 1..=1,
            Self::Balancer => Self::FIRST_BALANCER..=10,
            Self::Server => 11..=254,
        }
    }

    pub(crate) fn of(octet: u8) -> Self {
        [Self::Relay, Self::Balancer]
            .into_iter()
            .find(|kind| kind.range().contains(&octet))
            .unwrap_or(Self::Server)
    }
}

/// Where one host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// From its own region, and from the operator.
    pub(crate) direct: Ipv4Addr,
    /// From other regions: the relay's side.
    pub(crate) front: Ipv4Addr,
}

impl Addresses {
    /// The one that a caller in region `from` uses for a host of region `of`.
    pub(crate) fn seen_from(self, from: &str, of: &str) -> Ipv4Addr {
        if from == of { self.direct } else { self.front }
    }
}

impl WorkspaceFile {
    pub(crate) fn address(&self, region: &str, host: &str) -> Option<Addresses> {
        let of_region = self.addresses.get(region)?;
        let host = *of_region.hosts.get(host)?;
        Some(Addresses {
            direct: Ipv4Addr::new(127, self.octet, of_region.octet, host),
            front: Ipv4Addr::new(127, self.octet, of_region.octet + FRONT, host),
        })
    }

    pub(crate) fn region_octet(&self, region: &str) -> Option<u8> {
        self.addresses.get(region).map(|of_region| of_region.octet)
    }

    /// True when something was given out that was not before.
    fn allocate(&mut self, region: &str, host: &str, kind: HostKind) -> Result<bool, ProviderError> {
        let mut changed = false;
        if !self.addresses.contains_key(region) {
            let taken: Vec<u8> = self.addresses.values().map(|known| known.octet).collect();
            let octet = lowest_free(REGIONS, &taken).ok_or_else(|| ProviderError::NoCapacity {
                what: format!(
                    "region {region}: all {} regions of 127.{}.0.0 are in use",
                    taken.len(),
                    self.octet
                ),
            })?;
            let hosts = BTreeMap::new();
            self.addresses
                .insert(region.to_owned(), RegionAddresses { octet, hosts });
            changed = true;
        }
        let Some(of_region) = self.addresses.get_mut(region) else {
            return Ok(changed);
        };
        if !of_region.hosts.contains_key(host) {
            let taken: Vec<u8> = of_region.hosts.values().copied().collect();
            let octet = lowest_free(kind.range(), &taken).ok_or_else(|| ProviderError::NoCapacity {
                what: format!("{host} in {region}: every address of its kind is in use"),
            })?;
            of_region.hosts.insert(host.to_owned(), octet);
            changed = true;
        }
        Ok(changed)
    }
}

fn lowest_free(mut range: std::ops::RangeInclusive<u8>, taken: &[u8]) -> Option<u8> {
    range.find(|octet| !taken.contains(octet))
}

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
        }
    }

    /// None when the workspace was not provisioned.
    ///
    /// # Errors
    /// `Refused` when the folder is another's, of another format, or damaged.
    pub(crate) fn read(&self) -> Result<Option<WorkspaceFile>, ProviderError> {
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
                return Err(crate::local::state::files::failed("cannot read", &path, error));
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
            self.files.write_json(&self.layout.workspace_file(), &file)?;
        }
        file.address(region, host).ok_or_else(|| ProviderError::Other {
            what: format!("{host} in {region} got no address"),
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

    pub(crate) fn release(&self, octet: u8) -> Result<(), ProviderError> {
        self.octets.release(&self.layout, octet)
    }

    fn make(&self) -> Result<WorkspaceFile, ProviderError> {
        passage(&self.layout.state_root)?;
        self.files.folder(&self.layout.root, 0o700)?;
        self.octets.claim(&self.layout, |octet| {
            let file = WorkspaceFile {
                format: FORMAT,
                workspace: self.workspace.clone(),
                source: self.source.clone(),
                octet,
                addresses: BTreeMap::new(),
                created_at: Timestamp::now(),
            };
            self.files.write_json(&self.layout.workspace_file(), &file)?;
            Ok(file)
        })
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        // What the lock protects is on disk and whole at any moment, so a panic elsewhere spoils nothing.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Neither a folder that leads elsewhere nor the relay's.
pub(crate) fn check_host_name(name: &str) -> Result<(), ProviderError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name == RELAY || name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(ProviderError::Refused {
            what: format!("{name:?} cannot be the name of a server or load balancer here"),
            help: format!("use letters, digits and dashes, and not {RELAY}: the region's relay has that name"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
            record.release(octet).expect("release");
        }
        assert!(!octets.exists(), "nothing is left of the claims");
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
        assert!(check_host_name("us-app-1").is_ok());
        for bad in ["relay", "", "../x", ".hidden", "a/b", "a b"] {
            assert!(check_host_name(bad).is_err(), "{bad}");
        }
    }
}
