//! Ownership, written on what DigitalOcean keeps: one tag for each label, `ha:ws:shop`.
//!
//! | tag | on | meaning |
//! |---|---|---|
//! | `ha:ws:…`, `ha:region:…`, `ha:name:…`, `ha:spec:…` | all with tags | whose it is, and the hash of what was applied last |
//! | `ha:protect:true` | all with tags | or not there |
//! | `ha:group:<ws>:<region>:<group>` | servers | what firewalls and trusted sources refer to |
//! | `ha:index:…`, `ha:role:…`, `ha:image:…` | servers | a tag for each role |
//! | `ha:resume:true` | servers | it ran before a resize that is under way |
//! | `ha:store:<badge>`, `ha:database:<badge>` | servers | what runs on it |
//! | `ha:lb:<badge>` | servers | the balancer that they are behind |
//! | `ha:fw:<badge>` | no Droplet | a firewall has it among the tags that it stands before |
//! | `ha:attach-to:…` | volumes | the server that it belongs to |
//! | `ha:ip:<ws>:<region>:<name>:<address>` | servers | the reserved IP that we made for it, `198-51-100-7`; `new` while it is made |
//! | `ha:label:<key>:<value>` | all with labels of the user | the tag `<key>:<value>` beside it is one of them |
//!
//! A badge is `<ws>:<region>:<name>:<spec>`, with `:protected` where it is. Networks have no tags: the same words stand
//! in their description, and `ha:kept:true` where DigitalOcean keeps one that was removed.
//!
//! A tag that is neither ours nor marked so is somebody else's: firewalls and balancers of others may go by it. It is no
//! drift, and stays.
//!
//! Tags have letters, digits, `:`, `-` and `_`, and 255 characters.
//! Source: <https://docs.digitalocean.com/reference/api/reference/tags/>.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ha_core::{
    desired::LABELS,
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Labels, Resource, ResourceId, spec_hash},
};
use serde_json::{Value, json};

use crate::{ProviderError, labels::allowed};

pub(super) type Tags = BTreeSet<String>;

pub(super) const OURS: &str = "ha:";

pub(super) const WS: &str = "ws";
pub(super) const REGION: &str = "region";
pub(super) const NAME: &str = "name";
pub(super) const SPEC: &str = "spec";
pub(super) const PROTECT: &str = "protect";
pub(super) const GROUP: &str = "group";
pub(super) const INDEX: &str = "index";
pub(super) const ROLE: &str = "role";
/// The image a server was made from: DigitalOcean forgets its name once there is a newer one.
pub(super) const IMAGE: &str = "image";
/// On a server that ran before a resize that is under way.
pub(super) const RESUME: &str = "resume";
/// On a volume: the server that it is for.
pub(super) const ATTACH_TO: &str = "attach-to";
/// On a network that DigitalOcean keeps although it was removed.
pub(super) const KEPT: &str = "kept";

/// With the whole tag of one of the user's labels after it.
const LABEL: &str = "label";
/// With workspace, region and name of a server, and its reserved IP.
const ADDRESS: &str = "ip";
/// In place of the address of a reserved IP that was asked for and is not known yet.
const NEW: &str = "new";

const YES: &str = "true";
const PROTECTED: &str = "protected";

pub(super) fn tag(key: &str, value: &str) -> String {
    format!("{OURS}{key}:{value}")
}

/// The value of the first tag with this key.
pub(super) fn value<'a>(tags: &'a [String], key: &str) -> Option<&'a str> {
    values(tags, key).next()
}

pub(super) fn values<'a>(tags: &'a [String], key: &str) -> impl Iterator<Item = &'a str> {
    tags.iter()
        .filter_map(move |tag| tag.strip_prefix(OURS)?.strip_prefix(key)?.strip_prefix(':'))
}

pub(super) fn is_set(tags: &[String], key: &str) -> bool {
    values(tags, key).any(|value| value == YES)
}

