//! The report in Prometheus' text form.

use std::fmt::Write as _;

use ha_core::{
    agreement::Verdict,
    report::{DatabaseState, NodeRole},
};

use super::state::View;

/// What is unknown is left out; a zero would be a lie.
pub(super) fn render(view: &View, restarts: u64, watch: &Watch) -> String {
    let report = &view.report;
    let database = &report.database;
    let node = format!(
        "workspace=\"{}\",region=\"{}\",node=\"{}\"",
        escaped(&report.workspace),
        escaped(&report.region),
        escaped(&report.node)
    );
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: Vec<(String, f64)>| {
        if values.is_empty() {
            return;
        }
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = writeln!(text, "{name}{{{node}{comma}{labels}}} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let some = |value: Option<f64>| {
        value
            .map(|value| (String::new(), value))
            .into_iter()
            .collect::<Vec<_>>()
    };
    let truth = |it: bool| if it { 1.0 } else { 0.0 };
    let is = |role: NodeRole| database.role.map(|it| truth(it == role));

    metric(
        "ha_database_up",
        "gauge",
        "The database answers.",
        one(truth(database.state == DatabaseState::Running)),
    );
    metric(
        "ha_database_primary",
        "gauge",
        "It is not in recovery.",
        some(is(NodeRole::Primary)),
    );
    metric(
        "ha_database_restarts_total",
        "counter",
        "Times it ended by itself.",
        one(restarts as f64),
    );
    metric(
        "ha_database_timeline",
        "gauge",
        "Timeline of its newest log.",
        some(database.timeline.map(f64::from)),
    );
    metric(
        "ha_sample_age_seconds",
        "gauge",
        "Age of the last look.",
        one(report.age.as_secs_f64()),
    );
    let positions = [
        ("written", database.written),
        ("received", database.received),
        ("replayed", database.replayed),
    ];
    metric(
        "ha_wal_position_bytes",
        "gauge",
        "Position in the write-ahead log.",
        positions
            .into_iter()
            .filter_map(|(what, lsn)| Some((format!("position=\"{what}\""), lsn?.0 as f64)))
            .collect(),
    );
    let replica = database.role == Some(NodeRole::Replica);
    let behind = view.behind.filter(|_| replica).map(|it| it.as_secs_f64());
    metric(
        "ha_replica_lag_seconds",
        "gauge",
        "Behind what the upstream said last.",
        some(behind),
    );
    let bytes = view.behind_bytes.filter(|_| replica).map(|it| it as f64);
    metric(
        "ha_replica_lag_bytes",
        "gauge",
        "Behind what the upstream said last.",
        some(bytes),
    );
    let silence = database.upstream_silence.map(|it| it.as_secs_f64());
    metric(
        "ha_upstream_silence_seconds",
        "gauge",
        "Since the upstream's last message.",
        some(silence),
    );
    metric(
        "ha_sender_lag_bytes",
        "gauge",
        "Not yet replayed by this replica.",
        database
            .senders
            .iter()
            .filter_map(|sender| {
                let bytes = database.written?.bytes_since(sender.replayed?);
                Some((format!("replica=\"{}\"", escaped(&sender.node)), bytes as f64))
            })
            .collect(),
    );
    metric(
        "ha_slot_retained_bytes",
        "gauge",
        "Log kept for this slot.",
        database
            .slots
            .iter()
            .filter_map(|slot| Some((format!("slot=\"{}\"", escaped(&slot.name)), slot.retained_bytes? as f64)))
            .collect(),
    );
    let connections = database.connections;
    metric(
        "ha_connections",
        "gauge",
        "In use.",
        some(connections.map(|(used, _)| f64::from(used))),
    );
    metric(
        "ha_connections_max",
        "gauge",
        "Allowed.",
        some(connections.map(|(_, most)| f64::from(most))),
    );
    metric(
        "ha_store_up",
        "gauge",
        "The store answers with its quorum.",
        one(truth(report.store.healthy)),
    );
    if let Some(agreement) = &report.agreement {
        let seconds = |it: Option<std::time::Duration>| some(it.map(|it| it.as_secs_f64()));
        metric("ha_epoch", "gauge", "Epoch of the term.", one(agreement.epoch as f64));
        metric(
            "ha_term_age_seconds",
            "gauge",
            "Since this guard saw the term change last.",
            seconds(Some(agreement.since)),
        );
        metric(
            "ha_leader",
            "gauge",
            "This node leads.",
            one(truth(agreement.leader == report.node)),
        );
        metric(
            "ha_serves_writes",
            "gauge",
            "Writes may be routed here.",
            one(truth(agreement.serves_writes)),
        );
        metric(
            "ha_lease_left_seconds",
            "gauge",
            "Until the leader must have renewed its lease.",
            seconds(agreement.lease_left),
        );
        metric(
            "ha_promised_epoch",
            "gauge",
            "Nothing is acknowledged for an epoch below.",
            one(agreement.promised as f64),
        );
        metric(
            "ha_sealed_epoch",
            "gauge",
            "Epoch that this node sealed itself for.",
            some(agreement.sealed.map(|it| it.epoch as f64)),
        );
        metric(
            "ha_voters",
            "gauge",
            "Nodes whose acknowledgements count.",
            one(agreement.voters.len() as f64),
        );
        metric(
            "ha_acks",
            "gauge",
            "Remote acknowledgements a commit waits for.",
            one(f64::from(agreement.acks)),
        );
        metric(
            "ha_waiting_commits",
            "gauge",
            "Commits that wait for a replica.",
            one(f64::from(database.waiting)),
        );
        metric(
            "ha_paused",
            "gauge",
            "Nothing happens by itself.",
            one(truth(agreement.paused.is_some())),
        );
        metric(
            "ha_busy",
            "gauge",
            "Work on the database is under way.",
            one(truth(agreement.doing.is_some())),
        );
        metric(
            "ha_blocked",
            "gauge",
            "Something should be done and is not.",
            one(truth(agreement.blocked.is_some())),
        );
        metric(
            "ha_alert",
            "gauge",
            "Something is wrong that a person should know of.",
            agreement
                .alerts
                .iter()
                .map(|(name, _)| (format!("alert=\"{}\"", escaped(name)), 1.0))
                .collect(),
        );
        metric(
            "ha_vote_down",
            "gauge",
            "This guard says that the node is down.",
            agreement
                .votes
                .iter()
                .filter(|(_, verdict)| **verdict != Verdict::Unknown)
                .map(|(of, verdict)| (format!("of=\"{}\"", escaped(of)), truth(*verdict == Verdict::Down)))
                .collect(),
        );
    }
    metric(
        "ha_guard_stable_seconds",
        "gauge",
        "How long the node has answered this guard without a failure.",
        watch
            .stable
            .iter()
            .map(|(of, time)| (format!("of=\"{}\"", escaped(of)), time.as_secs_f64()))
            .collect(),
    );
    metric(
        "ha_guard_deadman",
        "gauge",
        "A deadman process watches this guard's deadline.",
        vec![(String::new(), truth(watch.deadman))],
    );
    text
}

/// What the guard sees beside its own database.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) stable: Vec<(String, std::time::Duration)>,
    pub(super) deadman: bool,
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::http::tests::view;

    #[test]
    fn unknown_values_are_left_out() {
        let mut seen = view(NodeRole::Replica);
        let text = render(&seen, 2, &Watch::default());
        assert!(
            text.contains("ha_database_restarts_total{workspace=\"shop\",region=\"us-east\",node=\"us-db-1\"} 2\n")
        );
        assert!(text.contains("ha_replica_lag_seconds{"), "{text}");
        assert!(!text.contains("ha_sender_lag_bytes"), "{text}");
        seen.behind = None;
        assert!(!render(&seen, 2, &Watch::default()).contains("ha_replica_lag_seconds"));
    }
}
