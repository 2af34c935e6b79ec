//! Errors, pages and what is asked for in queries.

use serde_json::{Map, Value, json};

use super::world::World;
use crate::form::{Form, Wrong};
use crate::wire::{Ask, Reply};

/// An error as the provider tells it: an id that goes with the status, and a message for people.
/// <https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/HTTP-Statuses>
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    id: &'static str,
    message: String,
    /// Told in the other shape, which tags have for what is malformed.
    of_tags: bool,
}

pub(crate) type Answer = Result<Reply, Problem>;

impl Problem {
    fn new(status: u16, id: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            id,
            message: message.into(),
            of_tags: false,
        }
    }

    pub(crate) fn of_tags(self) -> Self {
        Self {
            of_tags: self.status == 400,
            ..self
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "bad_request", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "unauthorized", "Unable to authenticate you")
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(403, "forbidden", message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, "not_found", "The resource you were accessing could not be found.")
    }

    pub(crate) fn method(method: &str) -> Self {
        Self::new(405, "method_not_allowed", format!("{method} is not allowed here"))
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "conflict", message)
    }

    pub(crate) fn precondition(message: &str) -> Self {
        Self::new(412, "precondition_failed", message)
    }

    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "unprocessable_entity", message)
    }

    /// Something else works on it: the same request is right a moment later.
    pub(crate) fn pending(what: &str) -> Self {
        Self::unprocessable(format!("{what} already has a pending event."))
    }

    pub(crate) fn too_many() -> Self {
        Self::new(429, "too_many_requests", "API Rate limit exceeded.")
    }

    pub(crate) fn not_here(ask: &Ask) -> Self {
        Self::new(
            501,
            "not_implemented",
            format!("the stand-in does not know {} {}", ask.method, ask.path),
        )
    }
}

impl From<Vec<Wrong>> for Problem {
    fn from(wrong: Vec<Wrong>) -> Self {
        let all: Vec<String> = wrong
            .iter()
            .map(|one| format!("{} {}", one.field, one.message))
            .collect();
        Self::unprocessable(all.join("; "))
    }
}

impl Problem {
    pub(crate) fn reply(self, request_id: String) -> Reply {
        if self.of_tags {
            let body = json!({"error": self.message, "messages": [], "root_causes": []});
            return Reply::json(self.status, body);
        }
        Reply::json(
            self.status,
            json!({"id": self.id, "message": self.message, "request_id": request_id}),
        )
    }
}

/// What the provider has and the stand-in has not: never taken for an answer of the provider.
pub(crate) fn not_here(_: &mut World, ask: &Ask) -> Answer {
    Err(Problem::not_here(ask))
}

pub(crate) fn form(ask: &Ask) -> Result<Form, Problem> {
    let form = if ask.body.is_empty() { None } else { Form::of(&ask.body) };
    form.ok_or_else(|| Problem::bad_request("Error parsing JSON in request body"))
}

/// The number a parameter has, within these; the default where it is not given.
fn number(ask: &Ask, name: &str, default: u64, most: u64) -> Result<u64, Problem> {
    match ask.first(name) {
        None => Ok(default),
        Some(text) => match text.parse::<u64>() {
            Ok(number) if (1..=most).contains(&number) => Ok(number),
            _ => Err(Problem::bad_request(format!("{name} must be between 1 and {most}"))),
        },
    }
}

/// Where it is given, it is one of these.
pub(crate) fn allowed(ask: &Ask, name: &str, values: &[&str]) -> Result<(), Problem> {
    match ask.first(name) {
        Some(value) if !values.contains(&value) => Err(Problem::bad_request(format!(
            "{name} must be one of {}",
            values.join(", ")
        ))),
        _ => Ok(()),
    }
}

/// One page of what was found; only what is on it is put into words.
/// <https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Links-and-Pagination>
pub(crate) struct Page {
    page: u64,
    last: u64,
    total: usize,
    rows: Vec<Value>,
}

impl Page {
    pub(crate) fn of<T>(
        ask: &Ask,
        found: impl IntoIterator<Item = T>,
        render: impl Fn(T) -> Value,
    ) -> Result<Self, Problem> {
        let page = number(ask, "page", 1, i64::MAX as u64)?;
        let per_page = number(ask, "per_page", 20, 200)?;
        let found: Vec<T> = found.into_iter().collect();
        let total = found.len();
        let skip = usize::try_from((page - 1).saturating_mul(per_page)).unwrap_or(usize::MAX);
        Ok(Self {
            page,
            last: (total as u64).div_ceil(per_page).max(1),
            total,
            rows: found
                .into_iter()
                .skip(skip)
                .take(per_page as usize)
                .map(render)
                .collect(),
        })
    }

    /// Links are there only where there are more pages, and `next` ends with the last.
    pub(crate) fn reply(self, world: &mut World, ask: &Ask, many: &str) -> Answer {
        let mut pages = Map::new();
        let mut link = |rel: &str, page: u64| {
            pages.insert(rel.to_owned(), Value::from(address(ask, page)));
        };
        if self.page > 1 {
            link("first", 1);
            link("prev", self.page - 1);
        }
        if self.page < self.last {
            link("next", self.page + 1);
            link("last", self.last);
        }
        let links = if pages.is_empty() {
            json!({})
        } else {
            json!({ "pages": pages })
        };
        if self.page < self.last {
            world.shift_pages(&ask.path);
        }
        Ok(Reply::json(
            200,
            json!({many: self.rows, "links": links, "meta": {"total": self.total}}),
        ))
    }
}

/// The same request for another page.
fn address(ask: &Ask, page: u64) -> String {
    let others = ask.query.iter().filter(|(name, _)| name != "page").cloned();
    let query: Vec<(String, String)> = others.chain([("page".to_owned(), page.to_string())]).collect();
    let query = serde_urlencoded::to_string(query).unwrap_or_default();
    format!("http://{}{}?{query}", ask.host, ask.path)
}
