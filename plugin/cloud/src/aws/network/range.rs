//! How an address range is laid out in subnets.

use std::net::Ipv4Addr;

/// The ranges of the two subnets of a network: its first two quarters, so that as much is left for what people add by
/// hand. Two, because a balancer wants two zones.
///
/// # Errors
///
/// In words, when AWS would not take the range.
/// Source: <https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html>: /16 to /28, subnets as well.
pub(in crate::aws) fn subnets(range: &str) -> Result<[String; 2], String> {
    let (base, length) = parse(range).ok_or_else(|| format!("{range} is not an IPv4 range"))?;
    if !(16..=27).contains(&length) {
        return Err(format!(
            "{range}: an aws.VPC takes /16 to /27, or its two subnets have no room"
        ));
    }
    if base & !mask(length) != 0 {
        let first = Ipv4Addr::from_bits(base & mask(length));
        return Err(format!(
            "{range} does not begin at its first address: write {first}/{length}"
        ));
    }
    // A subnet is a /28 at least.
    let inner = (length + 2).min(28);
    let size = 1u32 << (32 - inner);
    let subnet = |index: u32| format!("{}/{inner}", Ipv4Addr::from_bits(base + index * size));
    Ok([subnet(0), subnet(1)])
}

fn parse(range: &str) -> Option<(u32, u32)> {
    let (address, length) = range.split_once('/')?;
    let length = length.parse::<u32>().ok().filter(|it| *it <= 32)?;
    Some((address.parse::<Ipv4Addr>().ok()?.to_bits(), length))
}

fn mask(length: u32) -> u32 {
    u32::MAX.checked_shl(32 - length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_has_two_of_four_quarters() {
        assert_eq!(
            subnets("10.2.0.0/16"),
            Ok(["10.2.0.0/18".to_owned(), "10.2.64.0/18".to_owned()])
        );
        assert_eq!(
            subnets("10.2.0.0/27"),
            Ok(["10.2.0.0/28".to_owned(), "10.2.0.16/28".to_owned()])
        );
    }

    #[test]
    fn what_aws_would_refuse_is_said_with_what_to_write() {
        for (range, words) in [
            ("10.0.0.0/8", "/16 to /27"),
            ("10.0.0.0/28", "/16 to /27"),
            ("10.2.0.1/16", "write 10.2.0.0/16"),
            ("10.2.0.0", "not an IPv4 range"),
        ] {
            let why = subnets(range).expect_err(range);
            assert!(why.contains(words), "{why}");
        }
    }

    proptest! {
        #[test]
        fn subnets_lie_in_their_network_and_do_not_overlap(bits: u32, length in 16u32..=27) {
            let base = bits & mask(length);
            let [first, second] = subnets(&format!("{}/{length}", Ipv4Addr::from_bits(base))).map_err(TestCaseError::fail)?;
            let (first, inner) = parse(&first).ok_or(TestCaseError::fail("no range"))?;
            let (second, _) = parse(&second).ok_or(TestCaseError::fail("no range"))?;
            prop_assert_eq!(first & mask(length), base);
            prop_assert_eq!(second & mask(length), base);
            prop_assert!(first & mask(inner) == first && second & mask(inner) == second && first != second);
        }
    }
}
