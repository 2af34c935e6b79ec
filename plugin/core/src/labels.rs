//! What may stand in a label or a tag, provider by provider.
//!
//! The keys differ as the providers' rules do (`ha/ws` at Hetzner, `ha:ws` at AWS, the tag `ha:ws:shop` at
//! DigitalOcean); what is written in them is the same everywhere, and must fit everywhere it is used.

use crate::names::ProviderName;

/// DigitalOcean carries key and value in one tag: `ha:region:` is the longest key there is.
const LONGEST_KEY_IN_TAG: usize = "ha:region:".len();

/// Whether `value` can be the value of a label at this provider; the error says what does not fit, in words for a
/// finding of `ha check`.
///
/// Sources: <https://docs.hetzner.cloud/#labels>,
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions>,
/// <https://docs.digitalocean.com/reference/api/reference/tags/>.
pub fn allowed(provider: ProviderName, value: &str) -> Result<(), String> {
    match provider {
        ProviderName::Local => Ok(()),
        ProviderName::Hetzner => hetzner_word(value, true),
        ProviderName::Aws => aws(value, 256),
        ProviderName::Digitalocean => {
            no_longer_than(value, 255 - LONGEST_KEY_IN_TAG)?;
            if value.is_empty() {
                return Err("is empty, and a tag ends with its value".into());
            }
            only(value, "letters, digits, `:`, `-` and `_`", |it| {
                it.is_ascii_alphanumeric() || ":-_".contains(it)
            })
        }
    }
}

/// Whether `key` can be the key of a label that a user adds at this provider. What begins with `ha/` or `ha:` is ours.
///
/// Sources as for [`allowed`].
pub fn allowed_key(provider: ProviderName, key: &str) -> Result<(), String> {
    if ["ha/", "ha:"].iter().any(|ours| key.starts_with(ours)) {
        return Err("begins like the labels that ha itself writes".into());
    }
    if key.is_empty() {
        return Err("is empty".into());
    }
    match provider {
        ProviderName::Local => Ok(()),
        ProviderName::Hetzner => {
            let Some((prefix, name)) = key.split_once('/') else {
                return hetzner_word(key, false);
            };
            if prefix == "hetzner.cloud" {
                return Err("begins with hetzner.cloud/, which Hetzner keeps for itself".into());
            }
            no_longer_than(prefix, 252)?;
            for part in prefix.split('.') {
                dns_label(part)?;
            }
            hetzner_word(name, false)
        }
        ProviderName::Aws if key.to_ascii_lowercase().starts_with("aws:") => {
            Err("begins with aws:, which AWS keeps for itself".into())
        }
        ProviderName::Aws => aws(key, 128),
        ProviderName::Digitalocean => allowed(provider, key),
    }
}

fn hetzner_word(text: &str, may_be_empty: bool) -> Result<(), String> {
    no_longer_than(text, 63)?;
    only(text, "letters, digits, `-`, `_` and `.`", |it| {
        it.is_ascii_alphanumeric() || "-_.".contains(it)
    })?;
    let ends = |end: Option<char>| end.is_some_and(|it| it.is_ascii_alphanumeric());
    match text {
        "" if may_be_empty => Ok(()),
        "" => Err("is empty".into()),
        _ if ends(text.chars().next()) && ends(text.chars().last()) => Ok(()),
        _ => Err("does not begin and end with a letter or a digit".into()),
    }
}

fn dns_label(text: &str) -> Result<(), String> {
    no_longer_than(text, 63)?;
    only(text, "lower-case letters, digits and `-`", |it| {
        it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-'
    })?;
    if text.is_empty() || text.starts_with('-') || text.ends_with('-') {
        return Err("has a part that does not begin and end with a letter or a digit".into());
    }
    Ok(())
}

fn aws(text: &str, longest: usize) -> Result<(), String> {
    no_longer_than(text, longest)?;
    only(text, "letters, digits, spaces and `+ - = . _ : / @`", |it| {
        it.is_alphanumeric() || " +-=._:/@".contains(it)
    })
}

