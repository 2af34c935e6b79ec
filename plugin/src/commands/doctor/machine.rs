//! Folders and addresses that the local target lives on.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ha_cloud::local::{LocalOptions, RunAs};
use ha_core::names::WorkspaceName;
use rustix::fs::{Access, access, statvfs};

use super::Row;
use crate::{context::Places, nu::Bytes};

/// Three small databases, their log, and a copy of one on its way.
const ENOUGH: u64 = 2 * 1024 * 1024 * 1024;

pub(super) fn rows(places: &Places) -> Vec<Row> {
    let state = Row::new("state folder", "data, logs and secrets of what runs");
    // The folders are the same for every workspace.
    let options = LocalOptions::from_env(WorkspaceName::new("any"), Path::new("workspace.ncl"), |name| {
        places.variable(name)
    });
    match options {
        Err(error) => {
            let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
            vec![state.wrong(format!("{error}{help}"))]
        }
        Ok(options) => {
            let user = options.run_as.as_ref();
            vec![
                folder(state, options.state_root, "HA_STATE_HOME", user),
                folder(
                    Row::new("runtime folder", "sockets"),
                    options.runtime_root,
                    "HA_RUNTIME_DIR",
                    user,
                ),
            ]
        }
    }
}

/// Whether it can be written (or made), entered by whoever runs the databases, and has space left.
fn folder(row: Row, path: PathBuf, variable: &str, user: Option<&RunAs>) -> Row {
    let there = path.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/"));
    let free = statvfs(there)
        .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
        .ok();
    let writable = access(there, Access::WRITE_OK | Access::EXEC_OK);
    let closed = user.and_then(|user| Some((user, closed(there, user)?)));
    let row = Row {
        free: free.map(Bytes),
        path: Some(path.clone()),
        ..row
    };
    if let Err(error) = writable {
        let error = io::Error::from(error);
        return row.wrong(format!(
            "{} cannot be written ({error}): set {variable} to a folder of yours",
            there.display()
        ));
    }
    if let Some((user, closed)) = closed {
        return row.wrong(format!(
            "user {} may not pass {}: set {variable} to another folder, or: chmod o+x {}",
            user.name,
            closed.display(),
            closed.display()
        ));
    }
    match free {
        Some(free) if free < ENOUGH => row.wrong(format!(
            "less than 2 GiB are free: free some space, or set {variable} to a folder on another disk"
        )),
        _ => row,
    }
}

/// The first folder on the way that the user of the databases cannot enter.
fn closed<'a>(path: &'a Path, user: &RunAs) -> Option<&'a Path> {
    path.ancestors().find(|folder| {
        let Ok(meta) = folder.metadata() else { return false };
        let (bit, mode) = match meta.uid() == user.uid {
            true => (0o100, meta.mode()),
            false => (0o001, meta.mode()),
        };
        mode & bit == 0
    })
}

/// Where this workspace is; before the first provision, whether it could be anywhere. `known` is one of its
/// addresses.
pub(super) fn addresses(known: Option<String>, folder: PathBuf) -> Row {
    let address: Option<Ipv4Addr> = known.and_then(|it| it.parse().ok());
    let [_, octet, ..] = address.unwrap_or(Ipv4Addr::new(127, 0, 0, 1)).octets();
    let subject = match address {
        Some(_) => format!("addresses 127.{octet}.0.0/16"),
        None => "addresses 127.0.0.0/8".to_owned(),
    };
    let row = Row {
        path: address.map(|_| folder),
        ..Row::new(subject, "one address for each server")
    };
    // Any address of the network will do; nothing of a workspace has this one.
    match TcpListener::bind((Ipv4Addr::new(127, octet, 255, 254), 0)) {
        Ok(_) => row,
        Err(error) => row.wrong(format!(
            "127.{octet}.255.254 cannot be used ({error}): ip address add 127.0.0.1/8 dev lo"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_made_is_fine_and_has_its_disk() {
        let root = tempfile::tempdir().expect("a folder");
        let row = folder(
            Row::new("state folder", ""),
            root.path().join("a/b"),
            "HA_STATE_HOME",
            None,
        );
        assert!(row.free.is_some_and(|free| free.0 > 0));
        assert_eq!(row.path, Some(root.path().join("a/b")));
        let file = root.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let row = folder(Row::new("state folder", ""), file.join("a"), "HA_STATE_HOME", None);
        assert_eq!(row.status, "wrong");
        assert!(row.help.is_some_and(|help| help.contains("HA_STATE_HOME")));
    }

    #[test]
    fn every_workspace_has_addresses() {
        let row = addresses(Some("127.77.1.11".into()), "/state/shop".into());
        assert_eq!((row.subject.as_str(), row.status), ("addresses 127.77.0.0/16", "ok"));
        assert_eq!(addresses(None, "/state/shop".into()).path, None);
    }
}
