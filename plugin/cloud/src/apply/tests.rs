use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use ha_core::{
    names::{ProviderName, WorkspaceName},
    plan::Risk,
    resource::{Live, Resource, ResourceId},
};
use serde_json::json;

use super::*;
use crate::{
    Account, ProviderError,
    memory::{Act, Call, Fault, MemoryProvider},
};

pub(super) fn id(place: usize) -> ResourceId {
    ResourceId::new(&RegionName::new("us-east"), Kind::Server, format!("us-app-{place:02}"))
}

pub(super) fn step(place: usize, action: Action, after: &[usize]) -> Step {
    let desired = Resource {
        id: id(place),
        provider: ProviderName::Hetzner,
        spec: json!({ "size": "cx22" }),
        depends_on: Vec::new(),
        protect: false,
        path: format!("region_us_east.{place}"),
    };
    Step {
        action,
        id: id(place),
        reason: "spec differs on both sides".into(),
        risk: Risk::None,
        downtime: None,
        after: after.iter().map(|&place| id(place)).collect(),
        desired: (action != Action::Delete).then_some(desired),
        live: None,
    }
}

pub(super) fn memory() -> MemoryProvider {
    MemoryProvider::new(WorkspaceName::new("shop"))
}

/// Retries at once, so that tests need no clock of their own.
pub(super) fn quick() -> ApplyOptions {
    ApplyOptions {
        pause: Duration::from_millis(1),
        grace: Duration::from_millis(100),
        ..ApplyOptions::default()
    }
}

async fn rows(steps: Vec<Step>, provider: &MemoryProvider, options: ApplyOptions) -> Vec<StepRow> {
    let all = apply(steps, Arc::new(provider.clone()), options, CancellationToken::new());
    collect(all).await
}

async fn collect(mut all: mpsc::Receiver<StepRow>) -> Vec<StepRow> {
    let mut rows = Vec::new();
    while let Some(row) = all.recv().await {
        rows.push(row);
    }
    rows
}

fn lost() -> ProviderError {
    ProviderError::OutcomeUnknown {
        what: "server".into(),
        after: Duration::ZERO,
    }
}

pub(super) fn refused() -> ProviderError {
    ProviderError::NoCapacity { what: "cx22".into() }
}

#[tokio::test]
async fn a_plan_with_nothing_to_do_has_no_rows() {
    let memory = memory();
    assert_eq!(rows(Vec::new(), &memory, quick()).await, []);
    assert_eq!(
        rows(
            vec![step(0, Action::None, &[]), step(1, Action::None, &[0])],
            &memory,
            quick()
        )
        .await,
        []
    );
    assert_eq!(memory.acts(), []);
}

#[tokio::test]
async fn each_action_does_what_it_says() {
    let memory = memory();
    let made = rows(
        vec![step(0, Action::Create, &[]), step(1, Action::Create, &[0])],
        &memory,
        quick(),
    )
    .await;
    assert!(made.iter().all(|row| row.status == StepStatus::Done), "{made:#?}");

    let replaced = rows(
        vec![step(0, Action::Replace, &[]), step(1, Action::Delete, &[0])],
        &memory,
        quick(),
    )
    .await;
    assert!(
        replaced.iter().all(|row| row.status == StepStatus::Done),
        "{replaced:#?}"
    );
    let acts = [
        Act::Created(id(0)),
        Act::Created(id(1)),
        Act::Removed(id(0)),
        Act::Created(id(0)),
        Act::Removed(id(1)),
    ];
    assert_eq!(memory.acts(), acts);
}

#[tokio::test]
async fn what_somebody_else_did_meanwhile_is_unchanged() -> Result<(), ProviderError> {
    let memory = memory();
    let mut update = step(0, Action::Update, &[]);
    let want = update.desired.clone().expect("an update has a resource");
    update.live = Some(memory.ensure(&want).await?);
    assert_eq!(
        rows(vec![update], &memory, quick()).await[0].status,
        StepStatus::Unchanged
    );
    Ok(())
}

#[tokio::test]
async fn a_failed_step_skips_those_after_it_and_no_others() {
    let memory = memory();
    memory.inject(Call::Ensure, Some(&id(0)), Fault::Refuse(refused()));
    // 0 ← 1 (nothing to do) ← 2, and 3 on its own.
    let steps = vec![
        step(0, Action::Create, &[]),
        step(1, Action::None, &[0]),
        step(2, Action::Create, &[1]),
        step(3, Action::Create, &[]),
    ];
    let mut rows = rows(steps, &memory, quick()).await;
    rows.sort_by_key(|row| row.step);
    let statuses: Vec<_> = rows.iter().map(|row| (row.step, row.status)).collect();
    assert_eq!(
        statuses,
        [(1, StepStatus::Failed), (2, StepStatus::Skipped), (3, StepStatus::Done)]
    );
    assert_eq!(rows[0].code, Some("ha::provider::no_capacity"));
    assert_eq!(
        rows[1].error.as_deref(),
        Some("not started: server us-app-00 in us-east was not done")
    );
}

