//! Tags put on, taken off, and swept away when nothing has them any more.

use std::collections::BTreeSet;

use futures::{future::try_join_all, try_join};
use ha_core::resource::ResourceId;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::RwLockReadGuard;

use super::{
    api::{Firewall, LoadBalancer, Tag},
    cloud::Cloud,
    errors,
    labels::{self, Tags},
};
use crate::{
    ProviderError,
    rest::{RestError, segment},
};

/// What a tag can be put on, in DigitalOcean's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tagged {
    Droplet(u64),
    Volume(String),
    Database(String),
}

impl Cloud {
    /// No tag is swept away until this is dropped.
    pub(super) async fn making(&self) -> RwLockReadGuard<'_, ()> {
        self.making.read().await
    }

    /// Afterwards there is such a tag.
    pub(super) async fn tag_exists(&self, tag: &str, id: &ResourceId) -> Result<(), ProviderError> {
        let body = json!({ "name": tag });
        match self.send::<Value>(Method::POST, "/v2/tags", Some(&body)).await {
            Ok(_) => Ok(()),
            Err(error) if errors::may_be_there(&error) => match self.one::<Tag>(tag).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(errors::outcome(error, id)),
                Err(error) => Err(errors::outcome(error, id)),
            },
            Err(error) => Err(errors::outcome(error, id)),
        }
    }

    /// Afterwards all of them have the tag.
    pub(super) async fn put_on(&self, tag: &str, things: &[Tagged], id: &ResourceId) -> Result<(), ProviderError> {
        self.tag_exists(tag, id).await?;
        if things.is_empty() {
            return Ok(());
        }
        self.change(Method::POST, tag, things)
            .await
            .map_err(|error| errors::outcome(error, id))
    }

    /// Afterwards none of them has the tag.
    pub(super) async fn take_off(&self, tag: &str, things: &[Tagged], id: &ResourceId) -> Result<(), ProviderError> {
        if things.is_empty() {
            return Ok(());
        }
        match self.change(Method::DELETE, tag, things).await {
            Err(error) if !errors::is_absent(&error) => Err(errors::outcome(error, id)),
            _ => Ok(()),
        }
    }

    /// Afterwards there is no such tag, on nothing.
    pub(super) async fn forget(&self, tag: &str, id: &ResourceId) -> Result<(), ProviderError> {
        let path = format!("/v2/tags/{}", segment(tag));
        self.delete(&path)
            .await
            .map(drop)
            .map_err(|error| errors::outcome(error, id))
    }

    /// Afterwards `thing`, which has the tags `has`, has those of `wanted` and none other that these replace. The hash
    /// comes last: it says that all before it is done.
    pub(super) async fn bring(
        &self,
        thing: Tagged,
        has: &[String],
        wanted: &Tags,
        replaces: impl Fn(&str) -> bool,
        id: &ResourceId,
    ) -> Result<(), ProviderError> {
        let thing = [thing];
        let hash = labels::tag(labels::SPEC, "");
        let (first, last): (Vec<_>, Vec<_>) = wanted
            .iter()
            .filter(|tag| !has.contains(tag))
            .partition(|tag| !tag.starts_with(&hash));
        for tag in first.into_iter().chain(last) {
            self.put_on(tag, &thing, id).await?;
        }
        let mut gone: Vec<&String> = has
            .iter()
            .filter(|tag| replaces(tag) && !wanted.contains(*tag))
            .collect();
        // As long as its mark is there, it is known whose a label is.
        gone.sort_by_key(|tag| labels::is_mark(tag));
        for tag in &gone {
            self.take_off(tag, &thing, id).await?;
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.sweep(id).await
    }

    /// Removes our tags that nothing has: a tag exists by itself, and whoever made it takes it away.
    ///
    /// None of another workspace; none that says whose a reserved IP is; and none that a firewall, a balancer or a database refers to, since Droplets that come
    /// later get what it grants by having it. All of the others, since whoever was cut short before does not know any
    /// more which those were.
    pub(super) async fn sweep(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let _nothing_is_made = self.making.write().await;
        let unused = self.unused().await.map_err(|error| errors::outcome(error, id))?;
        for tag in unused {
            self.forget(&tag, id).await?;
        }
        Ok(())
    }

    async fn unused(&self) -> Result<Vec<String>, RestError> {
        let all = self.list::<Tag>(&[]).await?;
        let none_has_it = |tag: &&Tag| tag.resources.as_ref().is_some_and(|it| it.count == 0);
        let unused = all.iter().filter(none_has_it).map(|tag| tag.name.as_str());
        let unused: BTreeSet<&str> = unused.collect();
        let is_ours = |tag: &&str| labels::may_be_of(&self.options.workspace, tag) && !labels::is_about_address(tag);
        let ours = || unused.iter().copied().filter(is_ours);
        // Labels of the user before what marks them.
        let theirs = ours().filter_map(|tag| unused.get(labels::marked_by(tag)?).copied());
        let mut unused: Vec<String> = theirs.chain(ours()).map(str::to_owned).collect();
        if unused.is_empty() {
            return Ok(unused);
        }
        let unfiltered = [];
        let (firewalls, balancers, trusted) = try_join!(
            self.list::<Firewall>(&unfiltered),
            self.list::<LoadBalancer>(&unfiltered),
            self.all_trusted(&unused),
        )?;
        let referred = |tag: &String| {
            let ends = |it: &Firewall| {
                let sources = it.inbound_rules.iter().any(|rule| rule.sources.tags.contains(tag));
                sources || it.tags.contains(tag)
            };
            let behind = balancers.iter().any(|it| it.tag == *tag);
            behind || firewalls.iter().any(ends) || trusted.contains(tag)
        };
        unused.retain(|tag| !referred(tag));
        Ok(unused)
    }

    /// The tags that managed databases of this workspace trust; asked for when one of a group is about to go.
    async fn all_trusted(&self, unused: &[String]) -> Result<Vec<String>, RestError> {
        if !unused
            .iter()
            .any(|tag| tag.starts_with(&labels::tag(labels::GROUP, "")))
        {
            return Ok(Vec::new());
        }
        let all = self.databases().await?;
        let rules = try_join_all(all.iter().map(|it| self.trusted_sources(it))).await?;
        Ok(rules.into_iter().flatten().map(|rule| rule.value).collect())
    }

    async fn change(&self, method: Method, tag: &str, things: &[Tagged]) -> Result<(), RestError> {
        let path = format!("/v2/tags/{}/resources", segment(tag));
        let resources: Vec<Value> = things.iter().map(Tagged::reference).collect();
        let body = json!({ "resources": resources });
        self.send::<Value>(method, &path, Some(&body)).await.map(drop)
    }
}

impl Tagged {
    pub(super) fn number(&self) -> String {
        match self {
            Self::Droplet(id) => id.to_string(),
            Self::Volume(id) | Self::Database(id) => id.clone(),
        }
    }

    fn reference(&self) -> Value {
        let kind = match self {
            Self::Droplet(_) => "droplet",
            Self::Volume(_) => "volume",
            Self::Database(_) => "database",
        };
        json!({ "resource_id": self.number(), "resource_type": kind })
    }
}
