//! A provider without a world behind it: for tests of everything above [`Provider`], and the first to pass the
//! [contract](crate::contract).
//!
//! Faults are asked for one at a time and used up in order, so that a test says exactly what goes wrong when.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use ha_core::{
    names::WorkspaceName,
    resource::{Kind, Labels, Live, Resource, ResourceId, Status},
};

use crate::{Account, Provider, ProviderError};

/// Clones are the same provider: one can be handed away and the other asked what happened.
#[derive(Clone, Debug)]
pub struct MemoryProvider {
    workspace: WorkspaceName,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<ResourceId, Live>,
    faults: VecDeque<(Call, Option<ResourceId>, Fault)>,
    acts: Vec<Act>,
}

/// The methods of [`Provider`] that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Account,
    Observe,
    Ensure,
    Remove,
    Power,
}

/// What goes wrong.
#[derive(Debug)]
pub enum Fault {
    /// Nothing happens, and this is the answer.
    Refuse(ProviderError),
    /// It happens, and the answer is lost on its way.
    LoseAnswer,
    /// It happens after this long.
    Slow(Duration),
    /// An ensure dies half-way: something is there, and is not usable.
    HalfDone,
    /// A fault of the provider's own code.
    Panic,
}

/// What really changed, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Created(ResourceId),
    Updated(ResourceId),
    Removed(ResourceId),
    Powered(ResourceId, bool),
}

impl MemoryProvider {
    pub fn new(workspace: WorkspaceName) -> Self {
        Self {
            workspace,
            state: Arc::default(),
        }
    }

    /// The next such call (about that resource, when one is given) meets this fault.
    pub fn inject(&self, call: Call, about: Option<&ResourceId>, fault: Fault) {
        self.lock().faults.push_back((call, about.cloned(), fault));
    }

    /// Everything that changed so far: what a test counts to see that nothing was done twice.
    pub fn acts(&self) -> Vec<Act> {
        self.lock().acts.clone()
    }

    /// Somebody changes a resource by hand, behind everyone's back.
    pub fn tamper(&self, id: &ResourceId, change: impl FnOnce(&mut Live)) {
        if let Some(live) = self.lock().live.get_mut(id) {
            change(live);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held (a test's `tamper`) leaves whole values behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the fault asks for before acting; what it asks for afterwards is in the answer.
    async fn begin(&self, call: Call, about: Option<&ResourceId>) -> Result<Ending, ProviderError> {
        // Real providers wait here, so that callers see a call that can be dropped in the middle.
        tokio::task::yield_now().await;
        let fault = {
            let faults = &mut self.lock().faults;
            let fits =
                |(of, on, _): &(Call, Option<ResourceId>, Fault)| *of == call && (on.is_none() || on.as_ref() == about);
            let place = faults.iter().position(fits);
            place.and_then(|place| faults.remove(place)).map(|(_, _, fault)| fault)
        };
        match fault {
            None => Ok(Ending::Whole),
            Some(Fault::Refuse(error)) => Err(error),
            Some(Fault::LoseAnswer) => Ok(Ending::AnswerLost),
            Some(Fault::HalfDone) => Ok(Ending::HalfDone),
            Some(Fault::Slow(wait)) => {
                tokio::time::sleep(wait).await;
                Ok(Ending::Whole)
            }
            Some(Fault::Panic) => panic!("asked to panic in {call:?}"),
        }
    }

    fn missing(state: &State, want: &Resource) -> Option<ResourceId> {
        want.depends_on.iter().find(|id| !state.live.contains_key(*id)).cloned()
    }

    fn start(&self, want: &Resource) -> Result<bool, ProviderError> {
        let mut state = self.lock();
        if let Some(needs) = Self::missing(&state, want) {
            return Err(ProviderError::Missing {
                id: want.id.clone(),
                needs: needs.to_string(),
            });
        }
        if state.live.contains_key(&want.id) {
            return Ok(false);
        }
        let live = Live {
            status: Status::Pending,
            detail: Some("being made".into()),
            ..self.live(want)
        };
        state.live.insert(want.id.clone(), live);
        state.acts.push(Act::Created(want.id.clone()));
        Ok(true)
    }

    fn finish(&self, want: &Resource, created: bool) -> Result<Live, ProviderError> {
        let mut state = self.lock();
        let State { live, acts, .. } = &mut *state;
        let Some(now) = live.get_mut(&want.id) else {
            return Err(ProviderError::NotReady {
                id: want.id.clone(),
                detail: "removed while it was made".into(),
            });
        };
        let off = now.status == Status::Off;
        let goal = Live {
            status: if off { Status::Off } else { Status::Running },
            created_at: now.created_at,
            ..self.live(want)
        };
        if *now != goal {
            *now = goal;
            if !created {
                acts.push(Act::Updated(want.id.clone()));
            }
        }
        Ok(now.clone())
    }

    fn live(&self, want: &Resource) -> Live {
        Live {
            id: want.id.clone(),
            provider: want.provider,
            labels: Labels {
                ws: self.workspace.clone(),
                region: want.id.region.clone(),
                name: want.id.name.clone(),
                spec: want.spec_hash(),
            },
            spec: want.spec.clone(),
            status: Status::Running,
            detail: None,
            address: None,
            private_address: None,
            size: want.spec.get("size").and_then(|size| size.as_str()).map(str::to_owned),
            created_at: Some(jiff::Timestamp::now()),
            depends_on: want.depends_on.clone(),
            protect: want.protect,
            role: None,
            endpoints: BTreeMap::new(),
        }
    }
}

/// How a call that acts is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    AnswerLost,
    HalfDone,
}

impl Ending {
    fn answer<T>(self, what: impl ToString, value: T) -> Result<T, ProviderError> {
        match self {
            Self::Whole => Ok(value),
            Self::AnswerLost | Self::HalfDone => Err(ProviderError::OutcomeUnknown {
                what: what.to_string(),
                after: Duration::ZERO,
            }),
        }
    }
}

#[async_trait]
impl Provider for MemoryProvider {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.begin(Call::Account, None).await?.answer(
            "account",
            Account {
                who: format!("memory of {}", self.workspace),
                requests_left: None,
            },
        )
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        let ending = self.begin(Call::Observe, None).await?;
        let all = self.lock().live.values().cloned().collect();
        ending.answer("list of resources", all)
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        let ending = self.begin(Call::Ensure, Some(&want.id)).await?;
        let created = self.start(want)?;
        tokio::task::yield_now().await;
        if ending == Ending::HalfDone {
            return Err(ProviderError::OutcomeUnknown {
                what: want.id.to_string(),
                after: Duration::ZERO,
            });
        }
        let live = self.finish(want, created)?;
        ending.answer(&want.id, live)
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let ending = self.begin(Call::Remove, Some(id)).await?;
        let mut state = self.lock();
        if state.live.remove(id).is_some() {
            state.acts.push(Act::Removed(id.clone()));
        }
        ending.answer(id, ())
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        let ending = self.begin(Call::Power, Some(server)).await?;
        let mut state = self.lock();
        let State { live, acts, .. } = &mut *state;
        let now = live
            .get_mut(server)
            .filter(|live| live.id.kind == Kind::Server)
            .ok_or_else(|| ProviderError::NotFound(server.clone()))?;
        let goal = if on { Status::Running } else { Status::Off };
        if now.status != goal {
            now.status = goal;
            acts.push(Act::Powered(server.clone(), on));
        }
        let live = now.clone();
        ending.answer(server, live)
    }
}
