//! Which 127.W belongs to which workspace, for the whole machine, whatever folder its state is in.
//!
//! A claim is a file named after the octet that holds the path of the workspace's folder. It counts while that
//! folder says the same octet, so that a folder that was removed by hand gives its octet back.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use crate::ProviderError;
use crate::local::{
    process::listeners,
    state::{
        files::{ReadError, failed, read_json, remove_if_empty},
        layout::Layout,
    },
};

const FIRST: u8 = 1;
const LAST: u8 = 254;

/// The folder of claims. Each user has one; those of others are looked at, too.
#[derive(Clone, Debug)]
pub(crate) struct Octets {
    folder: PathBuf,
    /// Other users' folders have this name with their number behind it.
    beside: Option<&'static str>,
}

const NAME: &str = "ha-octets-";

impl Octets {
    pub(crate) fn of_this_machine() -> Self {
        Self {
            folder: Path::new("/tmp").join(format!("{NAME}{}", Uid::effective())),
            beside: Some(NAME),
        }
    }

    #[cfg(test)]
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder, beside: None }
    }

    /// Chooses an octet (the one the workspace's folder hashes to, or the next free one) and lets `save` make it
    /// last; nobody else can choose meanwhile.
    ///
    /// # Errors
    /// As [`Self::free`].
    pub(crate) fn claim<T>(
        &self,
        layout: &Layout,
        save: impl FnOnce(u8) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let _held = self.hold()?;
        let octet = self.free(layout)?;
        self.write(octet, &layout.root)?;
        save(octet)
    }

    /// The octet that a claim would be for now.
    ///
    /// # Errors
    /// `NoCapacity` when all are taken.
    pub(crate) fn free(&self, layout: &Layout) -> Result<u8, ProviderError> {
        let wanted = hashed(layout);
        let mut octets = (FIRST..=LAST)
            .cycle()
            .skip(usize::from(wanted - FIRST))
            .take(usize::from(LAST));
        let beside = beside(layout);
        let free = |octet: &u8| {
            !beside.contains(octet) && self.owner(*octet, &layout.root).is_none() && !listeners::any_below(*octet)
        };
        octets.find(free).ok_or_else(|| ProviderError::NoCapacity {
            what: "another workspace on this machine: 127.1 to 127.254 are all in use".into(),
        })
    }

    /// Afterwards the claim stands again; a restart of the machine empties the folder of claims.
    ///
    /// # Errors
    /// `Taken` when another workspace took it meanwhile.
    pub(crate) fn claim_again(&self, layout: &Layout, octet: u8) -> Result<(), ProviderError> {
        let _held = self.hold()?;
        match self.owner(octet, &layout.root) {
            Some(owner) => Err(ProviderError::Taken {
                what: format!("127.{octet}.0.0/16"),
                by: format!("the workspace in {}", owner.display()),
            }),
            None => self.write(octet, &layout.root),
        }
    }

    /// Afterwards the octet is free; the folder goes with the last claim.
    pub(crate) fn release(&self, layout: &Layout, octet: u8) -> Result<(), ProviderError> {
        if !self.folder.exists() {
            return Ok(());
        }
        let _held = self.hold()?;
        let path = self.folder.join(octet.to_string());
        if fs::read(&path).is_ok_and(|owner| owner == layout.root.as_os_str().as_bytes()) {
            fs::remove_file(&path).map_err(|source| failed("cannot remove", &path, source))?;
        }
        self.forget_stale();
        remove_if_empty(&self.folder)
    }

    /// The folder is its own lock, so that nothing is left of it when the last claim goes.
    fn hold(&self) -> Result<File, ProviderError> {
        let wrong = |source| failed("cannot use", &self.folder, source);
        loop {
            match fs::DirBuilder::new().mode(0o755).create(&self.folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrong(error)),
                _ => {}
            }
            let folder = match File::open(&self.folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(wrong)?,
            };
            let meta = folder.metadata().map_err(wrong)?;
            // The name is guessable, and the folder above is everybody's.
            if meta.uid() != Uid::effective().as_raw() || !meta.is_dir() {
                return Err(ProviderError::Taken {
                    what: self.folder.display().to_string(),
                    by: format!("user {}", meta.uid()),
                });
            }
            flock(&folder, FlockOperation::LockExclusive).map_err(|errno| wrong(errno.into()))?;
            if fs::metadata(&self.folder).is_ok_and(|now| now.ino() == meta.ino()) {
                return Ok(folder);
            }
        }
    }

    fn write(&self, octet: u8, owner: &Path) -> Result<(), ProviderError> {
        let path = self.folder.join(octet.to_string());
        fs::write(&path, owner.as_os_str().as_bytes()).map_err(|source| failed("cannot write", &path, source))
    }

    /// Claims of workspaces whose folders somebody removed count for nothing; they only keep the folder alive.
    fn forget_stale(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let octet = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(octet), Ok(owner)) = (octet, fs::read(entry.path()))
                && !holds(Path::new(std::ffi::OsStr::from_bytes(&owner)), octet)
            {
                // The next one to let go tries again.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Who else has it.
    fn owner(&self, octet: u8, us: &Path) -> Option<PathBuf> {
        let claims = self.folders().into_iter().filter_map(|folder| {
            let claim = fs::read(folder.join(octet.to_string())).ok()?;
            Some(PathBuf::from(std::ffi::OsStr::from_bytes(&claim)))
        });
        claims.into_iter().find(|owner| owner != us && holds(owner, octet))
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.clone()];
        if let (Some(name), Some(parent)) = (self.beside, self.folder.parent()) {
            let others = fs::read_dir(parent).into_iter().flatten().flatten();
            let others = others.filter(|entry| entry.file_name().to_string_lossy().starts_with(name));
            folders.extend(others.map(|entry| entry.path()).filter(|path| *path != self.folder));
        }
        folders
    }
}

#[derive(Deserialize)]
struct Claimed {
    octet: u8,
}

/// Octets of the other workspaces in the same root. Claims are gone after a restart of the machine, and whoever
/// comes first then would take the octet of one that is to come back.
fn beside(layout: &Layout) -> Vec<u8> {
    let folders = fs::read_dir(&layout.state_root).into_iter().flatten().flatten();
    folders
        .map(|entry| entry.path())
        .filter(|folder| *folder != layout.root && !is_hidden(folder))
        .filter_map(|folder| read_json::<Claimed>(&folder.join("workspace.json")).ok()?)
        .map(|claimed| claimed.octet)
        .collect()
}

/// On its way out.
fn is_hidden(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_bytes().starts_with(b"."))
}

/// A folder that cannot be looked into counts: it is another user's, and exists.
fn holds(owner: &Path, octet: u8) -> bool {
    match read_json::<Claimed>(&owner.join("workspace.json")) {
        Ok(Some(file)) => file.octet == octet,
        Ok(None) => false,
        Err(ReadError::Unreadable(_) | ReadError::Damaged(_)) => true,
    }
}

/// From the folder, not the name alone: two of the same name live in two state roots.
fn hashed(layout: &Layout) -> u8 {
    let text = serde_json::Value::String(layout.root.display().to_string());
    let hash = ha_core::resource::spec_hash(&text);
    let number = u32::from_str_radix(&hash[..4], 16).unwrap_or_default();
    u8::try_from(number % u32::from(LAST)).unwrap_or_default() + FIRST
}
