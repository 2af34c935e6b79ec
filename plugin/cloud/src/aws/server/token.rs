//! Client tokens: a create that is repeated makes one server, a server made anew is another.
//!
//! A token is remembered for at least a day after the instance it made was terminated, and asked for again it answers
//! with that dead instance. So each token has a generation, and a dead answer means: the next one.
//! Source: <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>.

use ha_core::{
    names::WorkspaceName,
    resource::{ResourceId, spec_hash},
};
use serde_json::json;

/// At most 64 characters; `subnet` is part of it, since no two requests of one token may differ.
pub(in crate::aws) fn token(ws: &WorkspaceName, id: &ResourceId, generation: u32, subnet: usize) -> String {
    format!("{}{generation}-{subnet}", stem(ws, id))
}

fn stem(ws: &WorkspaceName, id: &ResourceId) -> String {
    let who = spec_hash(&json!([ws, id.region, id.kind, id.name]));
    format!("ha-{who}-")
}

/// The first generation that none of these tokens has; they are those of instances AWS still lists.
pub(in crate::aws) fn next_generation<'a>(
    ws: &WorkspaceName,
    id: &ResourceId,
    seen: impl Iterator<Item = &'a str>,
) -> u32 {
    let stem = stem(ws, id);
    seen.filter_map(|it| it.strip_prefix(&stem)?.split_once('-')?.0.parse::<u32>().ok())
        .max()
        .map_or(0, |last| last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use ha_core::{names::RegionName, resource::Kind};

    use super::*;

    fn id(name: &str) -> ResourceId {
        ResourceId::new(&RegionName::new("asia-southeast"), Kind::Server, name)
    }

    #[test]
    fn the_same_request_has_the_same_token_and_every_other_has_another() {
        let ws = WorkspaceName::new("shop");
        let one = token(&ws, &id("a"), 0, 0);
        assert_eq!(one, token(&ws, &id("a"), 0, 0));
        assert!(one.len() <= 64 && one.is_ascii());
        let others = [
            token(&ws, &id("a"), 1, 0),
            token(&ws, &id("a"), 0, 1),
            token(&ws, &id("b"), 0, 0),
            token(&WorkspaceName::new("shop2"), &id("a"), 0, 0),
        ];
        assert!(!others.contains(&one));
    }

    #[test]
    fn generations_go_on_after_those_that_are_seen() {
        let ws = WorkspaceName::new("shop");
        let seen = [
            token(&ws, &id("a"), 3, 1),
            token(&ws, &id("b"), 9, 0),
            "theirs".to_owned(),
        ];
        let next = |seen: &[String]| next_generation(&ws, &id("a"), seen.iter().map(String::as_str));
        assert_eq!((next(&seen), next(&[])), (4, 0));
    }
}
