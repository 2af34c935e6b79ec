//! Labels and label selectors.
//! <https://docs.hetzner.cloud/reference/cloud#labels>, <https://docs.hetzner.cloud/reference/cloud#label-selector>

use super::kinds::Labels;
use super::reply::Problem;
use crate::form::Form;

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last))
        if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && text.len() <= 63
        && bytes.iter().all(|byte| inner(*byte))
}

fn is_subdomain(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some(("hetzner.cloud", _)) => false,
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
    }
}

fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// The `labels` of a body; what breaks the rules is a complaint.
pub(crate) fn read(form: &mut Form) -> Option<Labels> {
    let labels = form.map("labels")?;
    for (key, value) in &labels {
        if !is_key(key) {
            form.wrong("labels", format!("label key '{key}' is not valid"));
        } else if !is_value(value) {
            form.wrong("labels", format!("label value of '{key}' is not valid"));
        }
    }
    Some(labels)
}

#[derive(Debug, PartialEq)]
enum Term {
    Is(String, String),
    Not(String, String),
    Has(String),
    Lacks(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// All terms hold.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Selector(Vec<Term>);

impl Selector {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::field("label_selector", "is not a label selector");
        let mut terms = Vec::new();
        for part in split(text) {
            terms.push(term(part.trim()).ok_or_else(wrong)?);
        }
        Ok(Self(terms))
    }

    pub(crate) fn holds(&self, labels: &Labels) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => labels.get(key) == Some(value),
            Term::Not(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::Lacks(key) => !labels.contains_key(key),
            Term::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        })
    }
}

/// Whether resources with these labels are chosen; a selector that cannot be read chooses nothing.
pub(crate) fn chosen(selector: &str, labels: &Labels) -> bool {
    Selector::parse(selector).is_ok_and(|selector| selector.holds(labels))
}

/// At commas that are not inside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0u32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn term(text: &str) -> Option<Term> {
    let key = |key: &str| is_key(key.trim()).then(|| key.trim().to_owned());
    let value = |value: &str| is_value(value.trim()).then(|| value.trim().to_owned());
    let list = |text: &str| {
        let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        inside.split(',').map(value).collect::<Option<Vec<_>>>()
    };
    if let Some((left, right)) = text.split_once("!=") {
        return Some(Term::Not(key(left)?, value(right)?));
    }
    if let Some((left, right)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Some(Term::Is(key(left)?, value(right)?));
    }
    if let Some((left, right)) = text.split_once(" notin") {
        return Some(Term::NotIn(key(left)?, list(right)?));
    }
    if let Some((left, right)) = text.split_once(" in") {
        return Some(Term::In(key(left)?, list(right)?));
    }
    match text.strip_prefix('!') {
        Some(rest) => Some(Term::Lacks(key(rest)?)),
        None => Some(Term::Has(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn selectors_choose_as_documented() {
        let shop = labels(&[("ha/ws", "shop"), ("env", "production"), ("just-a-key", "")]);
        for (text, chosen) in [
            ("ha/ws=shop", true),
            ("ha/ws==shop", true),
            ("ha/ws=other", false),
            ("env!=testing", true),
            ("just-a-key", true),
            ("!type", true),
            ("!env", false),
            ("env in (testing,production)", true),
            ("env in (testing, staging)", false),
            ("env notin (testing,staging)", true),
            ("missing notin (a)", true),
            ("env=production,ha/ws in (shop,x),!type", true),
        ] {
            assert_eq!(Selector::parse(text).expect(text).holds(&shop), chosen, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "=a", "ha:ws=shop", "a in b", "a=b,,c", "hetzner.cloud/x"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_and_values_keep_to_their_rules() {
        assert!(is_key("ha/ws") && is_key("example.com/my") && is_key("just-a-key"));
        assert!(!is_key("ha:ws") && !is_key("/x") && !is_key("-a") && !is_key(&"a".repeat(64)));
        assert!(is_value("") && is_value("a.b_c-d") && !is_value("a b") && !is_value(&"a".repeat(64)));
    }
}
