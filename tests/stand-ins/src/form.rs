//! Reading a JSON body field by field; everything wrong with it is told at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// One complaint about a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) field: String,
    pub(crate) message: String,
}

/// An object of a body. Readers return what is there and remember what is wrong; [`Form::finish`] tells.
/// Until then the values stand in for missing ones and must not be acted upon.
#[derive(Debug)]
pub(crate) struct Form {
    place: String,
    fields: Map<String, Value>,
    known: BTreeSet<&'static str>,
    wrong: Vec<Wrong>,
}

impl Form {
    /// None where the body is no JSON object. An empty body is an empty object.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        if body.is_empty() {
            return Some(Self::within(String::new(), Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Some(Self::within(String::new(), fields)),
            _ => None,
        }
    }

    fn within(place: String, fields: Map<String, Value>) -> Self {
        Self {
            place,
            fields,
            known: BTreeSet::new(),
            wrong: Vec::new(),
        }
    }

    fn at(&self, name: &str) -> String {
        if self.place.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.place)
        }
    }

    pub(crate) fn wrong(&mut self, name: &str, message: impl Into<String>) {
        let field = self.at(name);
        self.wrong.push(Wrong {
            field,
            message: message.into(),
        });
    }

    /// As [`Form::wrong`] where the rule does not hold.
    pub(crate) fn rule(&mut self, holds: bool, name: &str, message: &str) {
        if !holds {
            self.wrong(name, message);
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Fields that may be sent and mean nothing: what is read may be written back whole.
    pub(crate) fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// `null` counts as left out. Without this call it is of the wrong type.
    pub(crate) fn nullable(&mut self, name: &'static str) -> bool {
        self.known.insert(name);
        let is_null = self.fields.get(name).is_some_and(Value::is_null);
        if is_null {
            self.fields.remove(name);
        }
        is_null
    }

    pub(crate) fn raw(&mut self, name: &'static str) -> Option<Value> {
        self.known.insert(name);
        self.fields.get(name).cloned()
    }

    fn read<T>(&mut self, name: &'static str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.raw(name)?;
        let read = read(&value);
        if read.is_none() {
            self.wrong(name, format!("must be {what}"));
        }
        read
    }

    fn need<T: Default>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> Option<T>) -> T {
        if !self.fields.contains_key(name) {
            self.known.insert(name);
            self.wrong(name, "is required");
            return T::default();
        }
        read(self).unwrap_or_default()
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.read(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// Text in the form of a UUID.
    pub(crate) fn uuid(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name)?;
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        let digits = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if lengths == [8, 4, 4, 4, 12] && digits {
            return Some(text);
        }
        self.wrong(name, "must be a UUID");
        None
    }

    pub(crate) fn need_text(&mut self, name: &'static str) -> String {
        self.need(name, |form| form.text(name))
    }

    pub(crate) fn whole(&mut self, name: &'static str) -> Option<i64> {
        self.read(name, "an integer", whole)
    }

    pub(crate) fn need_whole(&mut self, name: &'static str) -> i64 {
        self.need(name, |form| form.whole(name))
    }

    /// A whole number between these, or a complaint.
    pub(crate) fn between(&mut self, name: &'static str, least: i64, most: i64) -> Option<i64> {
        let value = self.whole(name)?;
        if (least..=most).contains(&value) {
            return Some(value);
        }
        self.wrong(name, format!("must be between {least} and {most}"));
        None
    }

    pub(crate) fn need_between(&mut self, name: &'static str, least: i64, most: i64) -> i64 {
        self.need(name, |form| form.between(name, least, most))
    }

    /// A number of a resource: whole and positive.
    pub(crate) fn id(&mut self, name: &'static str) -> Option<u64> {
        self.read(name, "an id", |value| {
            whole(value).and_then(|id| u64::try_from(id).ok())
        })
    }

    pub(crate) fn need_id(&mut self, name: &'static str) -> u64 {
        self.need(name, |form| form.id(name))
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, "a boolean", Value::as_bool)
    }

    pub(crate) fn need_flag(&mut self, name: &'static str) -> bool {
        self.need(name, |form| form.flag(name))
    }

    /// One of these, or a complaint.
    pub(crate) fn one_of(&mut self, name: &'static str, allowed: &[&'static str]) -> Option<&'static str> {
        let value = self.text(name)?;
        let found = allowed.iter().copied().find(|one| *one == value);
        if found.is_none() {
            self.wrong(name, format!("must be one of {}", allowed.join(", ")));
        }
        found
    }

    pub(crate) fn need_one_of(&mut self, name: &'static str, allowed: &[&'static str]) -> &'static str {
        self.need(name, |form| form.one_of(name, allowed))
    }

    /// Text, or a whole number written out: providers take "id or name" in one field.
    pub(crate) fn id_or_name(&mut self, name: &'static str) -> Option<String> {
        self.read(name, "an id or a name", id_or_name)
    }

    pub(crate) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        self.list(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(crate) fn ids(&mut self, name: &'static str) -> Option<Vec<u64>> {
        self.list(name, "an id", |value| {
            whole(value).and_then(|id| u64::try_from(id).ok())
        })
    }

    pub(crate) fn ids_or_names(&mut self, name: &'static str) -> Option<Vec<String>> {
        self.list(name, "an id or a name", id_or_name)
    }

    fn list<T>(&mut self, name: &'static str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
        let values = self.read(name, "a list", |value| value.as_array().cloned())?;
        let read: Option<Vec<T>> = values.iter().map(read).collect();
        if read.is_none() {
            self.wrong(name, format!("every entry must be {what}"));
        }
        read
    }

    pub(crate) fn map(&mut self, name: &'static str) -> Option<BTreeMap<String, String>> {
        let fields = self.read(name, "an object", |value| value.as_object().cloned())?;
        let read: Option<BTreeMap<String, String>> = fields
            .into_iter()
            .map(|(key, value)| Some((key, value.as_str()?.to_owned())))
            .collect();
        if read.is_none() {
            self.wrong(name, "every value must be a string");
        }
        read
    }

    /// A nested object, read by the closure.
    pub(crate) fn group<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Form) -> T) -> Option<T> {
        let fields = self.read(name, "an object", |value| value.as_object().cloned())?;
        let mut inner = Self::within(self.at(name), fields);
        let read = read(&mut inner);
        self.wrong.extend(inner.complaints());
        Some(read)
    }

    pub(crate) fn need_group<T: Default>(&mut self, name: &'static str, read: impl FnOnce(&mut Form) -> T) -> T {
        self.need(name, |form| form.group(name, read))
    }

    /// A list of objects, each read by the closure.
    pub(crate) fn each<T>(&mut self, name: &'static str, mut read: impl FnMut(&mut Form) -> T) -> Option<Vec<T>> {
        let values = self.read(name, "a list", |value| value.as_array().cloned())?;
        let mut all = Vec::with_capacity(values.len());
        for (n, value) in values.into_iter().enumerate() {
            let place = format!("{}.{n}", self.at(name));
            match value {
                Value::Object(fields) => {
                    let mut inner = Self::within(place, fields);
                    all.push(read(&mut inner));
                    self.wrong.extend(inner.complaints());
                }
                _ => self.wrong.push(Wrong {
                    field: place,
                    message: "must be an object".into(),
                }),
            }
        }
        Some(all)
    }

    pub(crate) fn need_each<T>(&mut self, name: &'static str, read: impl FnMut(&mut Form) -> T) -> Vec<T> {
        self.need(name, |form| form.each(name, read))
    }

    fn complaints(mut self) -> Vec<Wrong> {
        let unknown: Vec<String> = self
            .fields
            .keys()
            .filter(|name| !self.known.contains(name.as_str()))
            .cloned()
            .collect();
        for name in unknown {
            self.wrong(&name, "is not a known field");
        }
        self.wrong
    }

    /// Fields that nobody asked for are wrong as well.
    pub(crate) fn finish(self) -> Result<(), Vec<Wrong>> {
        let wrong = self.complaints();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// JSON knows one kind of number: 3.0 is whole.
fn whole(value: &Value) -> Option<i64> {
    let exact = |number: f64| number.fract() == 0.0 && number.abs() < 9.007_199_254_740_992e15;
    value.as_i64().or_else(|| {
        value
            .as_f64()
            .filter(|number| exact(*number))
            .map(|number| number as i64)
    })
}

fn id_or_name(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Number(_) => whole(value).map(|id| id.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_told_at_once_with_its_place() {
        let mut form =
            Form::of(br#"{"size": "10", "rules": [{"port": 1, "prot": 2}], "extra": 1}"#).expect("an object");
        form.need_text("name");
        form.whole("size");
        form.each("rules", |rule| rule.text("port"));
        let wrong: Vec<String> = form
            .finish()
            .expect_err("complaints")
            .into_iter()
            .map(|wrong| wrong.field)
            .collect();
        assert_eq!(wrong, ["name", "size", "rules.0.port", "rules.0.prot", "extra"]);
    }

    #[test]
    fn null_is_left_out_only_where_it_may_be() {
        let mut form = Form::of(br#"{"a": null, "b": null}"#).expect("an object");
        assert!(form.nullable("a"));
        assert_eq!((form.text("a"), form.text("b")), (None, None));
        assert_eq!(form.finish().expect_err("complaints").len(), 1);
    }
}
