//! One step, as often as it takes.

use std::time::Duration;

use ha_core::{
    plan::{Action, Step},
    resource::{Live, Resource},
};
use tokio_util::sync::CancellationToken;

use super::{ApplyOptions, StepStatus};
use crate::{Provider, ProviderError};

/// Carries one step out. Repeating it after any error is right: it starts from what is there.
pub(super) async fn carry_out(
    step: &Step,
    provider: &dyn Provider,
    options: &ApplyOptions,
    stop: &CancellationToken,
) -> Result<StepStatus, ProviderError> {
    let work = async {
        match step.action {
            Action::None | Action::Conflict => Ok(StepStatus::Unchanged),
            Action::Delete => {
                repeat(options, stop, || provider.remove(&step.id)).await?;
                Ok(StepStatus::Done)
            }
            Action::Create | Action::Update => {
                let want = wanted(step)?;
                let live = repeat(options, stop, || provider.ensure(want)).await?;
                Ok(if same(step.live.as_ref(), &live) {
                    StepStatus::Unchanged
                } else {
                    StepStatus::Done
                })
            }
            Action::Replace => {
                let want = wanted(step)?;
                repeat(options, stop, || provider.remove(&step.id)).await?;
                repeat(options, stop, || provider.ensure(want)).await?;
                Ok(StepStatus::Done)
            }
        }
    };
    match tokio::time::timeout(options.deadline, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProviderError::OutcomeUnknown {
            what: step.id.to_string(),
            after: options.deadline,
        }),
    }
}

fn wanted(step: &Step) -> Result<&Resource, ProviderError> {
    step.desired.as_ref().ok_or_else(|| ProviderError::Other {
        what: format!("the plan does not say what {} should become", step.id),
    })
}

/// Nothing that was planned for has changed since the plan was made.
fn same(before: Option<&Live>, now: &Live) -> bool {
    before.is_some_and(|before| before == now)
}

/// Calls again after outcomes that a second look can settle: a lost answer, and a rate limit.
async fn repeat<T, F: Future<Output = Result<T, ProviderError>>>(
    options: &ApplyOptions,
    stop: &CancellationToken,
    mut call: impl FnMut() -> F,
) -> Result<T, ProviderError> {
    let mut pause = options.pause;
    let mut left = options.attempts.max(1);
    loop {
        left -= 1;
        let error = match call().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(wait) = pause_after(&error, pause).filter(|_| left > 0) else {
            return Err(error);
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(ProviderError::Interrupted),
            () = tokio::time::sleep(wait) => pause = pause.saturating_mul(2),
        }
    }
}

/// How long to wait before the same call again; none when calling again would not help.
fn pause_after(error: &ProviderError, pause: Duration) -> Option<Duration> {
    match error {
        ProviderError::RateLimited { retry_after } => Some(retry_after.unwrap_or(pause)),
        ProviderError::OutcomeUnknown { .. } => Some(pause),
        _ => None,
    }
}
