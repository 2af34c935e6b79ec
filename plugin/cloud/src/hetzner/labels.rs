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

use ha_core::{
    names::{ProviderName, RegionName, WorkspaceName},
    resource::{Kind, Labels, Resource, ResourceId},
};
use serde_json::Value;

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

/// Everything of ours begins so; the other labels are the user's.
const OURS: &str = "ha/";

/// The labels of a resource of its own at Hetzner, the user's included.
pub(super) fn of(workspace: &WorkspaceName, want: &Resource) -> LabelMap {
    let mut out = LabelMap::new();
    if let Some(Value::Object(user)) = want.spec.get("labels") {
        out.extend(
            user.iter()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))),
        );
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

/// Those that the user chose.
pub(super) fn users(labels: &LabelMap) -> LabelMap {
    let users = labels.iter().filter(|(key, _)| !key.starts_with(OURS));
    users.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Replaces what belongs to `want` and leaves what others wrote: what runs on a server, and labels set by hand.
pub(super) fn merged(now: &LabelMap, want: &LabelMap, without: &[&str]) -> LabelMap {
    let mut out = now.clone();
    out.remove(PROTECT);
    for key in without {
        out.remove(*key);
    }
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
