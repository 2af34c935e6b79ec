//! What DigitalOcean's refusals mean. It has one word per status, so what they are about is in the message.

use ha_core::resource::ResourceId;
use serde_json::Value;

use crate::{
    ProviderError,
    rest::{Fault, RestError},
};

/// The word and the message of an error. <https://docs.digitalocean.com/reference/api/reference/#http-statuses>
pub(super) fn words(body: &Value) -> Option<(Option<String>, String)> {
    let text = |field: &str| body.get(field)?.as_str().map(str::to_owned);
    Some((text("id"), text("message")?))
}

/// Status and message of a refusal, the message in lower case.
fn refusal(error: &RestError) -> Option<(u16, String)> {
    match &error.fault {
        Fault::Answered { status, message, .. } => Some((*status, message.to_lowercase())),
        _ => None,
    }
}

/// Nothing is wrong with the request: another action on the same thing has to end first.
///
/// The same 422 means a mistake in the request, which no waiting mends; the message alone tells them apart
/// (`Droplet already has a pending event.`).
/// Source: <https://docs.digitalocean.com/reference/api/reference/droplet-actions/>.
pub(super) fn is_pending(error: &RestError) -> bool {
    refusal(error).is_some_and(|(status, message)| match status {
        422 => message.contains("pending event") || message.contains("is locked") || message.contains("is processing"),
        409 | 423 => true,
        _ => false,
    })
}

/// The cluster is online and not yet ready for a replica.
pub(super) fn is_early(error: &RestError) -> bool {
    error.status() == Some(412) || is_pending(error)
}

pub(super) fn is_absent(error: &RestError) -> bool {
    matches!(error.fault, Fault::Answered { status: 404, .. })
}

/// What was asked for may be there already, under the same name.
pub(super) fn may_be_there(error: &RestError) -> bool {
    matches!(error.fault, Fault::Answered { status: 409 | 422, .. })
}

/// A network that cannot go because of what is in it.
pub(super) fn names_members(error: &RestError) -> bool {
    refusal(error).is_some_and(|(_, message)| message.contains("member"))
}

/// A range of addresses that another network of the account has.
pub(super) fn overlaps(error: &RestError) -> bool {
    refusal(error).is_some_and(|(status, message)| matches!(status, 409 | 422) && message.contains("overlap"))
}

/// What the request about `id` came to, for callers above the provider.
pub(super) fn outcome(error: RestError, id: &ResourceId) -> ProviderError {
    let Some((status, message)) = refusal(&error) else {
        return error.into_provider();
    };
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let what = error.to_string();
    match status {
        403 | 409 | 422 if has(&["limit"]) && has(&["exceed", "reached", "maximum"]) => ProviderError::Quota { what },
        // An image that a region does not have is a mistake in the workspace, and no lack of machines.
        403 | 409 | 422 if has(SCARCE) && !has(&["image"]) => ProviderError::NoCapacity { what },
        409 | 412 | 423 => ProviderError::NotReady {
            id: id.clone(),
            detail: what,
        },
        422 if is_pending(&error) => ProviderError::NotReady {
            id: id.clone(),
            detail: what,
        },
        400 | 422 => ProviderError::Refused {
            what,
            help: format!(
                "correct {} {} in workspace.ncl: ha check, then ha plan",
                id.kind, id.name
            ),
        },
        _ => error.into_provider(),
    }
}

const SCARCE: &[&str] = &[
    "not available",
    "unavailable",
    "out of capacity",
    "too large to fit",
    "temporarily disabled",
];

/// The outcome of a list, which is about no resource in particular.
pub(super) fn denied(error: RestError) -> ProviderError {
    match error.status() {
        Some(401 | 403) => ProviderError::Denied {
            what: format!("look at what there is ({error})"),
        },
        _ => error.into_provider(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ha_core::{names::RegionName, resource::Kind};

    use super::*;

    fn answered(status: u16, message: &str) -> RestError {
        RestError {
            at: "digitalocean: POST /v2/droplets".into(),
            reads: false,
            took: Duration::ZERO,
            fault: Fault::Answered {
                status,
                code: Some("unprocessable_entity".into()),
                message: message.into(),
            },
        }
    }

    #[test]
    fn a_pending_event_is_waited_for_and_a_mistake_is_not() {
        assert!(is_pending(&answered(422, "Droplet already has a pending event.")));
        assert!(is_pending(&answered(409, "Can not delete VPC with members")));
        assert!(!is_pending(&answered(
            422,
            "You specified an invalid size for Droplet creation."
        )));
        assert!(!is_pending(&answered(
            403,
            "You do not have access for the attempted action."
        )));
        assert!(is_early(&answered(412, "cluster is not ready")));
    }

    #[test]
    fn refusals_are_told_apart_by_their_message() {
        let id = ResourceId::new(&RegionName::new("us-east"), Kind::Server, "us-app-1");
        for (status, message, code) in [
            (
                422,
                "creating this/these droplet(s) will exceed your droplet limit",
                "ha::provider::quota",
            ),
            (403, "volume limit exceeded", "ha::provider::quota"),
            (
                422,
                "Size is not available in this region.",
                "ha::provider::no_capacity",
            ),
            (422, "Region is not available", "ha::provider::no_capacity"),
            (
                422,
                "The image you specified is not available in the selected region.",
                "ha::provider::refused",
            ),
            (422, "Name is invalid", "ha::provider::refused"),
            (422, "Droplet already has a pending event.", "ha::provider::not_ready"),
            (409, "Can not delete VPC with members", "ha::provider::not_ready"),
            (412, "cluster is not ready", "ha::provider::not_ready"),
            (401, "Unable to authenticate you", "ha::provider::denied"),
            (
                403,
                "You do not have access for the attempted action.",
                "ha::provider::denied",
            ),
            (
                500,
                "Server was unable to give you a response.",
                "ha::provider::outcome_unknown",
            ),
        ] {
            assert_eq!(
                outcome(answered(status, message), &id).code(),
                code,
                "{status} {message}"
            );
        }
    }
}
