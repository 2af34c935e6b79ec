//! Which words the contracts of a workspace take. They are written down a second time here, and a test of the
//! evaluator holds the two against each other.

pub(super) fn is_name(name: &str, longest: usize) -> bool {
    let letters = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    !name.is_empty() && name.len() <= longest && ends && name.chars().all(letters)
}

pub(super) fn is_slug(text: &str) -> bool {
    let letter = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "._-".contains(it);
    text.starts_with(|it: char| it.is_ascii_lowercase() || it.is_ascii_digit()) && text.chars().all(letter)
}

/// `t3.medium`
pub(super) fn is_instance_type(text: &str) -> bool {
    let word = |it: &str| is_slug(it) && !it.contains(['_', '.']);
    text.split_once('.').is_some_and(|(family, size)| {
        word(family) && family.starts_with(|it: char| it.is_ascii_lowercase()) && word(size)
    })
}

/// `db.t3.small`
pub(super) fn is_database_class(text: &str) -> bool {
    text.strip_prefix("db.")
        .is_some_and(|rest| is_instance_type(rest) && !rest.contains('-'))
}

pub(super) fn is_ami(text: &str) -> bool {
    let digits = text.strip_prefix("ami-").unwrap_or_default();
    let hexadecimal = |it: char| it.is_ascii_digit() || ('a'..='f').contains(&it);
    (8..=17).contains(&digits.len()) && digits.chars().all(hexadecimal)
}