pub(super) fn flag(key: &str) -> String {
    tag(key, YES)
}

/// On everything of this workspace that has tags.
pub(super) fn ours(ws: &WorkspaceName) -> String {
    tag(WS, ws.as_str())
}

/// The tags that say whose something is, and what it should be.
pub(super) fn identity(ws: &WorkspaceName, want: &Resource) -> Tags {
    let id = &want.id;
    let mut tags = Tags::from([
        ours(ws),
        tag(REGION, id.region.as_str()),
        tag(NAME, &id.name),
        tag(SPEC, &want.spec_hash()),
    ]);
    if want.protect {
        tags.insert(flag(PROTECT));
    }
    tags
}

/// # Errors
///
/// A tag that DigitalOcean would refuse; nothing was asked yet.
pub(super) fn check(tags: &Tags, id: &ResourceId) -> Result<(), ProviderError> {
    for tag in tags {
        allowed(ProviderName::Digitalocean, tag).map_err(|why| ProviderError::Refused {
            what: format!("{id}: the tag {tag} {why}"),
            help: "choose another name or label in workspace.ncl: ha check shows the place".into(),
        })?;
    }
    Ok(())
}

/// Keys that [`identity`] writes: a tag of them that is not wanted is taken off.
pub(super) const IDENTITY: [&str; 5] = [WS, REGION, NAME, SPEC, PROTECT];

/// What the labels of something ours say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) id: ResourceId,
    pub(super) protect: bool,
    ws: WorkspaceName,
    /// Two, where somebody died between writing the new one and removing the old one.
    specs: Vec<String>,
}

impl Owned {
    /// The hash of what was applied last; empty where nobody wrote it.
    pub(super) fn applied(&self) -> &str {
        self.specs.first().map(String::as_str).unwrap_or_default()
    }

    pub(super) fn labels(&self, spec: &Value) -> Labels {
        let is = spec_hash(spec);
        let told = self.specs.iter().find(|it| **it == is).or(self.specs.first());
        Labels {
            ws: self.ws.clone(),
            region: self.id.region.clone(),
            name: self.id.name.clone(),
            spec: told.cloned().unwrap_or_default(),
        }
    }
}

/// None when it is not ours, or when its tags do not say what it is.
pub(super) fn read(ws: &WorkspaceName, kind: Kind, tags: &[String]) -> Option<Owned> {
    values(tags, WS).find(|value| *ws == **value)?;
    let region = RegionName::new(value(tags, REGION)?);
    Some(Owned {
        id: ResourceId::new(&region, kind, value(tags, NAME)?),
        protect: is_set(tags, PROTECT),
        ws: ws.clone(),
        specs: values(tags, SPEC).map(str::to_owned).collect(),
    })
}

/// # Errors
///
/// `what` carries our workspace and not the rest, which no command of ours leaves: somebody took tags away or gave ours
/// to something. Leaving it out would be a shorter truth.
pub(super) fn whole(ws: &WorkspaceName, tags: &[String], what: impl FnOnce() -> String) -> Result<(), ProviderError> {
    let ours = ours(ws);
    if !tags.contains(&ours) {
        return Ok(());
    }
    match [REGION, NAME].into_iter().find(|key| value(tags, key).is_none()) {
        None => Ok(()),
        Some(key) => Err(ProviderError::Refused {
            what: format!("{} at DigitalOcean carries {ours} and no {OURS}{key}", what()),
            help: format!("take {ours} off it if it is not of this workspace, or put {OURS}{key}:… on it again"),
        }),
    }
}

