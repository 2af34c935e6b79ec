//! Fields of kinds whose spec is what the user wrote: their labels, as tags and back.

use serde_json::{Map, Value};

use super::tags::{BETWEEN, Tags};

pub(super) const LABELS: &str = "labels";

/// Which of the tags are labels of the workspace; an account may have rules that put tags of their own on everything.
const LABEL_KEYS: &str = "ha:labels";

/// The user's labels as tags, under their own names.
pub(super) fn label_tags(spec: &Value) -> Tags {
    let labels = spec.get(LABELS).and_then(Value::as_object);
    let mut tags: Tags = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let keys: Vec<String> = tags.keys().cloned().collect();
    if !keys.is_empty() {
        tags.insert(LABEL_KEYS.to_owned(), keys.join(BETWEEN));
    }
    tags
}

/// The labels as they are now; one that somebody took away is not among them.
pub(super) fn labels(tags: &Tags) -> Value {
    let keys = tags.get(LABEL_KEYS).map(|it| it.split(BETWEEN)).into_iter().flatten();
    let labels: Map<String, Value> = keys
        .filter_map(|key| Some((key.to_owned(), Value::String(tags.get(key)?.clone()))))
        .collect();
    Value::Object(labels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn labels_come_back_as_they_went(labels in proptest::collection::btree_map("[a-z][a-z0-9-]{0,20}", "[a-z0-9 ]{0,20}", 0..5)) {
            let spec = json!({ "labels": labels });
            let mut tags = label_tags(&spec);
            tags.insert("cost-center".to_owned(), "put there by a rule of the account".to_owned());
            prop_assert_eq!(super::labels(&tags), spec["labels"].clone());
        }
    }

    #[test]
    fn a_label_that_was_taken_away_is_gone() {
        let mut tags = label_tags(&json!({ "labels": { "team": "web", "env": "prod" } }));
        tags.remove("team");
        assert_eq!(labels(&tags), json!({ "env": "prod" }));
    }
}