#[tokio::test]
async fn a_conflict_is_left_to_a_person() {
    let memory = memory();
    let rows = rows(
        vec![step(0, Action::Create, &[1]), step(1, Action::Conflict, &[])],
        &memory,
        quick(),
    )
    .await;
    let statuses: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.status, row.help.is_some()))
        .collect();
    assert_eq!(
        statuses,
        [
            ("us-app-01", StepStatus::Conflict, true),
            ("us-app-00", StepStatus::Skipped, true)
        ]
    );
    assert_eq!(rows[0].error.as_deref(), Some("spec differs on both sides"));
    assert_eq!(memory.acts(), []);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_makes_one() {
    let memory = memory();
    memory.inject(Call::Ensure, None, Fault::LoseAnswer);
    memory.inject(Call::Ensure, None, Fault::HalfDone);
    let made = rows(vec![step(0, Action::Create, &[])], &memory, quick()).await;
    assert_eq!(made[0].status, StepStatus::Done, "{made:#?}");
    assert_eq!(memory.acts(), [Act::Created(id(0))]);

    memory.inject(Call::Remove, None, Fault::LoseAnswer);
    let gone = rows(vec![step(0, Action::Delete, &[])], &memory, quick()).await;
    assert_eq!(gone[0].status, StepStatus::Done, "{gone:#?}");
}

