//! What every kind needs: find, act and wait, and the things that others depend on.

use std::time::Duration;

use futures::try_join;
use ha_core::resource::{Kind, Resource, ResourceId};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{
    sync::{Mutex, RwLock},
    time::Instant,
};

use super::{
    Options,
    api::{Action, ActionStatus, Droplet, SshKey, Thing, Vpc},
    errors, labels,
};
use crate::{
    ProviderError,
    rest::{Backoff, Fault, Listing, Page, Rest, RestError, Settings, segment},
};

/// The most that DigitalOcean gives at once.
/// Source: <https://docs.digitalocean.com/reference/api/reference/#links--pagination>.
const PER_PAGE: usize = 200;

/// The account of one token, seen by one workspace.
pub(super) struct Cloud {
    pub(super) rest: Rest,
    pub(super) options: Options,
    /// The SSH keys of the account, once they were asked for: the list may be asked for ten times a minute.
    pub(super) keys: Mutex<Option<Vec<SshKey>>>,
    /// Held for reading while something is made: its tags may be known and not yet be on anything, and a sweep that
    /// counted them then would take them away.
    pub(super) making: RwLock<()>,
}

/// What a resource depends on, in its own region.
#[derive(Default)]
pub(super) struct Needed {
    pub(super) networks: Vec<Vpc>,
    /// All servers of the region, where any is needed.
    pub(super) servers: Vec<Droplet>,
}

impl Cloud {
    pub(super) fn new(options: Options) -> Result<Self, RestError> {
        let mut settings = Settings::new("digitalocean", &options.endpoint, options.token.clone());
        settings.concurrency = options.concurrency;
        settings.timeout = options.timeout;
        // The burst limit is of one minute: whoever met it waits that long at most, and need not fail.
        settings.longest_wait = Duration::from_secs(60);
        settings.error = errors::words;
        settings.ledger = options.ledger.clone();
        Ok(Self {
            rest: Rest::new(settings)?,
            options,
            keys: Mutex::default(),
            making: RwLock::default(),
        })
    }

    /// As long as one step may take.
    pub(super) fn wait(&self) -> Wait {
        self.wait_for(self.options.deadline)
    }

    pub(super) fn wait_for(&self, patience: Duration) -> Wait {
        Wait {
            backoff: Backoff::new(self.options.pause, Duration::from_secs(5)),
            until: Instant::now() + patience,
            patience,
        }
    }

    /// One thing by its id; none when there is none.
    pub(super) async fn one<T: Thing>(&self, id: &str) -> Result<Option<T>, RestError> {
        self.field(&format!("/v2/{}/{}", T::LIST, segment(id)), T::ONE).await
    }