fn no_longer_than(text: &str, most: usize) -> Result<(), String> {
    let length = text.chars().count();
    if length > most {
        return Err(format!("has {length} characters, and {most} are allowed"));
    }
    Ok(())
}

fn only(text: &str, what: &str, fits: impl Fn(char) -> bool) -> Result<(), String> {
    match text.chars().find(|it| !fits(*it)) {
        Some(other) => Err(format!("has `{other}`, and only {what} are allowed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOUDS: [ProviderName; 3] = [ProviderName::Hetzner, ProviderName::Aws, ProviderName::Digitalocean];

    #[test]
    fn names_of_the_example_fit_everywhere() {
        for value in ["shop", "us-east", "us-app-1", "0123456789abcdef", "true"] {
            for provider in CLOUDS {
                assert_eq!(allowed(provider, value), Ok(()), "{value} at {provider}");
            }
        }
    }

    #[test]
    fn each_rule_says_what_does_not_fit() {
        let says = |provider, value: &str| allowed(provider, value).expect_err(value);
        assert_eq!(
            says(ProviderName::Hetzner, "a b"),
            "has ` `, and only letters, digits, `-`, `_` and `.` are allowed"
        );
        assert!(says(ProviderName::Hetzner, "-a").starts_with("does not begin"));
        assert_eq!(
            says(ProviderName::Hetzner, &"a".repeat(64)),
            "has 64 characters, and 63 are allowed"
        );
        assert!(says(ProviderName::Digitalocean, "a.b").contains("`.`"));
        assert!(says(ProviderName::Digitalocean, "").contains("empty"));
        assert!(says(ProviderName::Aws, "a,b").contains("`,`"));
        assert_eq!(allowed(ProviderName::Aws, "München + 1"), Ok(()));
    }

    #[test]
    fn reserved_keys_are_refused() {
        for (provider, key) in [
            (ProviderName::Hetzner, "ha/ws"),
            (ProviderName::Aws, "ha:ws"),
            (ProviderName::Hetzner, "hetzner.cloud/x"),
            (ProviderName::Aws, "AWS:x"),
            (ProviderName::Hetzner, "UPPER/x"),
            (ProviderName::Hetzner, "a..b/x"),
            (ProviderName::Hetzner, "a/"),
            (ProviderName::Aws, ""),
        ] {
            assert!(allowed_key(provider, key).is_err(), "{key} at {provider}");
        }
        assert_eq!(allowed_key(ProviderName::Hetzner, "example.com/my"), Ok(()));
        assert_eq!(allowed_key(ProviderName::Aws, "cost centre"), Ok(()));
    }

    proptest! {
        /// Written down a second time, as the providers' pages have it.
        #[test]
        fn what_fits_is_what_the_documentation_says(value in "[a-zA-Z0-9:._ /@é-]{0,70}") {
            let chars: Vec<char> = value.chars().collect();
            let edge = |at: Option<&char>| at.is_none_or(char::is_ascii_alphanumeric);
            let hetzner = chars.len() <= 63
                && chars.iter().all(|it| matches!(it, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.'))
                && edge(chars.first()) && edge(chars.last());
            prop_assert_eq!(allowed(ProviderName::Hetzner, &value).is_ok(), hetzner);
            let digitalocean = !chars.is_empty()
                && chars.iter().all(|it| matches!(it, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | ':'));
            prop_assert_eq!(allowed(ProviderName::Digitalocean, &value).is_ok(), digitalocean);
            prop_assert!(allowed(ProviderName::Aws, &value).is_ok());
        }

        #[test]
        fn every_name_that_a_workspace_can_have_fits_everywhere(name in "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?") {
            for provider in CLOUDS {
                prop_assert_eq!(allowed(provider, &name), Ok(()));
                // A server's own name has its number added.
                prop_assert_eq!(allowed(provider, &format!("{name}-100")), Ok(()));
            }
        }
    }
}
