//! What every kind needs: find, act and wait, and the things that others depend on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    future::{join_all, try_join_all},
    try_join,
};
use ha_core::{
    names::RegionName,
    resource::{Kind, Resource, ResourceId},
};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::sync::{OnceCell, RwLock};

use super::{
    Options,
    actions::{Actions, Ended, Until},
    api::{Action, Begun, LabelMap, Network, Server, Thing},
    catalogue::Location,
    errors, labels,
};
use crate::{
    ProviderError,
    rest::{Backoff, Listing, Page, Rest, RestError},
};

/// The project of one token, seen by one workspace.
pub(super) struct Cloud {
    pub(super) rest: Rest,
    pub(super) actions: Actions,
    pub(super) options: Options,
    pub(super) locations: OnceCell<Vec<Location>>,
    /// Held for reading while a server is put into a placement group, for writing while empty ones are removed.
    pub(super) spread: RwLock<()>,
    /// Labels are written as a whole: whoever changes some of a server's waits for the others who do.
    writers: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

/// What a resource depends on, in its own region.
#[derive(Default)]
pub(super) struct Needed {
    pub(super) networks: Vec<Network>,
    /// All servers of the region, where any is needed.
    pub(super) servers: Vec<Server>,
}

impl Cloud {
    pub(super) fn new(rest: Rest, options: Options) -> Self {
        Self {
            actions: Actions::new(rest.clone(), options.pause),
            rest,
            options,
            locations: OnceCell::new(),
            spread: RwLock::default(),
            writers: Mutex::default(),
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::starting(self.options.pause)
    }

    pub(super) fn until(&self) -> Until {
        Until::within(self.options.deadline)
    }

    /// All of a kind that the filter lets through, to the last page.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        list: &str,
        filter: Option<(&str, String)>,
    ) -> Result<Vec<T>, RestError> {
        let query: Vec<(&str, String)> = filter.into_iter().collect();
        let listing = Listing {
            path: &format!("/{list}"),
            query: &query,
            items: list,
            id: "id",
            per_page: 50,
            page: |answer| {
                let told = &answer["meta"]["pagination"];
                Page {
                    total: told["total_entries"].as_u64(),
                    more: !told["next_page"].is_null(),
                }
            },
        };
        self.rest.list(&listing).await
    }

    pub(super) async fn selected<T: Thing>(&self, selector: String) -> Result<Vec<T>, RestError> {
        self.list(T::LIST, Some(("label_selector", selector))).await
    }

    /// The one that carries our labels and this name.
    ///
    /// # Errors
    ///
    /// Two of them carry the same: nobody can say which is meant.
    pub(super) async fn labelled<T: Thing>(&self, id: &ResourceId) -> Result<Option<T>, ProviderError> {
        let selector = labels::of_one(&self.options.workspace, &id.region, labels::NAME, &id.name);
        let found = self.selected::<T>(selector).await;
        one(found.map_err(|error| errors::outcome(error, id))?, id)
    }

    /// The one that carries our labels and this name, whatever it is called now.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Taken`] when the name belongs to something that does not.
    pub(super) async fn find<T: Thing>(&self, id: &ResourceId) -> Result<Option<T>, ProviderError> {
        let named = self.list::<T>(T::LIST, Some(("name", id.name.clone())));
        let named = async { named.await.map_err(|error| errors::outcome(error, id)) };
        let (ours, named) = try_join!(self.labelled::<T>(id), named)?;
        let Some(other) = named
            .into_iter()
            .find(|it| Some(it.id()) != ours.as_ref().map(Thing::id))
        else {
            return Ok(ours);
        };
        // Made between the two looks: several servers of a group make its placement group at once.
        if ours.is_none() && self.carries_labels_of(&other, id) {
            return Ok(Some(other));
        }
        Err(ProviderError::Taken {
            what: format!("the name {}", id.name),
            by: format!(
                "{} number {} at Hetzner, which does not carry the labels of {id}",
                T::ONE,
                other.id()
            ),
        })
    }

    fn carries_labels_of<T: Thing>(&self, thing: &T, id: &ResourceId) -> bool {
        let has = |key: &str, value: &str| thing.labels().get(key).is_some_and(|it| it == value);
        has(labels::WS, self.options.workspace.as_str())
            && has(labels::REGION, id.region.as_str())
            && has(labels::NAME, &id.name)
    }

    pub(super) async fn one<T: Thing>(&self, number: u64, id: &ResourceId) -> Result<T, ProviderError> {
        let answer = self.rest.get::<Value>(&format!("/{}/{number}", T::LIST), &[]).await;
        match answer {
            Ok(answer) => part(answer, T::ONE, id),
            Err(error) if errors::gone(&error) => Err(ProviderError::NotReady {
                id: id.clone(),
                detail: "it was removed in the meantime".into(),
            }),
            Err(error) => Err(errors::outcome(error, id)),
        }
    }

