//! Errors, pages and what is asked for in queries.

use serde_json::{Value, json};

use super::world::World;
use crate::form::{Form, Wrong};
use crate::wire::{Ask, Reply};

/// An error as the provider tells it: known by its code, not by its status.
/// <https://docs.hetzner.cloud/reference/cloud#errors>
#[derive(Debug)]
pub(crate) struct Problem {
    status: u16,
    code: String,
    message: String,
    details: Value,
}

pub(crate) type Answer = Result<Reply, Problem>;

impl Problem {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            details: Value::Null,
        }
    }

    fn with(self, details: Value) -> Self {
        Self { details, ..self }
    }

    pub(crate) fn not_here(ask: &Ask) -> Self {
        Self::new(
            501,
            "unavailable",
            format!("the stand-in does not know {} {}", ask.method, ask.path),
        )
    }

    pub(crate) fn not_found(what: &str, which: &str) -> Self {
        Self::new(404, "not_found", format!("{what} with ID '{which}' not found"))
    }

    pub(crate) fn field(field: &str, message: &str) -> Self {
        Self::from(vec![Wrong {
            field: field.to_owned(),
            message: message.to_owned(),
        }])
    }

    pub(crate) fn not_unique(field: &str, message: impl Into<String>) -> Self {
        Self::new(409, "uniqueness_error", message).with(json!({"fields": [{"name": field}]}))
    }

    pub(crate) fn limit(kind: &str) -> Self {
        let limits = json!({"limits": [{"name": format!("{kind}_limit")}]});
        Self::new(403, "resource_limit_exceeded", format!("{kind} limit exceeded")).with(limits)
    }

    pub(crate) fn locked(what: &str) -> Self {
        Self::new(423, "locked", format!("{what} is locked"))
    }

    pub(crate) fn conflict() -> Self {
        Self::new(
            409,
            "conflict",
            "the resource has changed during the request, please retry",
        )
    }

    pub(crate) fn protected(what: &str) -> Self {
        Self::new(423, "protected", format!("{what} deletion is protected"))
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(412, "resource_unavailable", message)
    }

    pub(crate) fn unprocessable(code: &str, message: impl Into<String>) -> Self {
        Self::new(422, code, message)
    }
}

impl From<Vec<Wrong>> for Problem {
    fn from(wrong: Vec<Wrong>) -> Self {
        let message = wrong.first().map_or_else(String::new, |first| {
            format!("invalid input in field '{}': {}", first.field, first.message)
        });
        let fields: Vec<Value> = wrong
            .iter()
            .map(|one| json!({"name": one.field, "messages": [one.message]}))
            .collect();
        Self::new(422, "invalid_input", message).with(json!({ "fields": fields }))
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let error = json!({"code": problem.code, "message": problem.message, "details": problem.details});
        Self::json(problem.status, json!({ "error": error }))
    }
}

/// What the provider has and the stand-in has not: never taken for an answer of the provider.
pub(crate) fn not_here(_: &mut World, ask: &Ask) -> Answer {
    Err(Problem::not_here(ask))
}

pub(crate) fn form(ask: &Ask) -> Result<Form, Problem> {
    let form = if ask.body.is_empty() { None } else { Form::of(&ask.body) };
    form.ok_or_else(|| Problem::new(400, "json_error", "invalid JSON input"))
}

/// For actions that take no fields: nothing, or an empty object.
pub(crate) fn no_fields(ask: &Ask) -> Result<(), Problem> {
    let form = Form::of(&ask.body).ok_or_else(|| Problem::new(400, "json_error", "invalid JSON input"))?;
    Ok(form.finish()?)
}

fn number(ask: &Ask, name: &str) -> Result<Option<u64>, Problem> {
    let wrong = || Problem::field(name, "must be a number greater than 0");
    // 64 bits with a sign, as the description says.
    let read = |text: &str| text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    ask.first(name).map(|text| read(text).ok_or_else(wrong)).transpose()
}

/// Every value of this parameter is one of these.
pub(crate) fn allowed(ask: &Ask, name: &str, values: &[&str]) -> Result<(), Problem> {
    if ask.all(name).all(|value| values.contains(&value)) {
        return Ok(());
    }
    Err(Problem::field(name, &format!("must be one of {}", values.join(", "))))
}

/// Whether a resource with this value passes a filter that may be given several times, or not at all.
pub(crate) fn passes(ask: &Ask, name: &str, value: &str) -> bool {
    let mut wanted = ask.all(name).peekable();
    wanted.peek().is_none() || wanted.any(|one| one == value)
}

/// The fields to sort by, with `true` for descending.
pub(crate) fn sorting<'a>(ask: &'a Ask, fields: &[&str]) -> Result<Vec<(&'a str, bool)>, Problem> {
    ask.all("sort")
        .map(|text| {
            let (field, descending) = match text.split_once(':') {
                None => (text, false),
                Some((field, "asc")) => (field, false),
                Some((field, "desc")) => (field, true),
                Some(_) => ("", false),
            };
            if fields.contains(&field) {
                return Ok((field, descending));
            }
            Err(Problem::field("sort", &format!("must be one of {}", fields.join(", "))))
        })
        .collect()
}

/// Which page of how many is asked for, and what says so in the answer.
#[derive(Debug)]
pub(crate) struct Paging {
    page: u64,
    per_page: u64,
}

impl Paging {
    /// <https://docs.hetzner.cloud/reference/cloud#pagination>: 25 a page, 50 at most; more is taken as 50.
    pub(crate) fn of(ask: &Ask) -> Result<Self, Problem> {
        let page = number(ask, "page")?.unwrap_or(1);
        let per_page = number(ask, "per_page")?.unwrap_or(25);
        if page == 0 || per_page == 0 {
            let field = if page == 0 { "page" } else { "per_page" };
            return Err(Problem::field(field, "must be a number greater than 0"));
        }
        Ok(Self {
            page,
            per_page: per_page.min(50),
        })
    }

    fn last(&self, total: usize) -> u64 {
        (total as u64).div_ceil(self.per_page).max(1)
    }

    pub(crate) fn has_more(&self, total: usize) -> bool {
        self.page < self.last(total)
    }

    pub(crate) fn cut<T>(&self, all: Vec<T>) -> Vec<T> {
        let skip = (self.page - 1).saturating_mul(self.per_page);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        all.into_iter().skip(skip).take(self.per_page as usize).collect()
    }

    pub(crate) fn reply(&self, many: &str, rows: Vec<Value>, total: usize) -> Reply {
        let last = self.last(total);
        let previous = (self.page > 1).then(|| self.page - 1);
        let next = (self.page < last).then(|| self.page + 1);
        let pagination = json!({
            "page": self.page,
            "per_page": self.per_page,
            "previous_page": previous,
            "next_page": next,
            "last_page": last,
            "total_entries": total,
        });
        let link = |page: u64, rel: &str| {
            let path = format!(
                "https://api.hetzner.cloud/v1/{many}?page={page}&per_page={}",
                self.per_page
            );
            format!("<{path}>; rel=\"{rel}\"")
        };
        let links: Vec<String> = [(previous, "prev"), (next, "next"), (Some(last), "last")]
            .into_iter()
            .filter_map(|(page, rel)| page.map(|page| link(page, rel)))
            .collect();
        Reply::json(200, json!({many: rows, "meta": {"pagination": pagination}})).header("Link", links.join(", "))
    }
}
