//! Which process listens where, from `/proc`: an address in use is reported with who uses it.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    path::{Path, PathBuf},
};

use crate::ProviderError;

/// Who listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    name: String,
    /// None when it is another user's.
    cwd: Option<PathBuf>,
}

/// A listening socket in `/proc/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listening {
    /// `0.0.0.0` is every address.
    address: Ipv4Addr,
    port: u16,
    inode: u64,
}

/// Afterwards nobody listens at the address, or whoever does has its working folder below `ours`.
///
/// # Errors
/// `Taken` names the process.
pub(crate) fn check_free(address: SocketAddrV4, ours: &Path) -> Result<(), ProviderError> {
    match TcpListener::bind(address) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        Err(source) => {
            let what = format!("cannot listen at {address}");
            return Err(ProviderError::Io { what, source });
        }
    }
    match holder(address) {
        Some(process) if process.cwd.as_deref().is_some_and(|cwd| cwd.starts_with(ours)) => Ok(()),
        Some(process) => Err(ProviderError::Taken {
            what: address.to_string(),
            by: format!("{} (pid {})", process.name, process.pid),
        }),
        None => Err(ProviderError::Taken {
            what: address.to_string(),
            by: "a process of another user (as root: ss -ltnp shows it)".into(),
        }),
    }
}

/// Somebody listens at an address 127.`octet`.x.x.
pub(crate) fn any_below(octet: u8) -> bool {
    listening().iter().any(|it| it.address.octets()[..2] == [127, octet])
}

fn holder(address: SocketAddrV4) -> Option<Process> {
    let at =
        |it: &&Listening| it.port == address.port() && (it.address == *address.ip() || it.address.is_unspecified());
    let inode = listening().iter().find(at)?.inode;
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pid = pids.find(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.into_iter()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == link))
    })?;
    Some(Process {
        pid,
        name: fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap_or_default()
            .trim()
            .to_owned(),
        cwd: fs::read_link(format!("/proc/{pid}/cwd")).ok(),
    })
}

fn listening() -> Vec<Listening> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let four = read("/proc/net/tcp");
    let six = read("/proc/net/tcp6");
    four.lines().chain(six.lines()).filter_map(parse).collect()
}

/// `0: 0B015D7F:1538 00000000:0000 0A … inode`; state 0A is "listens". An IPv6 wildcard takes IPv4, too.
fn parse(line: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let address = match address.len() {
        8 => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_le_bytes()),
        _ if address.bytes().all(|byte| byte == b'0') => Ipv4Addr::UNSPECIFIED,
        _ => return None,
    };
    Some(Listening {
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_names_the_process() {
        let listener = TcpListener::bind("127.254.253.252:0").expect("bind");
        let std::net::SocketAddr::V4(address) = listener.local_addr().expect("address") else {
            panic!("an IPv4 address was asked for");
        };
        let error = check_free(address, Path::new("/nowhere")).expect_err("taken");
        let text = error.to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        assert!(any_below(254));
        let ours = std::env::current_dir().expect("folder");
        assert!(check_free(address, &ours).is_ok(), "our own process may hold it");
        drop(listener);
        assert!(check_free(address, Path::new("/nowhere")).is_ok());
    }

    #[test]
    fn the_wildcard_of_ipv6_counts() {
        let line = "  1: 00000000000000000000000000000000:1538 00000000000000000000000000000000:0000 0A \
                    00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0";
        let parsed = parse(line).expect("listens");
        assert_eq!(
            (parsed.address, parsed.port, parsed.inode),
            (Ipv4Addr::UNSPECIFIED, 5432, 4711)
        );
    }
}