    /// Sends a request that changes something; while something else is happening to its object, again and again.
    pub(super) async fn act(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        id: &ResourceId,
        until: Until,
    ) -> Result<Value, ProviderError> {
        let answer = self.insist(method, path, body, errors::busy, until).await;
        answer.map_err(|error| errors::outcome(error, id))
    }

    async fn insist(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        passes: fn(&str) -> bool,
        until: Until,
    ) -> Result<Value, RestError> {
        let mut backoff = self.backoff();
        loop {
            let error = match self.rest.send(method.clone(), path, body.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = !error.may_have_acted() && error.code().is_some_and(passes);
            if !again || !until.pause(backoff.pause()).await {
                return Err(error);
            }
        }
    }

    /// Creates one; when its name turns out to be taken, looks whether it is ours by now (an answer that was lost).
    pub(super) async fn create<T: Thing>(
        &self,
        body: Value,
        id: &ResourceId,
        until: Until,
    ) -> Result<T, ProviderError> {
        let path = format!("/{}", T::LIST);
        let answer = match self.insist(Method::POST, &path, Some(body), errors::busy, until).await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("uniqueness_error") => {
                let found = self.find::<T>(id).await?;
                return found.ok_or_else(|| errors::outcome(error, id));
            }
            // It is not this one that does not exist, but an image, a type, a key that it names.
            Err(error) if errors::gone(&error) => {
                return Err(ProviderError::Refused {
                    what: format!("{id} names what does not exist: {error}"),
                    help: format!(
                        "correct {} {} in workspace.ncl: ha check, then ha plan",
                        id.kind, id.name
                    ),
                });
            }
            Err(error) => return Err(errors::outcome(error, id)),
        };
        let begun = answer.clone();
        let made = part(answer, T::ONE, id)?;
        self.finish(begun, id, until).await?;
        Ok(made)
    }

    /// Runs `/servers/42/actions/poweron` and the like to its end; some take no body, which is null here.
    pub(super) async fn run<T: Thing>(
        &self,
        number: u64,
        action: &str,
        body: Value,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let path = format!("/{}/{number}/actions/{action}", T::LIST);
        let answer = self
            .act(Method::POST, &path, Some(body).filter(|it| !it.is_null()), id, until)
            .await?;
        self.finish(answer, id, until).await
    }

    /// Waits for all actions that an answer names.
    pub(super) async fn finish(&self, answer: Value, id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        if answer.is_null() {
            return Ok(());
        }
        let begun: Begun = serde_json::from_value(answer).map_err(|error| unreadable(&error, id))?;
        self.ended(&begun.all(), id, until).await
    }

    pub(super) async fn ended(&self, begun: &[Action], id: &ResourceId, until: Until) -> Result<(), ProviderError> {
        let work = join_all(
            begun
                .iter()
                .map(async |it| (it.command.as_str(), self.actions.end(it).await)),
        );
        match tokio::time::timeout_at(until.at, work).await {
            Ok(ended) => ended
                .into_iter()
                .try_for_each(|(command, ended)| errors::ended(ended, command, id)),
            Err(_) => Err(ProviderError::OutcomeUnknown {
                what: format!("hetzner: {id}"),
                after: until.after,
            }),
        }
    }

    /// Waits for whatever is already running on a resource: an answer was lost, or somebody else is at work.
    pub(super) async fn settle<T: Thing>(
        &self,
        number: u64,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let list = format!("/{}/{number}/actions", T::LIST);
        let query = [("status", "running".to_owned()), ("per_page", "50".to_owned())];
        #[derive(Deserialize)]
        struct Answer {
            actions: Vec<Action>,
        }
        let answer = self.rest.get::<Answer>(&list, &query).await;
        let running = answer.map_err(|error| errors::outcome(error, id))?.actions;
        let work = join_all(running.iter().map(|it| self.actions.end(it)));
        // How they end is the business of whoever began them; what is there afterwards is looked at again.
        match tokio::time::timeout_at(until.at, work).await {
            Ok(ended) => ended.into_iter().try_for_each(|it| match it {
                Ended::NotAsked(error) => Err(errors::outcome(error, id)),
                Ended::Well | Ended::Failed(_) | Ended::Vanished => Ok(()),
            }),
            Err(_) => Err(ProviderError::NotReady {
                id: id.clone(),
                detail: format!("hetzner was still at work on it after {:?}", until.after),
            }),
        }
    }

    /// How it is once nothing is happening to it, where it does not say so itself: what an answer that was lost had begun
    /// is in it.
    pub(super) async fn at_rest<T: Thing>(
        &self,
        number: u64,
        id: &ResourceId,
        until: Until,
    ) -> Result<T, ProviderError> {
        self.settle::<T>(number, id, until).await?;
        self.one(number, id).await
    }

