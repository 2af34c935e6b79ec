//! What a decision says again and again, told when it begins to stand and when it ends.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ha_core::decide::Decision;

/// What passes within this time is not told: between two primaries nothing streams for a moment, and that is no news.
const STANDS: Duration = Duration::from_secs(1);

/// What has been said for how long, by its code or name.
#[derive(Debug, Default)]
pub(super) struct News {
    blocked: BTreeMap<&'static str, Since>,
    /// Something in the way was told, and not yet that nothing is.
    in_the_way: bool,
    alerts: BTreeMap<&'static str, Since>,
}

#[derive(Debug)]
struct Since {
    at: Instant,
    told: bool,
}

/// Worth an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Blocked {
        why: String,
        detail: String,
    },
    /// Nothing is in the way any more.
    Clear,
    Raised {
        name: &'static str,
        why: String,
    },
    Cleared {
        name: &'static str,
    },
}

impl News {
    /// What has changed by `now`. To be called with each decision, and again while one stands.
    pub(super) fn look(&mut self, decision: &Decision, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        let blocked = decision.blocked.as_ref();
        self.blocked
            .retain(|code, _| blocked.is_some_and(|it| it.code == *code));
        match blocked {
            None if std::mem::take(&mut self.in_the_way) => changes.push(Change::Clear),
            Some(blocked) if stands(&mut self.blocked, blocked.code, now) => {
                self.in_the_way = true;
                let detail = format!("{}: {}", blocked.code, blocked.help);
                let why = blocked.why.clone();
                changes.push(Change::Blocked { why, detail });
            }
            _ => {}
        }
        let is_raised = |name: &&'static str| decision.alerts.iter().any(|(it, _)| it == name);
        let names: Vec<&'static str> = self.alerts.keys().copied().filter(|name| !is_raised(name)).collect();
        for name in names {
            if self.alerts.remove(name).is_some_and(|it| it.told) {
                changes.push(Change::Cleared { name });
            }
        }
        for (name, why) in &decision.alerts {
            if stands(&mut self.alerts, name, now) {
                let why = why.clone();
                changes.push(Change::Raised { name, why });
            }
        }
        changes
    }
}

/// True once, when it has been said for long enough.
fn stands(all: &mut BTreeMap<&'static str, Since>, name: &'static str, now: Instant) -> bool {
    let since = all.entry(name).or_insert(Since { at: now, told: false });
    let tell = !since.told && now.duration_since(since.at) >= STANDS;
    since.told |= tell;
    tell
}

#[cfg(test)]
mod tests {
    use ha_core::decide::Blocked;

    use super::*;

    fn said(code: Option<&'static str>, alerts: &[&'static str]) -> Decision {
        Decision {
            blocked: code.map(|code| Blocked {
                code,
                why: "commits wait".into(),
                help: "`ha lag`".into(),
            }),
            alerts: alerts.iter().map(|name| (*name, "commits wait".to_owned())).collect(),
            ..Decision::default()
        }
    }

    fn raised(name: &'static str) -> Change {
        Change::Raised {
            name,
            why: "commits wait".into(),
        }
    }

    #[test]
    fn what_passes_at_once_is_never_told() {
        let (mut news, start) = (News::default(), Instant::now());
        for step in 0..20 {
            let (code, alerts) = if step % 2 == 0 {
                (Some("ha::sync::no_voter"), &["SyncDegraded"][..])
            } else {
                (None, &[][..])
            };
            let now = start + Duration::from_millis(900 * step);
            assert_eq!(news.look(&said(code, alerts), now), []);
        }
    }

    #[test]
    fn what_stands_is_told_once_and_so_is_its_end() {
        let (mut news, start) = (News::default(), Instant::now());
        let bad = said(Some("ha::sync::no_voter"), &["SyncDegraded"]);
        assert_eq!(news.look(&bad, start), []);
        let blocked = Change::Blocked {
            why: "commits wait".into(),
            detail: "ha::sync::no_voter: `ha lag`".into(),
        };
        assert_eq!(news.look(&bad, start + STANDS), [blocked, raised("SyncDegraded")]);
        assert_eq!(news.look(&bad, start + 2 * STANDS), []);
        let cleared = Change::Cleared { name: "SyncDegraded" };
        let good = said(None, &[]);
        assert_eq!(news.look(&good, start + 3 * STANDS), [Change::Clear, cleared]);
        assert_eq!(news.look(&good, start + 4 * STANDS), []);
    }

    #[test]
    fn another_reason_is_told_when_it_stands_and_nothing_is_called_clear_meanwhile() {
        let (mut news, start) = (News::default(), Instant::now());
        let first = said(Some("ha::agreement::paused"), &[]);
        news.look(&first, start);
        assert_eq!(news.look(&first, start + STANDS).len(), 1);
        let second = said(Some("ha::failover::cooldown"), &[]);
        assert_eq!(news.look(&second, start + 2 * STANDS), []);
        assert!(matches!(
            &news.look(&second, start + 3 * STANDS)[..],
            [Change::Blocked { detail, .. }] if detail.starts_with("ha::failover::cooldown")
        ));
    }

    #[test]
    fn two_reasons_in_turn_end_in_one_clear() {
        let (mut news, start) = (News::default(), Instant::now());
        let first = said(Some("ha::agreement::paused"), &[]);
        news.look(&first, start);
        news.look(&first, start + STANDS);
        // The second never stands, and the first was told: its end must be.
        let second = said(Some("ha::failover::cooldown"), &[]);
        assert_eq!(news.look(&second, start + 2 * STANDS), []);
        let ends = news.look(&said(None, &[]), start + 2 * STANDS + STANDS / 2);
        assert_eq!(ends, [Change::Clear]);
    }
}
