//! What is written on every resource, and reading it back.
//!
//! | key | on | value |
//! |---|---|---|
//! | `ha/ws`, `ha/region`, `ha/name`, `ha/spec` | all | whose it is, and the hash of what was applied last |
//! | `ha/protect` | all | `true`, or not there |
//! | `ha/group`, `ha/index`, `ha/roles`, `ha/image` | servers | roles joined by dots |
//! | `ha/resume` | servers | it ran before a resize that is under way |
//! | `ha/store`, `ha/store-spec`, `ha/database`, … | servers | what runs on it |
//! | `ha/location`, `ha/zone` | networks | Hetzner tells a network's zone only |
//! | `ha/ports`, `ha/rise` | load balancers | order of the rules; Hetzner has one threshold for both ways |
//! | `ha/attach-to` | volumes | the server that it belongs to |
//! | `ha/fixed-address` | servers | `true` where its address stays when it is lost, or not there |
//! | `ha/labels`, `ha/labels-2`, … | all with labels of the user | which ones: a token for each key, joined by dots |
//!
//! A label that the workspace did not write is somebody else's: it is no drift, and stays where it is.

use std::collections::BTreeSet;

use ha_core::{
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Labels, Resource, ResourceId, spec_hash},
};
use serde_json::{Value, json};

use super::api::{LabelMap, Thing};
use crate::{ProviderError, labels};

pub(super) const WS: &str = "ha/ws";
pub(super) const REGION: &str = "ha/region";
pub(super) const NAME: &str = "ha/name";
pub(super) const SPEC: &str = "ha/spec";
pub(super) const PROTECT: &str = "ha/protect";
pub(super) const GROUP: &str = "ha/group";
pub(super) const INDEX: &str = "ha/index";
pub(super) const ROLES: &str = "ha/roles";
pub(super) const IMAGE: &str = "ha/image";
pub(super) const RESUME: &str = "ha/resume";
pub(super) const LOCATION: &str = "ha/location";
pub(super) const ZONE: &str = "ha/zone";
pub(super) const PORTS: &str = "ha/ports";
pub(super) const RISE: &str = "ha/rise";
pub(super) const ATTACH_TO: &str = "ha/attach-to";
pub(super) const FIXED_ADDRESS: &str = "ha/fixed-address";
const LABELS: &str = "ha/labels";

/// Digits of a token. A key has up to 317 characters, and a value of a label no more than 63.
const TOKEN: usize = 6;
/// As many tokens and dots as a value has room for.
const TOKENS_IN_A_VALUE: usize = 9;

/// Everything of ours begins so; the other labels are the user's.
pub(super) const OURS: &str = "ha/";

/// The labels of a resource of its own at Hetzner, the user's included.
pub(super) fn of(workspace: &WorkspaceName, want: &Resource) -> LabelMap {
    let mut out = LabelMap::new();
    if let Some(Value::Object(user)) = want.spec.get(ha_core::desired::LABELS) {
        out.extend(
            user.iter()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))),
        );
    }
    let tokens: Vec<String> = out.keys().map(|key| token(key)).collect();
    for (tokens, number) in tokens.chunks(TOKENS_IN_A_VALUE).zip(1..) {
        let key = match number {
            1 => LABELS.to_owned(),
            more => format!("{LABELS}-{more}"),
        };
        out.insert(key, tokens.join("."));
    }
    out.insert(WS.into(), workspace.to_string());
    out.insert(REGION.into(), want.id.region.to_string());
    out.insert(NAME.into(), want.id.name.clone());
    out.insert(SPEC.into(), want.spec_hash());
    if want.protect {
        out.insert(PROTECT.into(), "true".into());
    }
    out
}

/// # Errors
///
/// A value or a key that Hetzner would refuse; nothing was asked yet.
pub(super) fn check(labels: &LabelMap, id: &ResourceId) -> Result<(), ProviderError> {
    for (key, value) in labels {
        let key_fits = if key.starts_with(OURS) {
            Ok(())
        } else {
            labels::allowed_key(ProviderName::Hetzner, key)
        };
        let refuse = |part: &str, why: String| ProviderError::Refused {
            what: format!("{id}: the {part} of the label {key} = {value} {why}"),
            help: "choose another in workspace.ncl: ha check shows the place".into(),
        };
        key_fits.map_err(|why| refuse("key", why))?;
        labels::allowed(ProviderName::Hetzner, value).map_err(|why| refuse("value", why))?;
    }
    Ok(())
}

fn token(key: &str) -> String {
    let mut hash = spec_hash(&Value::from(key));
    hash.truncate(TOKEN);
    hash
}

