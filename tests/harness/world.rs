//! What the operating system knows that no `ha` command is asked about.

use std::{fs, net::Ipv4Addr};

/// Addresses and ports that something listens on, of 127.`second`.0.0/16.
pub fn listening(second: u8) -> Vec<(Ipv4Addr, u16)> {
    let text = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let mut found: Vec<_> = text
        .lines()
        .skip(1)
        .filter_map(listener)
        .filter(|(address, _)| address.octets()[..2] == [127, second])
        .collect();
    found.sort();
    found
}

/// State 0A is listening; the address is a number in the machine's own order of bytes.
fn listener(line: &str) -> Option<(Ipv4Addr, u16)> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    (fields.nth(1)? == "0A").then_some(())?;
    let address = u32::from_str_radix(address, 16).ok()?;
    Some((
        Ipv4Addr::from(address.to_ne_bytes()),
        u16::from_str_radix(port, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_seen() {
        let socket = std::net::TcpListener::bind("127.254.253.252:0").expect("a socket");
        let port = socket.local_addr().expect("its address").port();
        assert_eq!(listening(254), vec![(Ipv4Addr::new(127, 254, 253, 252), port)]);
    }
}
