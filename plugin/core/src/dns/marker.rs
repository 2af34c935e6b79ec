//! What says whose a record is: `"ha ws=shop type=A set=us-east spec=0123456789abcdef"`, a line of the TXT record beside it.

use super::record::{Policy, Record, Target};

/// Before the name that it is about. Hosts never begin with an underscore, so nobody else has that name by accident.
/// Source: RFC 8552, <https://www.rfc-editor.org/rfc/rfc8552>.
const PREFIX: &str = "_ha.";

/// People read it and nobody waits for it.
const TTL: u64 = 300;

/// One line: one set of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub ws: String,
    pub kind: String,
    pub set: Option<String>,
    /// [`Record::hash`] of what was written last.
    pub spec: String,
    /// The region that a person pointed the name at, in place of what is declared.
    pub pointed: Option<String>,
}

/// The name of the TXT record that is about `name`.
pub fn name_of(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The name that the TXT record called `name` is about; none when it is no such record.
pub fn about(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

impl Marker {
    pub fn of(ws: &str, record: &Record, pointed: Option<&str>) -> Self {
        Self {
            ws: ws.to_owned(),
            kind: record.kind.clone(),
            set: record.set.clone(),
            spec: record.hash(),
            pointed: pointed.map(str::to_owned),
        }
    }

    /// A value of a TXT record; none when it is none of ours.
    pub fn parse(value: &str) -> Option<Self> {
        let mut words = value.trim_matches('"').split(' ');
        if words.next() != Some("ha") {
            return None;
        }
        let mut marker = Self {
            ws: String::new(),
            kind: String::new(),
            set: None,
            spec: String::new(),
            pointed: None,
        };
        for (key, value) in words.filter_map(|it| it.split_once('=')) {
            match key {
                "ws" => value.clone_into(&mut marker.ws),
                "type" => value.clone_into(&mut marker.kind),
                "set" => marker.set = Some(value.to_owned()),
                "spec" => value.clone_into(&mut marker.spec),
                "pointed" => marker.pointed = Some(value.to_owned()),
                // Of a later version.
                _ => {}
            }
        }
        (!marker.ws.is_empty() && !marker.kind.is_empty()).then_some(marker)
    }

    /// The value of a TXT record, with its quotes.
    pub fn value(&self) -> String {
        let Self { ws, kind, spec, .. } = self;
        let mut text = format!("ha ws={ws} type={kind}");
        for (key, value) in [("set", &self.set), ("pointed", &self.pointed)] {
            if let Some(value) = value {
                text.push_str(&format!(" {key}={value}"));
            }
        }
        format!("\"{text} spec={spec}\"")
    }

    pub fn is_of(&self, record: &Record) -> bool {
        (self.kind.as_str(), self.set.as_deref()) == record.key()
    }
}

/// The TXT record about `name` with these lines beside what others wrote into it; none when nothing is left to say.
pub fn record(name: &str, lines: &[Marker], before: Option<&Record>, ws: &str) -> Option<Record> {
    let others = before.into_iter().flat_map(Record::values);
    let others = others.filter(|value| Marker::parse(value).is_none_or(|it| it.ws != ws));
    let mut values: Vec<String> = others.chain(lines.iter().map(Marker::value)).collect();
    values.sort();
    values.dedup();
    (!values.is_empty()).then(|| Record {
        name: name_of(name),
        kind: "TXT".into(),
        set: None,
        policy: Policy::Simple,
        ttl: before.map_or(Some(TTL), |it| it.ttl),
        target: Target::Values(values),
        check: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_read_as_it_was_written(
            ws in "[a-z0-9-]{1,48}",
            set in proptest::option::of("[a-zA-Z0-9:-]{1,60}"),
            pointed in proptest::option::of("[a-z0-9-]{1,48}"),
        ) {
            let marker = Marker { ws, kind: "A".into(), set, spec: "0123456789abcdef".into(), pointed };
            let value = marker.value();
            // One string of a TXT record.
            prop_assert!(value.len() <= 257, "{}", value);
            prop_assert_eq!(Marker::parse(&value), Some(marker));
        }

        #[test]
        fn whatever_others_write_is_none_of_ours(value in "\"?[a-z=0-9 :.]{0,40}\"?") {
            prop_assume!(!value.trim_matches('"').starts_with("ha "));
            prop_assert_eq!(Marker::parse(&value), None);
        }
    }

    #[test]
    fn what_others_wrote_beside_ours_stays() {
        let mut before = record("api.example.com", &[], None, "shop");
        assert_eq!(before, None);
        let line = |ws: &str| Marker {
            ws: ws.into(),
            kind: "A".into(),
            set: None,
            spec: "0".into(),
            pointed: None,
        };
        before = record("api.example.com", &[line("other")], None, "other");
        let both = record("api.example.com", &[line("shop")], before.as_ref(), "shop").expect("two lines");
        assert_eq!(both.values().len(), 2);
        assert_eq!(record("api.example.com", &[], Some(&both), "shop"), before);
    }
}
