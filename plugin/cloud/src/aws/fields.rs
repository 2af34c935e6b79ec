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
    // Also where there is none any more, in place of those that were there.
    if spec.get(LABELS).is_some() {
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

/// The user's labels as a field of a spec, where there are any.
pub(super) fn tell(spec: &mut Value, tags: &Tags) {
    let labels = labels(tags);
    if labels.as_object().is_some_and(|it| !it.is_empty()) {
        spec[LABELS] = labels;
    }
}

/// The keys of labels that were the user's and are not wanted any more.
pub(super) fn obsolete<'a>(has: &'a Tags, wanted: &Tags) -> Vec<&'a str> {
    let listed = has.get(LABEL_KEYS).map(|it| it.split(BETWEEN)).into_iter().flatten();
    let keys = listed.chain([LABEL_KEYS]);
    keys.filter(|key| has.contains_key(*key) && !wanted.contains_key(*key))
        .collect()
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
    fn what_nobody_wants_any_more_is_known_by_its_key() {
        let before = label_tags(&json!({ "labels": { "team": "web", "env": "prod" } }));
        let mut has = before.clone();
        has.insert(
            "cost-center".to_owned(),
            "put there by a rule of the account".to_owned(),
        );
        let fewer = label_tags(&json!({ "labels": { "env": "test" } }));
        assert_eq!(obsolete(&has, &fewer), ["team"]);
        assert_eq!(obsolete(&has, &label_tags(&json!({}))), ["env", "team", LABEL_KEYS]);
        let mut spec = json!({ "size": "t3.medium" });
        tell(&mut spec, &has);
        assert_eq!(spec["labels"], json!({ "team": "web", "env": "prod" }));
        let mut bare = json!({});
        tell(&mut bare, &label_tags(&json!({ "labels": {} })));
        assert_eq!(bare, json!({}));
    }

    #[test]
    fn a_label_that_was_taken_away_is_gone() {
        let mut tags = label_tags(&json!({ "labels": { "team": "web", "env": "prod" } }));
        tags.remove("team");
        assert_eq!(labels(&tags), json!({ "env": "prod" }));
    }
}
