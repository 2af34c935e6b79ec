//! Waiting for something to hold in the store, and saying what is waited for.

use std::time::{Duration, Instant};

use ha_core::switch::Refusal;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Agreement, Look, Row};
use crate::error::Failed;

/// What is waited for is said after so long, and again when it is something else.
const SAY_AFTER: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The first look at which it holds.
///
/// # Errors
/// `ha::agreement::unfinished` after `within`, with what was waited for last; [`Failed::Interrupted`].
pub(crate) async fn until(
    agreement: &Agreement,
    within: Duration,
    cancel: &CancellationToken,
    holds: impl Fn(&Look) -> bool,
    waits: impl Fn(&Look) -> Row,
    rows: &mpsc::Sender<Row>,
) -> Result<Look, Failed> {
    let started = Instant::now();
    let mut said: Option<String> = None;
    loop {
        let look = tokio::select! {
            () = cancel.cancelled() => return Err(Failed::Interrupted),
            look = agreement.look() => look,
        };
        let look = match look {
            Ok(look) => look,
            // A store that is electing answers again in a moment.
            Err(failed) if started.elapsed() >= within => return Err(failed),
            Err(_) => {
                tokio::select! {
                    () = cancel.cancelled() => return Err(Failed::Interrupted),
                    () = tokio::time::sleep(ASK_AGAIN) => continue,
                }
            }
        };
        if holds(&look) {
            return Ok(look);
        }
        let row = waits(&look);
        if started.elapsed() >= within {
            let what = row.detail.unwrap_or_default();
            return Err(Failed::refused(Refusal::new(
                "ha::agreement::unfinished",
                format!("not yet after {} s: {what}", within.as_secs()),
                "see who does not answer: ha quorum, ha lag; the same command goes on waiting",
            )));
        }
        if started.elapsed() >= SAY_AFTER && said != row.detail {
            said.clone_from(&row.detail);
            let _ = rows.send(row).await;
        }
        let changed = async {
            let mut watch = agreement.cluster.watch(look.revision).await?;
            watch.next().await
        };
        tokio::select! {
            () = cancel.cancelled() => return Err(Failed::Interrupted),
            changed = tokio::time::timeout(SAY_AFTER, changed) => if let Ok(Err(_)) = changed {
                tokio::time::sleep(ASK_AGAIN).await;
            },
        }
    }
}
