//! Writes of this region follow the term: the region's HAProxy processes are told by their sockets as soon as it
//! changes, and their checks confirm it a moment later.
//!
//! What is told follows from the term alone, each time anew. Nothing lasting is told, so that a balancer whose guard is
//! gone still finds the next primary by its checks. A socket that fails is tried again and holds up nobody.

use std::{path::Path, sync::Arc, time::Duration};

use ha_core::agreement::{Epoch, Node, Phase, Term};
use ha_edge::haproxy::{Admin, AdminError, Turned};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::Guard;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Where writes are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    epoch: Epoch,
    /// None while nobody may write.
    primary: Option<Node>,
    /// It was agreed while this guard looked: it need not wait for a check. After a restart of the guard the checks
    /// know better.
    sure: bool,
}

/// A leader that is about to hand over still takes writes; it ends them itself.
fn route(term: &Term, before: Option<&Route>) -> Route {
    let primary = (term.phase != Phase::Sealing).then(|| term.leader.clone());
    let same = before.is_some_and(|it| it.epoch == term.epoch && it.primary == primary);
    Route {
        epoch: term.epoch,
        sure: match before {
            Some(before) if same => before.sure,
            before => before.is_some(),
        },
        primary,
    }
}

/// Until cancelled.
pub(super) async fn run(guard: Arc<Guard>, cancel: CancellationToken) {
    let routes = watch::Sender::new(None);
    let mut balancers = JoinSet::new();
    for socket in &guard.state.config.failover.balancers {
        balancers.spawn(balancer(Arc::clone(&guard), socket.clone(), routes.subscribe()));
    }
    let mut changed = guard.agreement.changed();
    loop {
        if let Some(term) = guard.agreement.view().term {
            routes.send_if_modified(|now: &mut Option<Route>| {
                let next = route(&term, now.as_ref());
                let differs = now.as_ref() != Some(&next);
                *now = Some(next);
                differs
            });
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = changed.changed() => {}
        }
    }
}

/// Tells one balancer each new route until it was told, and stops trying when there is a newer one.
async fn balancer(guard: Arc<Guard>, socket: std::path::PathBuf, mut routes: watch::Receiver<Option<Route>>) {
    let admin = Admin::new(&socket);
    let mut retry = FIRST_RETRY;
    loop {
        let wanted = routes.borrow_and_update().clone();
        let told = match &wanted {
            Some(route) => admin.turn_writes(route.primary.as_deref(), route.sure).await.map(Some),
            None => Ok(None),
        };
        // One that is kept in although no guard spoke for it is checked again as soon as its guard does.
        let again = match &told {
            Ok(turned) => turned.as_ref().is_some_and(|it| it.unchecked.is_some()),
            Err(_) => true,
        };
        tell(&guard, &socket, wanted.as_ref(), told, retry == FIRST_RETRY);
        if again {
            tokio::select! {
                changed = routes.changed() => if changed.is_err() { return },
                () = sleep(retry) => {}
            }
            retry = (retry * 2).min(LONGEST_RETRY);
        } else {
            retry = FIRST_RETRY;
            if routes.changed().await.is_err() {
                return;
            }
        }
    }
}

fn tell(guard: &Guard, socket: &Path, route: Option<&Route>, told: Result<Option<Turned>, AdminError>, first: bool) {
    const ABOUT: &str = "routing.balancer";
    let Some(route) = route else { return };
    let subject = route.primary.clone().unwrap_or_else(|| "nobody".to_owned());
    let place = format!("epoch {}, by {}", route.epoch, socket.display());
    match told {
        Ok(Some(turned)) => {
            guard.state.note(ABOUT, None);
            if !turned.is_nothing() {
                let events = &guard.state.events;
                events.write("routing.turned", &subject, "turned", Some(place), None);
            }
        }
        Ok(None) => {}
        Err(error) => {
            guard
                .state
                .note(ABOUT, Some(format!("writes are turned by checks only: {error}")));
            if first {
                tracing::warn!(%error, place, "writes cannot be turned by the socket");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ha_core::model::SyncMode;
    use jiff::Timestamp;

    use super::*;

    fn term() -> Term {
        let data = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        Term::first("a", 1, data, SyncMode::Strict, Vec::new(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_change_that_was_seen_is_sure_and_the_first_look_is_not() {
        let first = route(&term(), None);
        assert_eq!((first.primary.as_deref(), first.sure), (Some("a"), false));
        assert_eq!(route(&term(), Some(&first)), first);
        let mut next = term();
        (next.epoch, next.phase) = (2, Phase::Sealing);
        let nobody = route(&next, Some(&first));
        assert_eq!(nobody.primary, None);
        (next.phase, next.leader) = (Phase::Active, "b".to_owned());
        let turned = route(&next, Some(&nobody));
        assert_eq!((turned.primary.as_deref(), turned.sure), (Some("b"), true));
        assert_eq!(route(&next, Some(&turned)), turned, "and stays so");
    }
}