#[tokio::test]
async fn retries_end() {
    let memory = memory();
    for _ in 0..3 {
        memory.inject(Call::Ensure, None, Fault::Refuse(lost()));
    }
    let options = ApplyOptions { attempts: 3, ..quick() };
    let failed = rows(vec![step(0, Action::Create, &[])], &memory, options).await;
    assert_eq!(
        (failed[0].status, failed[0].code),
        (StepStatus::Failed, Some("ha::provider::outcome_unknown"))
    );
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_as_long_as_it_says() {
    let memory = memory();
    let wait = Duration::from_millis(120);
    memory.inject(
        Call::Ensure,
        None,
        Fault::Refuse(ProviderError::RateLimited {
            retry_after: Some(wait),
        }),
    );
    let made = rows(vec![step(0, Action::Create, &[])], &memory, quick()).await;
    assert_eq!(made[0].status, StepStatus::Done);
    assert!(made[0].took >= wait, "{:?}", made[0].took);
}

#[tokio::test]
async fn a_step_over_its_deadline_has_an_unknown_outcome() {
    let memory = memory();
    memory.inject(Call::Ensure, None, Fault::Slow(Duration::from_secs(60)));
    let options = ApplyOptions {
        deadline: Duration::from_millis(30),
        ..quick()
    };
    let late = rows(vec![step(0, Action::Create, &[])], &memory, options).await;
    assert_eq!(
        (late[0].status, late[0].code),
        (StepStatus::Failed, Some("ha::provider::outcome_unknown"))
    );
}

#[tokio::test]
async fn a_panic_is_one_failed_row() {
    let memory = memory();
    memory.inject(Call::Ensure, Some(&id(0)), Fault::Panic);
    let mut rows = rows(
        vec![step(0, Action::Create, &[]), step(1, Action::Create, &[])],
        &memory,
        quick(),
    )
    .await;
    rows.sort_by_key(|row| row.step);
    assert_eq!(
        rows[0].error.as_deref(),
        Some("memory panicked: asked to panic in Ensure")
    );
    assert_eq!(rows[1].status, StepStatus::Done);
}

#[tokio::test]
async fn steps_that_wait_for_each_other_are_reported() {
    let memory = memory();
    let steps = vec![
        step(0, Action::Create, &[1]),
        step(1, Action::Create, &[0]),
        step(2, Action::Create, &[]),
    ];
    let rows = rows(steps, &memory, quick()).await;
    let codes: Vec<_> = rows.iter().map(|row| (row.step, row.code)).collect();
    assert_eq!(
        codes,
        [(3, None), (1, Some("ha::apply::cycle")), (2, Some("ha::apply::cycle"))]
    );
}

#[tokio::test]
async fn an_interrupt_lets_running_steps_finish_within_the_grace() {
    let memory = memory();
    memory.inject(Call::Ensure, Some(&id(0)), Fault::Slow(Duration::from_millis(50)));
    memory.inject(Call::Ensure, Some(&id(1)), Fault::Slow(Duration::from_secs(60)));
    let steps = vec![
        step(0, Action::Create, &[]),
        step(1, Action::Create, &[]),
        step(2, Action::Create, &[0]),
    ];
    let cancel = CancellationToken::new();
    let all = apply(steps, Arc::new(memory.clone()), quick(), cancel.clone());
    let start = Instant::now();
    tokio::time::sleep(Duration::from_millis(10)).await;
    cancel.cancel();
    let mut rows = collect(all).await;
    rows.sort_by_key(|row| row.step);
    let statuses: Vec<_> = rows.iter().map(|row| row.status).collect();
    assert_eq!(
        statuses,
        [StepStatus::Done, StepStatus::Interrupted, StepStatus::Interrupted],
        "{rows:#?}"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn waiting_for_a_retry_ends_at_an_interrupt() {
    let memory = memory();
    let hour = Duration::from_secs(3600);
    memory.inject(
        Call::Ensure,
        None,
        Fault::Refuse(ProviderError::RateLimited {
            retry_after: Some(hour),
        }),
    );
    let cancel = CancellationToken::new();
    let options = ApplyOptions { grace: hour, ..quick() };
    let all = apply(
        vec![step(0, Action::Create, &[])],
        Arc::new(memory),
        options,
        cancel.clone(),
    );
    tokio::time::sleep(Duration::from_millis(10)).await;
    cancel.cancel();
    assert_eq!(collect(all).await[0].status, StepStatus::Interrupted);
}

#[tokio::test]
async fn when_nobody_listens_any_more_nothing_further_starts() {
    let watched = Arc::new(Watched::new(memory()));
    watched
        .memory
        .inject(Call::Ensure, Some(&id(0)), Fault::Slow(Duration::from_secs(60)));
    let steps = vec![step(0, Action::Create, &[]), step(1, Action::Create, &[0])];
    let outer = CancellationToken::new();
    drop(apply(steps, Arc::<Watched>::clone(&watched), quick(), outer.clone()));
    // The work holds the provider for as long as any of it is left.
    let ended = async {
        while Arc::strong_count(&watched) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(5), ended).await.is_ok(),
        "the plan goes on alone"
    );
    assert!(!watched.began().contains(&id(1)));
    assert!(!outer.is_cancelled(), "the caller's other work is not concerned");
}

/// Notes when calls begin and end; a dropped call ends too.
pub(super) struct Watched {
    pub(super) memory: MemoryProvider,
    pub(super) log: Arc<Mutex<Vec<(ResourceId, bool)>>>,
    pub(super) running: Arc<AtomicUsize>,
    pub(super) most: AtomicUsize,
}

struct Under<'a>(&'a Watched, ResourceId);

impl Watched {
    pub(super) fn new(memory: MemoryProvider) -> Self {
        Self {
            memory,
            log: Arc::default(),
            running: Arc::default(),
            most: AtomicUsize::new(0),
        }
    }

    fn under(&self, id: &ResourceId) -> Under<'_> {
        self.note(id, true);
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Under(self, id.clone())
    }

    fn note(&self, id: &ResourceId, begin: bool) {
        self.log
            .lock()
            .expect("nobody panics with it")
            .push((id.clone(), begin));
    }

    fn began(&self) -> Vec<ResourceId> {
        let log = self.log.lock().expect("nobody panics with it");
        log.iter()
            .filter(|(_, begin)| *begin)
            .map(|(id, _)| id.clone())
            .collect()
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.note(&self.1, false);
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Provider for Watched {
    fn name(&self) -> &'static str {
        "watched"
    }

    async fn account(&self) -> Result<Account, ProviderError> {
        self.memory.account().await
    }

    async fn observe(&self) -> Result<Vec<Live>, ProviderError> {
        self.memory.observe().await
    }

    async fn ensure(&self, want: &Resource) -> Result<Live, ProviderError> {
        let _under = self.under(&want.id);
        self.memory.ensure(want).await
    }

    async fn remove(&self, id: &ResourceId) -> Result<(), ProviderError> {
        let _under = self.under(id);
        self.memory.remove(id).await
    }

    async fn power(&self, server: &ResourceId, on: bool) -> Result<Live, ProviderError> {
        self.memory.power(server, on).await
    }
}
