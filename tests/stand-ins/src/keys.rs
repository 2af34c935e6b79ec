//! SSH public keys as both providers read them.

use base64::Engine;
use md5::{Digest, Md5};

/// The MD5 fingerprint of an OpenSSH public key (`aa:bb:…`); none where the text is no such key.
pub fn fingerprint(public_key: &str) -> Option<String> {
    let mut words = public_key.split_whitespace();
    let kind = words.next()?;
    let blob = base64::engine::general_purpose::STANDARD.decode(words.next()?).ok()?;
    // The blob repeats the kind: a length of four bytes, then the name.
    if blob.get(4..4 + kind.len())? != kind.as_bytes() {
        return None;
    }
    let digest = Md5::digest(&blob);
    Some(
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(":"),
    )
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn a_fingerprint_is_what_ssh_keygen_prints() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqMHbp74budVgHFOVstkF9XA6wU8MQjwbdJxBOVh86K test";
        assert_eq!(
            fingerprint(key).as_deref(),
            Some("98:8b:49:9c:b2:03:a1:fc:c6:a7:d4:4f:2b:a1:13:43")
        );
        assert_eq!(fingerprint("ssh-ed25519 AAAA"), None);
        assert_eq!(fingerprint("nonsense"), None);
    }
}