    /// The field of an answer; none when there is no such thing.
    pub(super) async fn field<T: DeserializeOwned>(&self, path: &str, field: &str) -> Result<Option<T>, RestError> {
        match self.rest.get::<Value>(path, &[]).await {
            Ok(mut answer) => self.take(path, &mut answer, field).map(Some),
            Err(error) if errors::is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn list<T: Thing>(&self, query: &[(&str, String)]) -> Result<Vec<T>, RestError> {
        let id = match T::LIST {
            "tags" => "name",
            "sizes" | "regions" => "slug",
            _ => "id",
        };
        self.list_at(&format!("/v2/{}", T::LIST), T::LIST, id, query).await
    }

    pub(super) async fn list_at<T: DeserializeOwned>(
        &self,
        path: &str,
        items: &str,
        id: &str,
        query: &[(&str, String)],
    ) -> Result<Vec<T>, RestError> {
        let listing = Listing {
            path,
            query,
            items,
            id,
            per_page: PER_PAGE,
            page,
        };
        self.rest.list(&listing).await
    }

    /// A list that DigitalOcean gives whole; null is an empty one.
    pub(super) async fn whole<T: DeserializeOwned>(
        &self,
        path: &str,
        items: &str,
        query: &[(&str, String)],
    ) -> Result<Vec<T>, RestError> {
        let mut answer: Value = self.rest.get(path, query).await?;
        let found: Option<Vec<T>> = self.take(path, &mut answer, items)?;
        Ok(found.unwrap_or_default())
    }

    /// Makes something: the thing, and the actions that make it.
    pub(super) async fn create<T: Thing>(&self, body: &Value) -> Result<T, RestError> {
        let path = format!("/v2/{}", T::LIST);
        let mut answer: Value = self.rest.send(Method::POST, &path, Some(body)).await?;
        self.take(&path, &mut answer, T::ONE)
    }

    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, RestError> {
        self.rest.send(method, path, body).await
    }

    /// As [`Client::send`], sent again for as long as the refusal is one that `passes`.
    pub(super) async fn send_when_free<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        passes: fn(&RestError) -> bool,
    ) -> Result<T, RestError> {
        let mut wait = self.wait();
        loop {
            match self.rest.send(method.clone(), path, body).await {
                Err(error) if passes(&error) => {
                    if !wait.pause().await {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    /// Removes it; true when it was there. What is busy is waited for.
    pub(super) async fn delete(&self, path: &str) -> Result<bool, RestError> {
        match self
            .send_when_free::<Value>(Method::DELETE, path, None, errors::is_pending)
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if errors::is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes it and waits until DigitalOcean no longer knows it.
    pub(super) async fn delete_to_the_end(&self, id: &ResourceId, path: &str) -> Result<(), ProviderError> {
        if !self.delete(path).await.map_err(|error| errors::outcome(error, id))? {
            return Ok(());
        }
        let mut wait = self.wait();
        loop {
            match self.rest.get::<Value>(path, &[]).await {
                Ok(_) => {}
                Err(error) if errors::is_absent(&error) => return Ok(()),
                Err(error) => return Err(errors::outcome(error, id)),
            }
            if !wait.pause().await {
                return Err(ProviderError::OutcomeUnknown {
                    what: format!("digitalocean: removing {id}"),
                    after: wait.patience,
                });
            }
        }
    }

    /// Begins an action on `/v2/droplets/42` and the like, and waits for its end.
    pub(super) async fn act(&self, id: &ResourceId, path: &str, body: &Value) -> Result<(), ProviderError> {
        let path = format!("{path}/actions");
        let begun = self
            .send_when_free::<Begun>(Method::POST, &path, Some(body), errors::is_pending)
            .await;
        self.end(id, begun.map_err(|error| errors::outcome(error, id))?.action)
            .await
    }

    /// Waits for the action of that number.
    pub(super) async fn end_of(&self, id: &ResourceId, action: u64) -> Result<(), ProviderError> {
        let action = Action {
            id: action,
            kind: "create".into(),
            status: ActionStatus::InProgress,
        };
        self.end(id, action).await
    }

    async fn end(&self, id: &ResourceId, begun: Action) -> Result<(), ProviderError> {
        let mut wait = self.wait();
        let path = format!("/v2/actions/{}", begun.id);
        let not_ready = |detail: String| ProviderError::NotReady { id: id.clone(), detail };
        let mut action = begun;
        loop {
            let Action { id: number, kind, .. } = &action;
            match action.status {
                ActionStatus::Completed => return Ok(()),
                ActionStatus::Errored => {
                    return Err(not_ready(format!(
                        "DigitalOcean's action {number} ({kind}) ended in an error"
                    )));
                }
                ActionStatus::InProgress => {}
            }
            if !wait.pause().await {
                return Err(ProviderError::OutcomeUnknown {
                    what: format!("digitalocean: {id} ({kind})"),
                    after: wait.patience,
                });
            }
            let found = self
                .field(&path, "action")
                .await
                .map_err(|error| errors::outcome(error, id))?;
            let lost = || {
                let what = format!("DigitalOcean no longer knows its action {number} ({kind})");
                not_ready(format!("{what}: how it ended cannot be found out"))
            };
            action = found.ok_or_else(lost)?;
        }
    }

    /// All Droplets of this workspace.
    pub(super) async fn droplets(&self) -> Result<Vec<Droplet>, RestError> {
        let tag = labels::ours(&self.options.workspace);
        self.list(&[("tag_name", tag)]).await
    }

    /// All networks of this workspace. They have no tags to ask for.
    pub(super) async fn networks(&self) -> Result<Vec<Vpc>, RestError> {
        let mut all = self.list::<Vpc>(&[]).await?;
        all.retain(|it| self.owns_network(it).is_some());
        Ok(all)
    }

    /// What a resource depends on, as far as it is in its own region; other regions are other providers' part.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Missing`] with the first that does not exist.
    pub(super) async fn needed(&self, want: &Resource) -> Result<Needed, ProviderError> {
        let near: Vec<&ResourceId> = want
            .depends_on
            .iter()
            .filter(|it| it.region == want.id.region)
            .collect();
        let any = |kinds: &[Kind]| near.iter().any(|it| kinds.contains(&it.kind));
        let (with_networks, with_servers) = (any(&[Kind::Network]), any(&[Kind::Server, Kind::Store, Kind::Database]));
        let networks = async {
            if with_networks {
                self.networks().await
            } else {
                Ok(Vec::new())
            }
        };
        let servers = async {
            if with_servers {
                self.droplets().await
            } else {
                Ok(Vec::new())
            }
        };
        let (networks, servers) = try_join!(networks, servers).map_err(|error| errors::outcome(error, &want.id))?;
        for id in near {
            let carried =
                |tags: &[String]| labels::read_badges(&self.options.workspace, id.kind, tags).any(|it| it.id == *id);
            let there = match id.kind {
                Kind::Network => networks
                    .iter()
                    .any(|it| self.owns_network(it).is_some_and(|it| it.id == *id)),
                Kind::Server => servers
                    .iter()
                    .any(|it| self.owns(id.kind, &it.tags).is_some_and(|it| it.id == *id)),
                Kind::Store => servers.iter().any(|it| carried(&it.tags)),
                Kind::Database => servers.iter().any(|it| carried(&it.tags)) || self.database(id).await?.is_some(),
                // Nothing of ours names them as a dependency.
                Kind::Firewall | Kind::Volume | Kind::LoadBalancer => true,
            };
            if !there {
                return Err(ProviderError::Missing {
                    id: want.id.clone(),
                    needs: id.to_string(),
                });
            }
        }
        Ok(Needed { networks, servers })
    }

    /// None when it is not of this workspace.
    pub(super) fn owns(&self, kind: Kind, tags: &[String]) -> Option<labels::Owned> {
        labels::read(&self.options.workspace, kind, tags)
    }

    fn take<T: DeserializeOwned>(&self, path: &str, answer: &mut Value, field: &str) -> Result<T, RestError> {
        let value = answer.get_mut(field).map(Value::take).unwrap_or_default();
        serde_json::from_value(value).map_err(|error| RestError {
            at: format!("digitalocean: {path}"),
            reads: false,
            took: Duration::ZERO,
            fault: Fault::Shape {
                why: format!("{field}: {error}"),
            },
        })
    }
}

#[derive(Deserialize)]
struct Begun {
    action: Action,
}

/// A page is the last when no other is named. Short lists come without `links`.
/// Source: <https://docs.digitalocean.com/reference/api/reference/#links--pagination>.
fn page(answer: &Value) -> Page {
    Page {
        total: answer["meta"]["total"].as_u64(),
        more: answer["links"]["pages"]["next"].is_string(),
    }
}

/// Pauses between two looks, and the moment after which nobody looks any more.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    backoff: Backoff,
    until: Instant,
    pub(super) patience: Duration,
}

impl Wait {
    /// Waits, and no longer than there is time; false when there is none left.
    pub(super) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.until {
            return false;
        }
        tokio::time::sleep_until((now + self.backoff.pause()).min(self.until)).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_ends_where_no_next_page_is_named() {
        let told = |answer: Value| page(&answer);
        let more =
            json!({ "links": { "pages": { "next": "https://api/v2/droplets?page=2" } }, "meta": { "total": 3 } });
        assert_eq!(
            told(more),
            Page {
                total: Some(3),
                more: true
            }
        );
        let last =
            json!({ "links": { "pages": { "prev": "https://api/v2/droplets?page=1" } }, "meta": { "total": 3 } });
        assert_eq!(
            told(last),
            Page {
                total: Some(3),
                more: false
            }
        );
        assert_eq!(
            told(json!({ "links": {}, "meta": { "total": 0 } })),
            Page {
                total: Some(0),
                more: false
            }
        );
        assert_eq!(
            told(json!({ "droplets": [] })),
            Page {
                total: None,
                more: false
            }
        );
    }
}
