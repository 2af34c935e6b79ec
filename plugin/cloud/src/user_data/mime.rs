//! Several parts in one user data: ours, and the user's own, which stays as it was written.
//!
//! <https://cloudinit.readthedocs.io/en/latest/explanation/format.html#mime-multi-part-archive>

use std::fmt::Write as _;

use ha_core::resource::spec_hash;

/// How the user's cloud-config is added to ours: lists one after the other, nothing of ours replaced. Without it a
/// `runcmd` of theirs would take the place of ours.
/// <https://cloudinit.readthedocs.io/en/latest/reference/merging.html>
const MERGE: &str = "list(append)+dict(no_replace,recurse_list)+str()";

/// One text for both. Ours alone stays what it is, unless cloud-init would take it for several parts.
pub(super) fn join(ours: &str, own: Option<&str>) -> String {
    // It looks for these words in the first 4096 bytes, wherever they stand.
    let mistaken = ours.to_ascii_lowercase().contains("mime-version:");
    if own.is_none() && !mistaken {
        return ours.to_owned();
    }
    let boundary = boundary(&[ours, own.unwrap_or_default()]);
    let mut out = format!(
        "Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n\n\
         --{boundary}\nContent-Type: text/cloud-config; charset=\"us-ascii\"\n\
         Content-Disposition: attachment; filename=\"ha.cloud-config\"\n\n{ours}\n"
    );
    if let Some(own) = own {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "--{boundary}\n{}\n", part(own));
    }
    let _ = writeln!(out, "--{boundary}--");
    out
}

/// The user's text as one part. What it is cloud-init sees by its first line, as it would without us.
fn part(own: &str) -> String {
    let start = own.trim_start().to_ascii_lowercase();
    if ["content-type: multipart/", "mime-version:"]
        .iter()
        .any(|it| start.starts_with(it))
    {
        return own.trim_start().to_owned();
    }
    // Scripts run in the order of their names, ours as `runcmd`: this one comes after it.
    let head = format!(
        "Content-Type: text/plain; charset=\"utf-8\"\nContent-Disposition: attachment; filename=\"user-data\"\n\
         Merge-Type: {MERGE}\n"
    );
    if own.chars().all(|c| matches!(c, '\n' | '\t' | ' '..='~')) {
        return format!("{head}\n{own}");
    }
    // cloud-init reads other characters as Latin-1, and ends lines as it likes.
    let encoded = aws_smithy_types::base64::encode(own);
    let mut out = format!("{head}Content-Transfer-Encoding: base64\n");
    for (at, c) in encoded.chars().enumerate() {
        if at % 76 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out
}

/// The same for the same parts, and in none of them.
fn boundary(parts: &[&str]) -> String {
    let mut boundary = format!("ha-{}", spec_hash(&parts.concat().into()));
    while parts.iter().any(|part| part.contains(&boundary)) {
        boundary = format!("ha-{}", spec_hash(&boundary.into()));
    }
    boundary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_ours_stays_as_it_is() {
        assert_eq!(join("#cloud-config\n{}\n", None), "#cloud-config\n{}\n");
        assert!(join("#cloud-config\n# Mime-Version: 1\n", None).starts_with("Content-Type: multipart/mixed"));
    }

    #[test]
    fn a_plain_text_of_the_user_is_seen_as_it_was_written() {
        let own = "#!/bin/sh\necho '--' \"$1\"\n";
        let joined = join("#cloud-config\n{}\n", Some(own));
        assert!(joined.contains(&format!("\n\n{own}\n--ha-")), "{joined}");
        let umlaut = join("#cloud-config\n{}\n", Some("#!/bin/sh\necho \u{e4}\n"));
        assert!(umlaut.contains("base64") && umlaut.is_ascii(), "{umlaut}");
    }

    #[test]
    fn several_parts_of_the_user_keep_their_own_heads() {
        let own = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n--b\n\n#!/bin/sh\n--b--\n";
        let joined = join("#cloud-config\n{}\n", Some(own));
        assert!(joined.contains(&format!("\n{own}\n--ha-")), "{joined}");
    }

    #[test]
    fn no_part_holds_the_boundary() {
        let ours = "#cloud-config\n{}\n";
        let first = boundary(&[ours, ""]);
        let other = boundary(&[&format!("{ours}{first}"), ""]);
        assert_ne!(first, other);
        // Even one that was made to: the boundary of a text cannot be in it.
        let own = format!("#!/bin/sh\n# {other}\n");
        assert!(!own.contains(&boundary(&[ours, &own])));
    }
}
