//! Which region a connection comes from.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::socket::{self, Socket};
use crate::procfs;

/// How many processes that called before are asked first.
const REMEMBERED: usize = 32;

/// What the configuration says about who is who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Regions {
    /// Third octet, as text, to region.
    pub(super) octets: BTreeMap<String, String>,
    /// Without symbolic links.
    pub(super) workspace_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Region(String),
    /// Belongs to no region of this workspace: a person's shell, say.
    Outside,
    /// Its socket was closed before it could be looked at.
    Left,
}

/// Finds callers, and remembers which processes called, because they will call again.
#[derive(Default)]
pub(super) struct Callers {
    remembered: Mutex<VecDeque<i32>>,
}

impl Callers {
    /// By the process that holds its socket. Reads `/proc`: not for a thread that others wait for.
    pub(super) fn find(&self, regions: &Regions, peer: SocketAddr, front: SocketAddr) -> Caller {
        match lookup(peer, front) {
            None => Caller::Left,
            Some(socket) if socket.user != rustix::process::geteuid().as_raw() => Caller::Outside,
            Some(socket) => self
                .by_process(regions, socket.inode)
                .map_or(Caller::Outside, Caller::Region),
        }
    }

    fn by_process(&self, regions: &Regions, inode: u64) -> Option<String> {
        let link = PathBuf::from(format!("socket:[{inode}]"));
        let below = regions.workspace_dir.join("regions");
        let remembered = self.lock().clone();
        let known = remembered.into_iter().find_map(|pid| {
            let region = region_of(&below, pid)?;
            holds(pid, &link).then_some((pid, region))
        });
        let (pid, region) = known.or_else(|| {
            procfs::ours().into_iter().find_map(|stat| {
                let region = region_of(&below, stat.pid)?;
                holds(stat.pid, &link).then_some((stat.pid, region))
            })
        })?;
        let mut remembered = self.lock();
        remembered.retain(|it| *it != pid);
        remembered.push_front(pid);
        remembered.truncate(REMEMBERED);
        Some(region)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<i32>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process that called still has its end of the connection. One that ended its sending and waits for an
/// answer has; one that closed its socket has not, though both look the same from this end.
pub(super) fn is_there(peer: SocketAddr, front: SocketAddr) -> bool {
    lookup(peer, front).is_some()
}

/// The region whose address the caller binds; none when it binds none.
pub(super) fn by_address(regions: &Regions, peer: SocketAddr, front: SocketAddr) -> Option<String> {
    let ([127, w, r, _], [127, ours, ..]) = (v4(peer)?.octets(), v4(front)?.octets()) else {
        return None;
    };
    (w == ours)
        .then(|| regions.octets.get(&r.to_string()).cloned())
        .flatten()
}

fn region_of(below: &Path, pid: i32) -> Option<String> {
    let cwd = procfs::cwd(pid)?;
    let first = cwd.strip_prefix(below).ok()?.components().next()?;
    first.as_os_str().to_str().map(str::to_owned)
}

fn holds(pid: i32, link: &Path) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|it| fs::read_link(it.path()).is_ok_and(|it| it == link))
    })
}

fn lookup(peer: SocketAddr, front: SocketAddr) -> Option<Socket> {
    socket::find((v4(peer)?, peer.port()), (v4(front)?, front.port()))
}

fn v4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address {
        SocketAddr::V4(it) => Some(*it.ip()),
        SocketAddr::V6(it) => it.ip().to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_workspace_tells_nothing() {
        let regions = Regions {
            octets: BTreeMap::from([("2".to_owned(), "eu-central".to_owned())]),
            workspace_dir: PathBuf::new(),
        };
        let of = |peer: [u8; 4]| by_address(&regions, (peer, 4000).into(), ([127, 7, 101, 11], 5432).into());
        assert_eq!(of([127, 7, 2, 11]), Some("eu-central".to_owned()));
        assert_eq!(of([127, 8, 2, 11]), None);
        assert_eq!(of([127, 0, 0, 1]), None);
    }
}
