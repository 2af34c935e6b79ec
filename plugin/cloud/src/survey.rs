//! Everything in an account, whoever's it is, and labels for what has none.

use async_trait::async_trait;
use ha_core::{
    existing::{Found, Owner, runs_on_a_server},
    names::WorkspaceName,
    resource::{Kind, Live, Resource, ResourceId},
};
use serde_json::Value;

use crate::{Provider, ProviderError};

/// A provider that can be looked at as a whole.
#[async_trait]
pub trait Survey: Send + Sync {
    /// Everything in the account of the kinds that a workspace can declare, and addresses that are billed by
    /// themselves, to the last page, in no order. What only a workspace could say of it (see [`Found::spec`]) is left open.
    ///
    /// # Errors
    ///
    /// As [`Provider::observe`]: a list that could not be read to its end is an error, never a shorter truth.
    async fn everything(&self) -> Result<Vec<Found>, ProviderError>;

    /// Afterwards `found` carries the labels of `want` and nothing else of it has changed. The label of the spec is the
    /// hash of what it *is*, so that whatever is declared otherwise is a planned update from then on, and a change by
    /// hand after this moment is drift.
    ///
    /// Called again after a lost answer: the same. What runs on servers is no object of a provider and is refused;
    /// [`Provider::ensure`] writes it.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Taken`] when it carries the labels of another workspace or of another resource by now, or
    /// when another thing carries those of `want`; [`ProviderError::NotReady`] when it is gone. Nothing was written then.
    async fn adopt(&self, found: &Found, want: &Resource) -> Result<Live, ProviderError>;
}

/// What is wanted, as it is: the spec that was read, and of `want` all that only a workspace can say.
pub(crate) fn as_it_is(want: &Resource, is: Value) -> Resource {
    let mut spec = is;
    if want.id.kind == Kind::Server {
        for field in ["group", "index", "roles", "command"] {
            spec[field] = want.spec.get(field).cloned().unwrap_or_default();
        }
    }
    Resource { spec, ..want.clone() }
}

/// # Errors
///
/// [`ProviderError::Refused`] for what is only a label of a server.
pub(crate) fn must_be_an_object(want: &Resource) -> Result<(), ProviderError> {
    if !runs_on_a_server(want) {
        return Ok(());
    }
    Err(ProviderError::Refused {
        what: format!(
            "{} runs on a server, and whether it does is nothing that a provider knows",
            want.id
        ),
        help: "adopt its server; then ha provision writes it there".into(),
    })
}

/// Whether something whose label names `owner` may be given the labels of `id`.
///
/// # Errors
///
/// [`ProviderError::Taken`] where it belongs to somebody else. `what` is it in its provider's words.
pub(crate) fn may_take(
    owner: Option<&Owner>,
    ws: &WorkspaceName,
    id: &ResourceId,
    what: impl FnOnce() -> String,
) -> Result<(), ProviderError> {
    let Some(owner) = owner else { return Ok(()) };
    let others = |own: Option<&str>, wanted: &str| own.is_some_and(|own| own != wanted);
    let by = if owner.ws != *ws {
        format!("the workspace {}", owner.ws)
    } else if others(owner.region.as_ref().map(|it| it.as_str()), id.region.as_str())
        || others(owner.name.as_deref(), &id.name)
    {
        let name = |it: Option<&str>| it.unwrap_or("unnamed").to_owned();
        format!(
            "{} {} in {} of this workspace",
            id.kind,
            name(owner.name.as_deref()),
            name(owner.region.as_ref().map(|it| it.as_str()))
        )
    } else {
        return Ok(());
    };
    Err(ProviderError::Taken { what: what(), by })
}

/// Something else carries the labels of `id` already.
pub(crate) fn carried_by_another(id: &ResourceId, number: &str) -> ProviderError {
    ProviderError::Taken {
        what: format!("the labels of {id}"),
        by: number.to_owned(),
    }
}

/// A provider that cannot be looked at as a whole.
pub(crate) fn cannot(provider: &dyn Provider) -> ProviderError {
    ProviderError::Refused {
        what: format!("{} cannot be looked at as a whole", provider.name()),
        help: "set target = \"cloud\" in config.toml: on this machine everything carries labels".into(),
    }
}

#[cfg(test)]
mod tests {
    use ha_core::names::RegionName;

    use super::*;

    fn owner(ws: &str, region: Option<&str>, name: Option<&str>) -> Owner {
        Owner {
            ws: WorkspaceName::new(ws),
            region: region.map(RegionName::new),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn only_what_is_nobody_s_or_this_one_s_may_be_taken() {
        let ws = WorkspaceName::new("shop");
        let id = ResourceId::new(&RegionName::new("us-east"), Kind::Server, "us-app-1");
        let may = |owner: Option<Owner>| may_take(owner.as_ref(), &ws, &id, || "server 7".into());
        assert!(may(None).is_ok());
        assert!(may(Some(owner("shop", Some("us-east"), Some("us-app-1")))).is_ok());
        // Somebody died, or took labels away.
        assert!(may(Some(owner("shop", None, Some("us-app-1")))).is_ok());
        for (other, by) in [
            (owner("shop2", Some("us-east"), Some("us-app-1")), "the workspace shop2"),
            (owner("shop", Some("us-east"), Some("us-app-2")), "server us-app-2"),
            (owner("shop", Some("us-west"), None), "in us-west"),
        ] {
            let error = may(Some(other)).expect_err(by);
            assert!(
                matches!(&error, ProviderError::Taken { by: told, .. } if told.contains(by)),
                "{error}"
            );
        }
    }
}
