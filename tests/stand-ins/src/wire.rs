//! One request as it came, and the answer to it; the same for every provider.

use bytes::Bytes;
use serde_json::Value;

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    /// As it came, still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) bearer: Option<String>,
    /// Whom the caller takes us for: links lead back there.
    pub(crate) host: String,
    pub(crate) body: Bytes,
    /// The parts of the path that the route leaves open, decoded. Filled by [`route`].
    pub(crate) open: Vec<String>,
}

impl Ask {
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter that may be given more than once.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The nth open part of the path; a route that was matched has it.
    pub(crate) fn part(&self, n: usize) -> &str {
        self.open.get(n).map_or("", String::as_str)
    }

    /// The nth open part as a number of a resource.
    pub(crate) fn id(&self, n: usize) -> Option<u64> {
        self.part(n).parse().ok().filter(|id| *id > 0)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Some(body),
        }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A path with open parts (`{}`), a method, and who answers.
pub(crate) struct Route<F> {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) act: F,
}

pub(crate) const fn on<F>(method: &'static str, path: &'static str, act: F) -> Route<F> {
    Route { method, path, act }
}

pub(crate) enum Found<F> {
    Act(F, Vec<String>),
    /// The path exists, with these methods only.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// The path written out most wins: `/servers/actions` over `/servers/{}`.
pub(crate) fn route<F: Copy>(routes: &[Route<F>], method: &str, path: &str) -> Found<F> {
    let matching = || routes.iter().filter_map(|one| Some((one, open_parts(one.path, path)?)));
    let Some(least) = matching().map(|(_, open)| open.len()).min() else {
        return Found::Nothing;
    };
    let mut methods = Vec::new();
    for (one, open) in matching().filter(|(_, open)| open.len() == least) {
        if one.method == method {
            return Found::Act(one.act, open);
        }
        methods.push(one.method);
    }
    Found::OtherMethods(methods)
}

fn open_parts(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut open = Vec::new();
    let mut wanted = pattern.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(open),
            (Some("{}"), Some(part)) if !part.is_empty() => {
                open.push(
                    percent_encoding::percent_decode_str(part)
                        .decode_utf8_lossy()
                        .into_owned(),
                );
            }
            (Some(a), Some(b)) if a == b => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_parts_are_decoded_and_the_lengths_must_agree() {
        assert_eq!(
            open_parts("/tags/{}", "/tags/ha%3Aws%3Ashop"),
            Some(vec!["ha:ws:shop".into()])
        );
        assert_eq!(open_parts("/tags/{}", "/tags/"), None);
        assert_eq!(open_parts("/tags/{}", "/tags/a/b"), None);
    }
}