/// The labels as words of a description, with a sentence for people before them.
pub(super) fn marker(sentence: &str, tags: &Tags) -> String {
    let words = tags.iter().map(String::as_str);
    [sentence].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

pub(super) fn from_marker(description: &str) -> Vec<String> {
    let words = description.split_whitespace();
    // `ha:` alone is the end of the sentence.
    let ours = words.filter(|word| word.len() > OURS.len() && word.starts_with(OURS));
    ours.map(str::to_owned).collect()
}

/// All labels of one resource in a single tag: `ha:lb:shop:us-east:us-lb:0123456789abcdef`, and `:protected` where it is.
///
/// For what is known by the tag of the Droplets that belong to it. It is written in the same request as what it
/// says, so the two never differ half-way.
pub(super) fn badge(ws: &WorkspaceName, want: &Resource) -> String {
    let protected = if want.protect { ":protected" } else { "" };
    let ResourceId { region, name, .. } = &want.id;
    format!(
        "{}{region}:{name}:{}{protected}",
        badges(ws, want.id.kind),
        want.spec_hash()
    )
}

/// What the badges of all resources of this kind begin with.
pub(super) fn badges(ws: &WorkspaceName, kind: Kind) -> String {
    let key = match kind {
        Kind::LoadBalancer => "lb",
        Kind::Firewall => "fw",
        other => other.as_str(),
    };
    tag(key, &format!("{ws}:"))
}

pub(super) fn read_badge(ws: &WorkspaceName, kind: Kind, tag: &str) -> Option<Owned> {
    let words: Vec<&str> = tag.strip_prefix(&badges(ws, kind))?.split(':').collect();
    let (region, name, spec, protect) = match words[..] {
        [region, name, spec] => (region, name, spec, false),
        [region, name, spec, PROTECTED] => (region, name, spec, true),
        _ => return None,
    };
    Some(Owned {
        id: ResourceId::new(&RegionName::new(region), kind, name),
        protect,
        ws: ws.clone(),
        specs: vec![spec.to_owned()],
    })
}

/// What a server carries of this kind: it has one badge for each.
pub(super) fn read_badges<'a>(
    ws: &'a WorkspaceName,
    kind: Kind,
    tags: &'a [String],
) -> impl Iterator<Item = Owned> + use<'a> {
    tags.iter().filter_map(move |tag| read_badge(ws, kind, tag))
}

/// On all servers of a group, whichever they are: what firewalls and trusted sources refer to.
pub(super) fn group(ws: &WorkspaceName, region: &RegionName, group: &str) -> String {
    tag(GROUP, &format!("{ws}:{region}:{group}"))
}

/// A tag that we write, and no other workspace: those that name one tell whose they are.
pub(super) fn may_be_of(ws: &WorkspaceName, tag: &str) -> bool {
    let of_another = |key: &str| {
        let named = tag.strip_prefix(&self::tag(key, ""));
        named.is_some_and(|named| *ws != *named.split(':').next().unwrap_or_default())
    };
    tag.starts_with(OURS)
        && ![WS, GROUP, ADDRESS, "lb", "fw", "store", "database"]
            .into_iter()
            .any(of_another)
}

/// The group of [`group`].
pub(super) fn read_group<'a>(ws: &WorkspaceName, region: &RegionName, tag: &'a str) -> Option<&'a str> {
    tag.strip_prefix(&self::group(ws, region, ""))
}

/// What the tags about the reserved IPs of one server begin with; of all servers of a region without a name.
pub(super) fn addresses(ws: &WorkspaceName, region: &RegionName, name: Option<&str>) -> String {
    let of = name.map_or_else(String::new, |name| format!("{name}:"));
    tag(ADDRESS, &format!("{ws}:{region}:{of}"))
}

/// Says which reserved IP is ours and for whom; none while it is asked for.
pub(super) fn address(ws: &WorkspaceName, server: &ResourceId, ip: Option<Ipv4Addr>) -> String {
    let ip = ip.map_or_else(|| NEW.to_owned(), |ip| ip.to_string().replace('.', "-"));
    format!("{}{ip}", addresses(ws, &server.region, Some(&server.name)))
}

pub(super) fn is_about_address(tag: &str) -> bool {
    tag.starts_with(&self::tag(ADDRESS, ""))
}