fn lists_tokens(key: &str) -> bool {
    key.strip_prefix(LABELS)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Those that the user wrote in the workspace, with the values that they have now.
pub(super) fn users(labels: &LabelMap) -> LabelMap {
    let lists = labels.iter().filter(|(key, _)| lists_tokens(key));
    let tokens: BTreeSet<&str> = lists.flat_map(|(_, tokens)| tokens.split('.')).collect();
    let users = labels
        .iter()
        .filter(|(key, _)| !key.starts_with(OURS) && tokens.contains(token(key).as_str()));
    users.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The user's labels as a field of a spec, where there are any.
pub(super) fn tell(spec: &mut Value, labels: &LabelMap) {
    let users = users(labels);
    if !users.is_empty() {
        spec[ha_core::desired::LABELS] = json!(users);
    }
}

/// Replaces what belongs to `want` and leaves what others wrote: what runs on a server, and labels set by hand.
pub(super) fn merged(now: &LabelMap, want: &LabelMap, without: &[&str]) -> LabelMap {
    let before = users(now);
    let mut out = now.clone();
    out.retain(|key, _| {
        let replaced = key == PROTECT || lists_tokens(key) || without.contains(&key.as_str());
        !replaced && !before.contains_key(key)
    });
    out.extend(want.clone());
    out
}

pub(super) fn of_workspace(workspace: &WorkspaceName) -> String {
    format!("{WS}=={workspace}")
}

pub(super) fn of_region(workspace: &WorkspaceName, region: &RegionName) -> String {
    format!("{WS}=={workspace},{REGION}=={region}")
}

/// The resources (at most one of each kind) that carry this name.
pub(super) fn of_one(workspace: &WorkspaceName, region: &RegionName, key: &str, name: &str) -> String {
    format!("{},{key}=={name}", of_region(workspace, region))
}

/// # Errors
///
/// It carries our workspace and not the rest, which no command of ours leaves: somebody took labels away or gave ours
/// to something. Leaving it out would be a shorter truth.
pub(super) fn identity<T: Thing>(thing: &T, kind: Kind) -> Result<(ResourceId, Labels), ProviderError> {
    let labels = thing.labels();
    let read = |key: &str| {
        labels
            .get(key)
            .filter(|it| !it.is_empty())
            .cloned()
            .ok_or_else(|| ProviderError::Refused {
                what: format!(
                    "{} {} at Hetzner (number {}) carries {WS} and no {key}",
                    T::ONE,
                    thing.name(),
                    thing.id()
                ),
                help: format!("take its label {WS} away if it is not of this workspace, or write {key} on it again"),
            })
    };
    let labels = Labels {
        ws: WorkspaceName::new(read(WS)?),
        region: RegionName::new(read(REGION)?),
        name: read(NAME)?,
        // Whoever takes it away has the resource compared field by field.
        spec: thing.labels().get(SPEC).cloned().unwrap_or_default(),
    };
    let id = ResourceId::new(&labels.region, kind, labels.name.clone());
    Ok((id, labels))
}

pub(super) fn protects(labels: &LabelMap) -> bool {
    labels.get(PROTECT).is_some_and(|it| it == "true")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want(user: &LabelMap) -> Resource {
        let mut spec = json!({ "size": "cpx22" });
        if !user.is_empty() {
            spec["labels"] = json!(user);
        }
        Resource {
            id: ResourceId::new(&RegionName::new("eu-central"), Kind::Server, "eu-app-1"),
            provider: ProviderName::Hetzner,
            spec,
            depends_on: Vec::new(),
            protect: false,
            path: "region_eu_central.app_servers".into(),
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> LabelMap {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn labels_of_others_are_neither_told_nor_taken_away() {
        let ws = WorkspaceName::new("shop");
        let mut now = of(&ws, &want(&labels(&[("team", "web"), ("example.com/tier", "1")])));
        now.insert("set-by".into(), "hand".into());
        assert_eq!(users(&now), labels(&[("team", "web"), ("example.com/tier", "1")]));
        let after = merged(&now, &of(&ws, &want(&labels(&[("team", "shop")]))), &[]);
        assert_eq!(users(&after), labels(&[("team", "shop")]));
        assert!(after.contains_key("set-by") && !after.contains_key("example.com/tier"));
        let bare = merged(&after, &of(&ws, &want(&LabelMap::new())), &[]);
        assert_eq!(users(&bare), LabelMap::new());
        assert!(!bare.contains_key("team") && !bare.contains_key(LABELS));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_hetzner_takes_it(
            user in prop::collection::btree_map("([a-z]{1,60}\\.example/)?[a-z]([a-z0-9._-]{0,40}[a-z0-9])?", "[a-z0-9]{0,10}", 0..40),
        ) {
            let want = want(&user);
            let labels = of(&WorkspaceName::new("shop"), &want);
            prop_assert!(check(&labels, &want.id).is_ok());
            let mut spec = json!({ "size": "cpx22" });
            tell(&mut spec, &labels);
            prop_assert_eq!(spec, want.spec);
        }
    }
}
