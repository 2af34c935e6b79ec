//! Nickel, as a person would write it.

use serde_json::Value;

/// Longer lines are broken.
const WIDTH: usize = 110;

/// Words that are no names of fields without quotes. <https://nickel-lang.org/user-manual/syntax>
const KEYWORDS: [&str; 20] = [
    "and",
    "as",
    "else",
    "false",
    "forall",
    "fun",
    "if",
    "import",
    "in",
    "include",
    "let",
    "match",
    "not_exported",
    "null",
    "optional",
    "or",
    "rec",
    "then",
    "true",
    "priority",
];

/// A text with everything escaped that means something to Nickel.
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '%' if letters.peek() == Some(&'{') => out.push_str("\\%"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The name of a field, in quotes where it needs them.
fn key(name: &str) -> String {
    let plain = name.starts_with(|it: char| it.is_ascii_lowercase())
        && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_')
        && !KEYWORDS.contains(&name);
    if plain { name.to_owned() } else { string(name) }
}

/// On one line.
fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        Value::Array(all) => format!("[{}]", all.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| format!("{} = {}", key(name), inline(value));
            format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Within a line that begins at `column`; broken where it would be too long.
fn value(value: &Value, column: usize, out: &mut String) {
    let short = inline(value);
    if column + short.len() <= WIDTH {
        out.push_str(&short);
        return;
    }
    match value {
        Value::Array(all) if !all.is_empty() => {
            out.push_str("[\n");
            for it in all {
                indent(column + 2, out);
                self::value(it, column + 2, out);
                out.push_str(",\n");
            }
            indent(column, out);
            out.push(']');
        }
        Value::Object(all) if !all.is_empty() => {
            let all: Vec<(String, Value)> = all.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            record(&all, column, out);
        }
        _ => out.push_str(&short),
    }
}

/// In the order in which the fields are given, which is no matter to Nickel and to a reader is.
fn record(fields: &[(String, Value)], column: usize, out: &mut String) {
    out.push_str("{\n");
    for (name, value) in fields {
        indent(column + 2, out);
        out.push_str(&key(name));
        out.push_str(" = ");
        self::value(value, column + 2, out);
        out.push_str(",\n");
    }
    indent(column, out);
    out.push('}');
}

fn indent(column: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', column));
}

/// `network = digitalocean.VPC & { … },` at `column`, with its end of line.
pub(super) fn resource(field: &str, kind: &str, fields: &[(String, Value)], column: usize) -> String {
    let mut out = String::new();
    indent(column, &mut out);
    out.push_str(&format!("{} = {kind} & ", key(field)));
    let each = fields
        .iter()
        .map(|(name, value)| format!("{} = {}", key(name), inline(value)));
    let short = format!("{{ {} }}", each.collect::<Vec<_>>().join(", "));
    let flat = fields
        .iter()
        .all(|(_, value)| !matches!(value, Value::Object(_) | Value::Array(_)));
    if flat && out.len() + short.len() < WIDTH {
        out.push_str(&short);
    } else {
        record(fields, column, &mut out);
    }
    out.push_str(",\n");
    out
}

/// Every line of `text` as a comment at `column`. Nothing in it can end the comment.
pub(super) fn comment(text: &str, column: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        indent(column, &mut out);
        out.push_str("# ");
        // A line of Nickel ends where an editor thinks it does, and names come from people.
        out.extend(line.chars().filter(|it| !it.is_control()));
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_means_something_to_nickel_is_escaped() {
        assert_eq!(string("a \"b\" \\ %{c} 100% \n"), r#""a \"b\" \\ \%{c} 100% \n""#);
        assert_eq!(key("in"), "\"in\"");
        assert_eq!(key("cost-center"), "\"cost-center\"");
        assert_eq!(key("size_gb"), "size_gb");
    }

    #[test]
    fn short_records_stay_on_their_line_and_long_ones_are_broken() {
        let fields = |range: &str| {
            vec![
                ("name".to_owned(), json!("us-net")),
                ("ip_range".to_owned(), json!(range)),
            ]
        };
        assert_eq!(
            resource("network", "aws.VPC", &fields("10.0.0.0/16"), 2),
            "  network = aws.VPC & { name = \"us-net\", ip_range = \"10.0.0.0/16\" },\n"
        );
        let long = resource("network", "aws.VPC", &fields(&"x".repeat(100)), 2);
        assert_eq!(long.lines().count(), 4, "{long}");
    }

    #[test]
    fn a_comment_stays_one() {
        assert_eq!(comment("a\nb\u{b}c\r}", 2), "  # a\n  # bc}\n");
    }
}
