//! Who holds the other end of a connection on this machine.

use std::{fs, io, net::Ipv4Addr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, send, socket};

pub(super) type End = (Ipv4Addr, u16);

/// An end of a connection that some process holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) user: u32,
    /// `/proc/<pid>/fd` shows it as `socket:[inode]`.
    pub(super) inode: u64,
}

/// The end that is `local` for its holder; None once no process holds it.
pub(super) fn find(local: End, remote: End) -> Option<Socket> {
    // Asked for one socket, the kernel looks it up; for its table it walks over every bucket, which takes
    // milliseconds. The table is for kernels built without the question.
    ask(local, remote)
        .unwrap_or_else(|error| {
            tracing::debug!(%error, "the kernel does not look up sockets; reading its table");
            from_tables(local, remote)
        })
        .filter(|it| it.inode != 0)
}

/// `struct nlmsghdr`, as the kernel counts it.
const HEADER: usize = 16;
/// Header, `struct inet_diag_req_v2`.
const QUESTION: usize = HEADER + 56;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const ENOENT: i32 = 2;

/// One question of sock_diag(7). A socket that speaks IPv4 under an IPv6 name is found as well: both are kept by
/// their IPv4 addresses.
fn ask(local: End, remote: End) -> io::Result<Option<Socket>> {
    let kernel = socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::SOCK_DIAG))?;
    send(&kernel, &question(local, remote), SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (length, _) = recv(&kernel, &mut answer, RecvFlags::empty())?;
    understand(&answer[..length]).ok_or_else(|| io::Error::other("an answer that makes no sense"))?
}

fn question(local: End, remote: End) -> [u8; QUESTION] {
    let mut message = [0; QUESTION];
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(QUESTION as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    put(HEADER, &[AddressFamily::INET.as_raw() as u8, 6 /* TCP */]);
    // In any state.
    put(HEADER + 4, &u32::MAX.to_ne_bytes());
    put(HEADER + 8, &local.1.to_be_bytes());
    put(HEADER + 10, &remote.1.to_be_bytes());
    put(HEADER + 12, &local.0.octets());
    put(HEADER + 28, &remote.0.octets());
    // No cookie: whichever socket has these ends.
    put(HEADER + 48, &[0xff; 8]);
    message
}

/// None when it is not an answer to our question.
fn understand(answer: &[u8]) -> Option<io::Result<Option<Socket>>> {
    let four = |at: usize| <[u8; 4]>::try_from(answer.get(at..at + 4)?).ok();
    match u16::from_ne_bytes([*answer.get(4)?, *answer.get(5)?]) {
        NLMSG_ERROR => match -i32::from_ne_bytes(four(HEADER)?) {
            ENOENT => Some(Ok(None)),
            error => Some(Err(io::Error::from_raw_os_error(error))),
        },
        SOCK_DIAG_BY_FAMILY => Some(Ok(Some(Socket {
            user: u32::from_ne_bytes(four(HEADER + 64)?),
            inode: u32::from_ne_bytes(four(HEADER + 68)?).into(),
        }))),
        _ => None,
    }
}

fn from_tables(local: End, remote: End) -> Option<Socket> {
    // A program may speak IPv4 through an IPv6 socket; it is then listed there, as a mapped address.
    [("/proc/net/tcp", ""), ("/proc/net/tcp6", "0000000000000000FFFF0000")]
        .into_iter()
        .find_map(|(table, prefix)| {
            let end = |(ip, port): End| format!("{prefix}{:08X}:{port:04X}", u32::from_ne_bytes(ip.octets()));
            in_table(&fs::read_to_string(table).ok()?, &end(local), &end(remote))
        })
}

fn in_table(table: &str, local: &str, remote: &str) -> Option<Socket> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        if fields.nth(1)? != local || fields.next()? != remote {
            return None;
        }
        Some(Socket {
            user: fields.nth(4)?.parse().ok()?,
            inode: fields.nth(1)?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_found_by_both_its_ends() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:BEEF 0B65077F:1538 01 00000000:00000000 00:00000000 00000000   101        0 52377 1 0 20 4\n\
            1: 0100007F:BEEF 0B66077F:1538 01 00000000:00000000 00:00000000 00000000   102        0 52378 1 0 20 4\n";
        assert_eq!(
            in_table(table, "0100007F:BEEF", "0B66077F:1538"),
            Some(Socket {
                user: 102,
                inode: 52378
            })
        );
        assert_eq!(in_table(table, "0100007F:BEEE", "0B66077F:1538"), None);
    }

    #[test]
    fn the_kernel_and_its_table_say_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let caller = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let end = |address: std::io::Result<SocketAddr>| match address {
            Ok(SocketAddr::V4(it)) => (*it.ip(), it.port()),
            other => unreachable!("{other:?}"),
        };
        let (local, remote) = (end(caller.local_addr()), end(caller.peer_addr()));
        let asked = ask(local, remote).expect("an answer").expect("a socket");
        assert_eq!(Some(&asked), from_tables(local, remote).as_ref());
        assert_eq!(asked.user, rustix::process::geteuid().as_raw());
        let link = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&caller)));
        assert_eq!(
            link.expect("link").to_string_lossy(),
            format!("socket:[{}]", asked.inode)
        );
        drop(caller);
        assert_eq!(find(local, remote), None);
    }
}