    /// Deletes and waits until it is gone. What still uses it may linger for a while.
    pub(super) async fn delete<T: Thing>(
        &self,
        number: u64,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let path = format!("/{}/{number}", T::LIST);
        match self.insist(Method::DELETE, &path, None, errors::lingers, until).await {
            Ok(answer) => self.finish(answer, id, until).await?,
            Err(error) if errors::gone(&error) => return Ok(()),
            Err(error) => return Err(errors::outcome(error, id)),
        }
        let mut backoff = self.backoff();
        loop {
            match self.rest.get::<Value>(&path, &[]).await {
                Err(error) if errors::gone(&error) => return Ok(()),
                Err(error) => return Err(errors::outcome(error, id)),
                Ok(_) if until.pause(backoff.pause()).await => {}
                Ok(_) => {
                    return Err(ProviderError::OutcomeUnknown {
                        what: format!("hetzner: removing {id}"),
                        after: until.after,
                    });
                }
            }
        }
    }

    /// Writes labels (all of them) and the name, where they differ.
    pub(super) async fn relabel<T: Thing>(
        &self,
        thing: &T,
        labels: &LabelMap,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let mut body = Map::new();
        if thing.labels() != labels {
            body.insert("labels".into(), json!(labels));
        }
        if thing.name() != id.name {
            body.insert("name".into(), json!(id.name));
        }
        if body.is_empty() {
            return Ok(());
        }
        let path = format!("/{}/{}", T::LIST, thing.id());
        self.act(Method::PUT, &path, Some(body.into()), id, until).await?;
        Ok(())
    }

    /// Changes some labels of a server and leaves what others wrote at the same time.
    pub(super) async fn rewrite(
        &self,
        server: u64,
        id: &ResourceId,
        until: Until,
        change: impl FnOnce(&mut LabelMap),
    ) -> Result<Server, ProviderError> {
        let writer = {
            let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            writers.entry(server).or_default().clone()
        };
        let _turn = writer.lock().await;
        let mut now: Server = self.one(server, id).await?;
        let mut labels = now.labels.clone();
        change(&mut labels);
        if labels == now.labels {
            return Ok(now);
        }
        let path = format!("/servers/{server}");
        let body = json!({ "labels": labels });
        self.act(Method::PUT, &path, Some(body), id, until).await?;
        now.labels = labels;
        Ok(now)
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
        let networks = self.in_region::<Network>(&want.id.region, any(&[Kind::Network]));
        let servers = any(&[Kind::Server, Kind::Store, Kind::Database]);
        let servers = self.in_region::<Server>(&want.id.region, servers);
        let found = try_join!(networks, servers).map_err(|error| errors::outcome(error, &want.id))?;
        let needed = Needed {
            networks: found.0,
            servers: found.1,
        };
        for id in near {
            let there = match id.kind {
                Kind::Network => has(&needed.networks, labels::NAME, &id.name),
                Kind::Server => has(&needed.servers, labels::NAME, &id.name),
                Kind::Store => has(&needed.servers, super::hosted::STORE.name, &id.name),
                Kind::Database => has(&needed.servers, super::hosted::DATABASE.name, &id.name),
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
        Ok(needed)
    }

    async fn in_region<T: Thing>(&self, region: &RegionName, asked: bool) -> Result<Vec<T>, RestError> {
        if !asked {
            return Ok(Vec::new());
        }
        self.selected(labels::of_region(&self.options.workspace, region)).await
    }

    /// Deletes several, side by side.
    pub(super) async fn delete_all<T: Thing>(
        &self,
        numbers: impl IntoIterator<Item = u64>,
        id: &ResourceId,
        until: Until,
    ) -> Result<(), ProviderError> {
        let work = numbers.into_iter().map(|number| self.delete::<T>(number, id, until));
        try_join_all(work).await?;
        Ok(())
    }
}

fn has<T: Thing>(things: &[T], key: &str, name: &str) -> bool {
    things
        .iter()
        .any(|it| it.labels().get(key).is_some_and(|value| value == name))
}

/// The only one of a list that can have one at most.
pub(super) fn one<T: Thing>(mut found: Vec<T>, id: &ResourceId) -> Result<Option<T>, ProviderError> {
    if found.len() > 1 {
        let numbers: Vec<String> = found.iter().map(|it| it.id().to_string()).collect();
        return Err(ProviderError::Refused {
            what: format!(
                "{} {}s at Hetzner carry the labels of {id}: {}",
                found.len(),
                T::ONE,
                numbers.join(", ")
            ),
            help: format!("take the label {} away from those that are not meant", labels::WS),
        });
    }
    Ok(found.pop())
}

fn part<T: DeserializeOwned>(mut answer: Value, field: &str, id: &ResourceId) -> Result<T, ProviderError> {
    let part = answer.get_mut(field).map(Value::take).unwrap_or_default();
    serde_json::from_value(part).map_err(|error| unreadable(&error, id))
}

fn unreadable(error: &serde_json::Error, id: &ResourceId) -> ProviderError {
    ProviderError::Unreachable {
        what: format!("hetzner: the answer about {id} is not of the documented form: {error}"),
        help: "look at the provider's `endpoint` in config.toml: what answers there does not speak its API".into(),
    }
}