/// The address of [`address`].
pub(super) fn read_address(tag: &str) -> Option<Ipv4Addr> {
    let (_, ip) = tag.rsplit_once(':').filter(|_| is_about_address(tag))?;
    ip.replace('-', ".").parse().ok()
}

/// The user's own labels as tags, `env:prod`, each with the one that marks it.
///
/// # Errors
///
/// A key with a colon: nobody could tell where it ends.
pub(super) fn from_labels(want: &Resource) -> Result<Tags, ProviderError> {
    let labels = want.spec.get(LABELS).and_then(Value::as_object);
    let mut tags = Tags::new();
    for (key, value) in labels.into_iter().flatten() {
        if key.contains(':') {
            return Err(ProviderError::Refused {
                what: format!(
                    "{}: the label {key} has a colon, and in a tag the value begins after it",
                    want.id
                ),
                help: format!("choose another key at {} in workspace.ncl", want.path),
            });
        }
        let label = format!("{key}:{}", value.as_str().unwrap_or_default());
        tags.insert(tag(LABEL, &label));
        tags.insert(label);
    }
    Ok(tags)
}

/// The user's own labels, as far as they are still there.
pub(super) fn to_labels(tags: &[String]) -> BTreeMap<&str, &str> {
    let there = values(tags, LABEL).filter(|label| tags.iter().any(|tag| tag == label));
    there.filter_map(|label| label.split_once(':')).collect()
}

/// The user's labels as a field of a spec, where there are any.
pub(super) fn tell(spec: &mut Value, tags: &[String]) {
    let labels = to_labels(tags);
    if !labels.is_empty() {
        spec[LABELS] = json!(labels);
    }
}

/// Among all tags of something: this is a label that the workspace wrote, or the mark of one.
pub(super) fn is_users(all: &[String], tag: &str) -> bool {
    is_mark(tag) || values(all, LABEL).any(|label| label == tag)
}

/// It marks a label of the user.
pub(super) fn is_mark(tag: &str) -> bool {
    marked_by(tag).is_some()
}

