//! The little YAML that a cloud-config is written in: every text comes back as it was, whatever is in it.

/// A text on one line, in double quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            _ => match u32::from(c) {
                code @ ..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push('"');
    out
}

/// A text below its key, indented by so many columns where it can be read that way, quoted where it cannot. It follows
/// the key's colon and ends the line.
pub(super) fn block(text: &str, indent: usize) -> String {
    if !is_literal(text) {
        return format!(" {}\n", quoted(text));
    }
    let mut out = String::from(" |\n");
    for line in text.lines() {
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// A list on one line: `["sh", "-c"]`.
pub(super) fn list(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

/// A literal block keeps it: lines of printable ASCII, the first of them not indented, and one line end after the last.
fn is_literal(text: &str) -> bool {
    let printable = |c: char| matches!(c, '\n' | '\t' | ' '..='~');
    text.ends_with('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_well_is_a_block() {
        assert_eq!(block("a: #b\n\n  \"c\n", 4), " |\n    a: #b\n\n      \"c\n");
        for hostile in [
            "",
            "a",
            "a\n\n",
            " a\n",
            "\na\n",
            "a\rb\n",
            "\u{e4}\n",
            "a\u{85}\n",
            "a\u{7f}\n",
        ] {
            assert!(block(hostile, 4).starts_with(" \""), "{hostile:?}");
        }
    }

    #[test]
    fn what_does_not_is_quoted_in_plain_characters() {
        assert_eq!(quoted("a\"b\\c\n: #'"), r#""a\"b\\c\n: #'""#);
        assert_eq!(quoted("\t\u{85}\u{2028}\u{1f600}"), r#""\x09\x85\u2028\U0001f600""#);
        assert_eq!(list(&["sh", "a b"]), r#"["sh", "a b"]"#);
    }
}
