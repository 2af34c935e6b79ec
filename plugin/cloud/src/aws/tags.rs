//! Ownership, written on what AWS keeps: keys `ha:…` and what is rebuilt from them.
//!
//! Source of the limits: <https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html>:
//! 50 tags, keys of 128 and values of 256 characters, letters, digits, spaces and `_ . : / = + - @` in every service.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use aws_sdk_elasticloadbalancingv2::types as elb;
use aws_sdk_rds::types as rds;
use ha_core::{
    names::{RegionName, WorkspaceName},
    resource::{Kind, Labels, Resource, ResourceId},
};

pub(super) type Tags = BTreeMap<String, String>;

pub(super) const WS: &str = "ha:ws";
pub(super) const REGION: &str = "ha:region";
pub(super) const KIND: &str = "ha:kind";
pub(super) const NAME: &str = "ha:name";
pub(super) const SPEC: &str = "ha:spec";
pub(super) const PROTECT: &str = "ha:protect";
/// Which part of a resource that AWS keeps in several pieces.
pub(super) const PART: &str = "ha:part";
/// What AWS's console shows as the name.
pub(super) const CONSOLE_NAME: &str = "Name";

/// Between words of one value; AWS allows no comma.
pub(super) const BETWEEN: &str = "+";

/// In place of the hash while a resource is made or changed in several requests. Whoever dies in between leaves this,
/// and what is found then is unfinished, not drifted.
pub(super) const UNFINISHED: &str = "unfinished";

/// The tags that say whose something is, without its spec.
pub(super) fn identity(ws: &WorkspaceName, id: &ResourceId) -> Tags {
    Tags::from([
        (WS.to_owned(), ws.to_string()),
        (REGION.to_owned(), id.region.to_string()),
        (KIND.to_owned(), id.kind.to_string()),
        (NAME.to_owned(), id.name.clone()),
        (CONSOLE_NAME.to_owned(), id.name.clone()),
    ])
}

/// All tags of a resource that is as wanted.
pub(super) fn of(ws: &WorkspaceName, want: &Resource) -> Tags {
    let mut tags = identity(ws, &want.id);
    tags.insert(SPEC.to_owned(), want.spec_hash());
    tags.insert(PROTECT.to_owned(), want.protect.to_string());
    tags
}

/// What the tags of something ours say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) id: ResourceId,
    pub(super) labels: Labels,
    pub(super) protect: bool,
    pub(super) unfinished: bool,
}

/// None when it is not ours, or when its tags do not say what it is.
pub(super) fn read(ws: &WorkspaceName, tags: &Tags) -> Option<Owned> {
    if *ws != tags.get(WS)?.as_str() {
        return None;
    }
    let region = RegionName::new(tags.get(REGION)?.clone());
    let name = tags.get(NAME)?.clone();
    let spec = tags.get(SPEC).cloned().unwrap_or_else(|| UNFINISHED.to_owned());
    Some(Owned {
        id: ResourceId::new(&region, Kind::parse(tags.get(KIND)?)?, name.clone()),
        unfinished: spec == UNFINISHED,
        labels: Labels {
            ws: ws.clone(),
            region,
            name,
            spec,
        },
        protect: tags.get(PROTECT).is_some_and(|it| it == "true"),
    })
}

/// Those of `wanted` that `found` does not have, or has otherwise.
pub(super) fn missing(found: &Tags, wanted: &Tags) -> Tags {
    wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Lists of EC2 that hold only what is ours.
pub(super) fn ours(ws: &WorkspaceName) -> ec2::Filter {
    filter(format!("tag:{WS}"), ws.as_str())
}

/// Lists of EC2 that hold only the pieces of one resource.
pub(super) fn only(ws: &WorkspaceName, id: &ResourceId) -> Vec<ec2::Filter> {
    vec![
        ours(ws),
        filter(format!("tag:{REGION}"), id.region.as_str()),
        filter(format!("tag:{KIND}"), id.kind.as_str()),
        filter(format!("tag:{NAME}"), &id.name),
    ]
}

pub(super) fn filter(name: impl Into<String>, value: &str) -> ec2::Filter {
    ec2::Filter::builder().name(name).values(value).build()
}

/// Tags that are written in the same request that makes the thing: it is never there without them.
pub(super) fn at_birth(of: ec2::ResourceType, tags: &Tags) -> ec2::TagSpecification {
    ec2::TagSpecification::builder()
        .resource_type(of)
        .set_tags(Some(for_ec2(tags)))
        .build()
}

pub(super) fn for_ec2(tags: &Tags) -> Vec<ec2::Tag> {
    let tag = |(key, value)| ec2::Tag::builder().key(key).value(value).build();
    tags.iter().map(tag).collect()
}

pub(super) fn for_elb(tags: &Tags) -> Vec<elb::Tag> {
    let tag = |(key, value)| elb::Tag::builder().key(key).value(value).build();
    tags.iter().map(tag).collect()
}

pub(super) fn for_rds(tags: &Tags) -> Vec<rds::Tag> {
    let tag = |(key, value)| rds::Tag::builder().key(key).value(value).build();
    tags.iter().map(tag).collect()
}

pub(super) fn from_ec2(tags: &[ec2::Tag]) -> Tags {
    collect(tags.iter().map(|it| (it.key(), it.value())))
}

pub(super) fn from_elb(tags: &[elb::Tag]) -> Tags {
    collect(tags.iter().map(|it| (it.key(), it.value())))
}

pub(super) fn from_rds(tags: &[rds::Tag]) -> Tags {
    collect(tags.iter().map(|it| (it.key(), it.value())))
}

fn collect<'a>(tags: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Tags {
    tags.filter_map(|(key, value)| Some((key?.to_owned(), value.unwrap_or_default().to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use ha_core::names::ProviderName;
    use serde_json::json;

    use super::*;

    fn want() -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("asia-southeast"), Kind::Server, "asia-app-1"),
            provider: ProviderName::Aws,
            spec: json!({ "size": "t3.medium" }),
            depends_on: Vec::new(),
            protect: true,
            path: "region_asia_southeast.app_servers".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let ws = WorkspaceName::new("shop");
        let owned = read(&ws, &of(&ws, &want())).expect("it is ours");
        assert_eq!(owned.id, want().id);
        assert_eq!(owned.labels.spec, want().spec_hash());
        assert!(owned.protect && !owned.unfinished);
    }

    #[test]
    fn another_workspace_and_a_lookalike_are_not_ours() {
        let tags = of(&WorkspaceName::new("shop2"), &want());
        assert_eq!(read(&WorkspaceName::new("shop"), &tags), None);
        let lookalike = Tags::from([(CONSOLE_NAME.to_owned(), "asia-app-1".to_owned())]);
        assert_eq!(read(&WorkspaceName::new("shop"), &lookalike), None);
    }

    #[test]
    fn nobody_knows_the_spec_of_what_was_not_finished() {
        let ws = WorkspaceName::new("shop");
        let owned = read(&ws, &identity(&ws, &want().id)).expect("it is ours");
        assert!(owned.unfinished);
    }

    #[test]
    fn only_what_differs_is_written() {
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let found = tags(&[("a", "1"), ("b", "2"), ("theirs", "x")]);
        let wanted = tags(&[("a", "1"), ("b", "3"), ("c", "4")]);
        assert_eq!(missing(&found, &wanted), tags(&[("b", "3"), ("c", "4")]));
    }
}