/// The label of the user that this tag marks.
pub(super) fn marked_by(tag: &str) -> Option<&str> {
    tag.strip_prefix(OURS)?.strip_prefix(LABEL)?.strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn want(kind: Kind, name: &str, protect: bool) -> Resource {
        Resource {
            id: ResourceId::new(&RegionName::new("us-east"), kind, name),
            provider: ProviderName::Digitalocean,
            spec: json!({ "size": "s-1vcpu-1gb" }),
            depends_on: Vec::new(),
            protect,
            path: "region_us_east.app_servers".into(),
        }
    }

    #[test]
    fn another_workspace_and_a_lookalike_are_not_ours() {
        let ws = WorkspaceName::new("shop");
        let other: Vec<String> = identity(&WorkspaceName::new("shop2"), &want(Kind::Server, "us-app-1", false))
            .into_iter()
            .collect();
        assert_eq!(read(&ws, Kind::Server, &other), None);
        assert_eq!(
            read(&ws, Kind::Server, &["us-app-1".to_owned(), "ha:ws".to_owned()]),
            None
        );
        let badge = badge(&WorkspaceName::new("shop2"), &want(Kind::LoadBalancer, "us-lb", false));
        assert_eq!(read_badge(&ws, Kind::LoadBalancer, &badge), None);
    }

    #[test]
    fn a_tag_that_names_another_workspace_is_not_ours_to_take_away() {
        let ws = WorkspaceName::new("shop");
        for tag in [
            "ha:ws:shop",
            "ha:name:us-app-1",
            "ha:spec:00",
            "ha:group:shop:us-east:us-app",
            "ha:lb:shop:a:b:c",
        ] {
            assert!(may_be_of(&ws, tag), "{tag}");
        }
        for tag in [
            "shop",
            "ha",
            "ha:ws:shop2",
            "ha:group:shop2:us-east:us-app",
            "ha:lb:other:a:b:c",
            "ha:store:x:a:b:c",
        ] {
            assert!(!may_be_of(&ws, tag), "{tag}");
        }
    }

    #[test]
    fn of_two_hashes_the_one_that_is_true_counts() {
        let ws = WorkspaceName::new("shop");
        let want = want(Kind::Server, "us-app-1", false);
        let mut tags = identity(&ws, &want);
        tags.insert(tag(SPEC, "0000000000000000"));
        let tags: Vec<String> = tags.into_iter().collect();
        let owned = read(&ws, Kind::Server, &tags).expect("it is ours");
        assert_eq!(owned.labels(&want.spec).spec, want.spec_hash());
        assert_eq!(owned.labels(&json!({})).spec, "0000000000000000");
    }

    #[test]
    fn labels_of_the_workspace_are_told_apart_from_the_tags_of_others() {
        let mut want = want(Kind::Server, "us-app-1", false);
        want.spec[LABELS] = json!({ "env": "prod", "team": "a:b" });
        let mut tags: Vec<String> = from_labels(&want).expect("they fit").into_iter().collect();
        tags.extend(["ha:ws:shop", "theirs", "tier:web"].map(str::to_owned));
        assert_eq!(to_labels(&tags), BTreeMap::from([("env", "prod"), ("team", "a:b")]));
        assert!(is_users(&tags, "env:prod") && is_users(&tags, "ha:label:env:prod"));
        assert!(!is_users(&tags, "tier:web") && !is_users(&tags, "ha:ws:shop"));
        tags.retain(|tag| tag != "env:prod");
        assert_eq!(
            to_labels(&tags),
            BTreeMap::from([("team", "a:b")]),
            "somebody took it off"
        );
        want.spec[LABELS] = json!({ "a:b": "c" });
        assert_eq!(
            from_labels(&want).expect_err("where does it end?").code(),
            "ha::provider::refused"
        );
    }

    #[test]
    fn an_address_is_known_by_its_tag() {
        let ws = WorkspaceName::new("shop");
        let id = want(Kind::Server, "us-app-1", false).id;
        let ip = Ipv4Addr::new(198, 51, 100, 7);
        let known = address(&ws, &id, Some(ip));
        assert_eq!(known, "ha:ip:shop:us-east:us-app-1:198-51-100-7");
        assert_eq!(read_address(&known), Some(ip));
        assert_eq!(read_address(&address(&ws, &id, None)), None);
        assert!(may_be_of(&ws, &known) && !may_be_of(&WorkspaceName::new("shop2"), &known));
        assert!(known.starts_with(&addresses(&ws, &id.region, None)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            ws in "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?",
            name in "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?",
            protect: bool,
        ) {
            let ws = WorkspaceName::new(ws);
            for kind in [Kind::Server, Kind::Volume, Kind::Network] {
                let want = want(kind, &name, protect);
                let marker = marker("Made by ha.", &identity(&ws, &want));
                prop_assert!(marker.len() <= 255, "the description of a network has no more room: {marker}");
                let owned = read(&ws, kind, &from_marker(&marker)).expect("it is ours");
                prop_assert_eq!((&owned.id, owned.protect), (&want.id, protect));
                prop_assert_eq!(owned.labels(&want.spec).spec, want.spec_hash());
            }
            for kind in [Kind::LoadBalancer, Kind::Firewall, Kind::Store, Kind::Database] {
                let want = want(kind, &name, protect);
                let badge = badge(&ws, &want);
                prop_assert_eq!(allowed(ProviderName::Digitalocean, &badge), Ok(()));
                let owned = read_badge(&ws, kind, &badge).expect("it is ours");
                prop_assert_eq!((&owned.id, owned.protect), (&want.id, protect));
                prop_assert_eq!(owned.labels(&Value::Null).spec, want.spec_hash());
            }
            let region = RegionName::new("us-east");
            let tag = group(&ws, &region, &name);
            prop_assert_eq!(read_group(&ws, &region, &tag), Some(name.as_str()));
        }
    }
}
