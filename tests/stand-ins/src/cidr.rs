//! IPv4 ranges, as far as private networks need them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range in CIDR notation, without host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    first: u32,
    bits: u8,
}

impl Cidr {
    pub fn bits(self) -> u8 {
        self.bits
    }

    fn size(self) -> u64 {
        1 << (32 - u32::from(self.bits))
    }

    fn end(self) -> u64 {
        u64::from(self.first) + self.size()
    }

    /// The nth address of the range, while it has one.
    pub fn address(self, n: u32) -> Option<Ipv4Addr> {
        (u64::from(n) < self.size()).then(|| Ipv4Addr::from(self.first + n))
    }

    pub fn has(self, address: Ipv4Addr) -> bool {
        (u64::from(self.first)..self.end()).contains(&u64::from(u32::from(address)))
    }

    pub fn covers(self, other: Self) -> bool {
        other.bits >= self.bits && self.has(Ipv4Addr::from(other.first))
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    pub fn starts_like(self, other: Self) -> bool {
        self.first == other.first
    }

    /// One of the ranges of RFC 1918.
    pub fn is_private(self) -> bool {
        [(10, 0, 8), (172, 16, 12), (192, 168, 16)]
            .into_iter()
            .any(|(a, b, bits)| {
                let range = Self {
                    first: u32::from(Ipv4Addr::new(a, b, 0, 0)),
                    bits,
                };
                range.covers(self)
            })
    }

    /// Addresses for members, in order: not the first two (network and gateway), not the last (broadcast).
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let last = self.end() - 1;
        (u64::from(self.first) + 2..last)
            .filter_map(|n| u32::try_from(n).ok())
            .map(Ipv4Addr::from)
    }

    /// The ranges of this many bits inside, in order.
    pub fn parts(self, bits: u8) -> impl Iterator<Item = Self> {
        let step = 1u64 << (32 - u32::from(bits.min(32)));
        (0..)
            .map(move |n| u64::from(self.first) + n * step)
            .take_while(move |first| bits >= self.bits && first + step <= self.end())
            .filter_map(move |first| {
                Some(Self {
                    first: u32::try_from(first).ok()?,
                    bits,
                })
            })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.bits)
    }
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be an IPv4 range in CIDR notation";
        let (address, bits) = text.split_once('/').ok_or(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong)?;
        let bits: u8 = bits.parse().map_err(|_| wrong)?;
        if bits == 0 || bits > 32 {
            return Err(wrong);
        }
        let range = Self {
            first: u32::from(address),
            bits,
        };
        if u64::from(range.first) % range.size() != 0 {
            return Err("must not have host bits set");
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    #[test]
    fn ranges_contain_overlap_and_split() {
        let net = range("10.1.0.0/16");
        assert!(net.covers(range("10.1.2.0/24")) && !range("10.1.2.0/24").covers(net));
        assert!(net.overlaps(range("10.0.0.0/8")) && !net.overlaps(range("10.2.0.0/16")));
        assert_eq!(net.parts(24).nth(1), Some(range("10.1.1.0/24")));
        assert_eq!(net.parts(24).count(), 256);
        assert_eq!(
            range("10.1.0.0/30").hosts().collect::<Vec<_>>(),
            [Ipv4Addr::new(10, 1, 0, 2)]
        );
        assert!(net.is_private() && !range("11.0.0.0/8").is_private());
    }

    #[test]
    fn host_bits_and_nonsense_are_refused() {
        for text in ["10.1.0.1/16", "10.1.0.0", "10.1.0.0/33", "10.1.0.0/0", "x/8", ""] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
