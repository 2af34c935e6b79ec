//! Hetzner's refusals as outcomes, told apart by their code: one status stands for several.
//! <https://docs.hetzner.cloud/#errors>

use ha_core::resource::ResourceId;

use super::{actions::Ended, api::ActionError};
use crate::{
    ProviderError,
    rest::{Fault, RestError},
};

/// Something else is happening to it; nothing was done, and the same request is right a little later.
pub(super) fn busy(code: &str) -> bool {
    matches!(code, "locked" | "conflict")
}

/// What it is still used by will be gone in a moment: only for deletions.
pub(super) fn lingers(code: &str) -> bool {
    busy(code) || matches!(code, "resource_in_use" | "must_be_unassigned" | "server_not_stopped")
}

pub(super) fn gone(error: &RestError) -> bool {
    error.code() == Some("not_found")
}

/// The outcome of a request about `id`.
pub(super) fn outcome(error: RestError, id: &ResourceId) -> ProviderError {
    let Fault::Answered {
        code: Some(code),
        message,
        status,
    } = &error.fault
    else {
        return error.into_provider();
    };
    // A 5xx leaves open what happened, whatever word stands in it.
    if *status >= 500 {
        return error.into_provider();
    }
    by_code(code, message, id).unwrap_or_else(|| error.into_provider())
}

/// The outcome of an action about `id`.
pub(super) fn ended(ended: Ended, command: &str, id: &ResourceId) -> Result<(), ProviderError> {
    match ended {
        Ended::Well => Ok(()),
        Ended::Failed(ActionError { code, message }) => {
            Err(by_code(&code, &message, id).unwrap_or_else(|| ProviderError::NotReady {
                id: id.clone(),
                detail: format!("hetzner: {command}: {message} ({code})"),
            }))
        }
        Ended::Vanished => Err(ProviderError::NotReady {
            id: id.clone(),
            detail: format!("hetzner no longer knows how {command} ended"),
        }),
        Ended::NotAsked(error) => Err(outcome(error, id)),
    }
}

fn by_code(code: &str, message: &str, id: &ResourceId) -> Option<ProviderError> {
    let what = format!("hetzner: {id}: {message} ({code})");
    Some(match code {
        "unauthorized" => ProviderError::Denied {
            what: format!("ask Hetzner at all: {message} ({code})"),
        },
        "token_readonly" => ProviderError::Denied {
            what: "change anything at Hetzner: its token is read-only (token_readonly)".into(),
        },
        "forbidden" => ProviderError::Denied {
            what: format!("do this at Hetzner for {id}: {message} ({code})"),
        },
        "resource_limit_exceeded" => ProviderError::Quota { what },
        "resource_unavailable" | "placement_error" | "no_space_left_in_location" => ProviderError::NoCapacity { what },
        "rate_limit_exceeded" => ProviderError::RateLimited { retry_after: None },
        "protected" => ProviderError::Protected { id: id.clone() },
        "uniqueness_error" => ProviderError::Taken {
            what: format!("the name {}", id.name),
            by: format!("another resource at Hetzner ({message})"),
        },
        "locked" | "conflict" | "maintenance" | "resource_in_use" | "action_failed" => ProviderError::NotReady {
            id: id.clone(),
            detail: format!("hetzner: {message} ({code})"),
        },
        "not_found" => ProviderError::NotReady {
            id: id.clone(),
            detail: format!("it, or something that it uses, was removed in the meantime: {message} ({code})"),
        },
        "json_error"
        | "invalid_input"
        | "invalid_server_type"
        | "unsupported_error"
        | "source_port_already_used"
        | "no_subnet_available"
        | "networks_overlap"
        | "deprecated_api_endpoint" => ProviderError::Refused {
            what,
            help: format!(
                "correct {} {} in workspace.ncl: ha check, then ha plan",
                id.kind, id.name
            ),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ha_core::{names::RegionName, resource::Kind};

    use super::*;

    #[test]
    fn the_code_decides_and_not_the_status() {
        let id = ResourceId::new(&RegionName::new("eu-central"), Kind::Server, "eu-app-1");
        let coded = |status, code: &str| {
            let error = RestError {
                at: "hetzner: POST /servers".into(),
                reads: false,
                took: Duration::ZERO,
                fault: Fault::Answered {
                    status,
                    code: Some(code.into()),
                    message: "so it is".into(),
                },
            };
            outcome(error, &id).code()
        };
        for (status, code, wanted) in [
            (401, "unauthorized", "ha::provider::denied"),
            (401, "token_readonly", "ha::provider::denied"),
            (403, "forbidden", "ha::provider::denied"),
            (403, "resource_limit_exceeded", "ha::provider::quota"),
            (403, "maintenance", "ha::provider::not_ready"),
            (412, "resource_unavailable", "ha::provider::no_capacity"),
            (422, "placement_error", "ha::provider::no_capacity"),
            (423, "protected", "ha::provider::protected"),
            (423, "locked", "ha::provider::not_ready"),
            (409, "uniqueness_error", "ha::provider::taken"),
            (422, "invalid_input", "ha::provider::refused"),
            (429, "rate_limit_exceeded", "ha::provider::rate_limited"),
            (422, "a_new_word", "ha::provider::failed"),
            (404, "not_found", "ha::provider::not_ready"),
            (503, "conflict", "ha::provider::outcome_unknown"),
        ] {
            assert_eq!(coded(status, code), wanted, "{status} {code}");
        }
    }
}
