//! Caller references that say whose something is: `ha/shop/us-east/1`.
//!
//! Route 53 takes each of them once, and for days after what it made was deleted; that is what the number at the end is
//! for. Zones may have 128 characters and health checks 64, so what is too long is hashed.

use std::fmt;

/// Of a zone, or of the health check of a region; the number at its end is not part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference(String);

/// The most characters of both kinds, without a slash and a number of five digits.
const ZONE: usize = 128 - 6;
const CHECK: usize = 64 - 6;

impl Reference {
    /// `what` is the zone's name.
    pub fn zone(ws: &str, name: &str) -> Self {
        Self::fitting(ws, &format!("zone.{name}"), ZONE)
    }

    pub fn check(ws: &str, region: &str) -> Self {
        Self::fitting(ws, region, CHECK)
    }

    fn fitting(ws: &str, what: &str, longest: usize) -> Self {
        let plain = format!("{}{what}", owner(ws));
        if plain.len() <= longest {
            return Self(plain);
        }
        let hash = blake3::hash(what.as_bytes()).to_hex();
        // What fits behind the longest name of a workspace; the regions of one workspace are few.
        Self(format!("{}{}", owner(ws), &hash[..6]))
    }

    pub fn with(&self, generation: u32) -> String {
        format!("{}/{generation}", self.0)
    }

    /// The number at the end of one of these.
    pub fn generation(&self, reference: &str) -> Option<u32> {
        reference.strip_prefix(&self.0)?.strip_prefix('/')?.parse().ok()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the references of one workspace begin with, and those of no other. A name has at most 48 characters.
fn owner(ws: &str) -> String {
    format!("ha/{ws}/")
}

/// It was made for this workspace.
pub fn is_of(ws: &str, reference: &str) -> bool {
    reference.starts_with(&owner(ws))
}

/// The region of a health check, as its reference says it: its name, or the hash of a long one.
pub fn region(ws: &str, reference: &str) -> Option<String> {
    let rest = reference.strip_prefix(&owner(ws))?;
    rest.rsplit_once('/').map(|(region, _)| region.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whose_it_is_is_read_from_what_was_written(
            ws in "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?",
            other in "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?",
            region in "[a-z0-9][a-z0-9-]{0,60}",
            generation in 1_u32..=99_999,
        ) {
            let check = Reference::check(&ws, &region);
            let written = check.with(generation);
            prop_assert!(written.len() <= 64, "{}", written);
            prop_assert!(is_of(&ws, &written));
            prop_assert_eq!(is_of(&other, &written), ws == other);
            prop_assert_eq!(check.generation(&written), Some(generation));
            let zone = Reference::zone(&ws, &format!("{region}.{region}.{region}.example.com")).with(generation);
            prop_assert!(zone.len() <= 128 && is_of(&ws, &zone), "{}", zone);
        }
    }

    #[test]
    fn people_can_read_it() {
        assert_eq!(Reference::check("shop", "us-east").with(2), "ha/shop/us-east/2");
        assert_eq!(
            Reference::zone("shop", "api.example.com").with(1),
            "ha/shop/zone.api.example.com/1"
        );
        assert_eq!(region("shop", "ha/shop/us-east/2").as_deref(), Some("us-east"));
        assert_eq!(region("shop", "ha/shop2/us-east/2"), None);
        assert_eq!(
            Reference::check("shop", "us-east").generation("ha/shop/us-east-2/1"),
            None
        );
    }
}
