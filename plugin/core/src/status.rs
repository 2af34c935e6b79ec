//! One row per region that answers "can I sleep".

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    agreement::{Epoch, Node, Phase},
    health::{Check, Health, HealthRow},
    lag::{LagRow, LagState, LagVerdict, NodeView},
    model::{self, Role, SyncMode, Workspace},
    names::{ProviderName, RegionName},
    report::{AgreementReport, NodeRole},
    resource::{Kind, Live, Status},
};

/// Everything a status is made of; whatever could not be learnt is left out, never guessed.
#[derive(Clone, Copy, Debug)]
pub struct StatusInput<'a> {
    pub workspace: &'a Workspace,
    pub live: &'a [Live],
    pub nodes: &'a [NodeView],
    /// From [`crate::lag::table`] over `nodes`.
    pub lag: &'a [LagRow],
    /// Empty when nothing was probed: then the providers' own status decides.
    pub health: &'a [HealthRow],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusVerdict {
    Ok,
    /// Serves its users; something needs a look.
    Degraded,
    /// Does not serve its users.
    Down,
    /// Not provisioned.
    Absent,
}

/// One row of `ha status`.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusRow {
    pub region: RegionName,
    pub provider: ProviderName,
    /// As declared.
    pub role: Role,
    /// As observed; none when its nodes do not say.
    pub database: Option<NodeRole>,
    pub servers_up: u32,
    pub servers_total: u32,
    pub load_balancer: Option<Status>,
    pub store: Option<Status>,
    /// The largest of its nodes; none on the primary and where unknown.
    pub lag: Option<std::time::Duration>,
    pub verdict: StatusVerdict,
    /// A sentence; none when there is nothing to say.
    pub reason: Option<String>,
    /// What the region's own guard knows of the agreement; none when it does not say.
    pub agreement: Option<Agreed>,
}

/// Who leads, as one region sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    pub epoch: Epoch,
    pub phase: Phase,
    pub leader: Node,
    pub mode: SyncMode,
    /// Why nothing happens although something should, and what to type.
    pub blocked: Option<String>,
    /// `ha::failover::cooldown`; none where nothing is blocked, or by a pause only.
    pub code: Option<String>,
}

/// One row per declared region, in the workspace's order.
pub fn table(input: StatusInput<'_>) -> Vec<StatusRow> {
    let regions = input.workspace.regions.iter();
    regions.map(|region| Region::new(region, input).row()).collect()
}

/// What is known about one region.
struct Region<'a> {
    declared: &'a model::Region,
    input: StatusInput<'a>,
    live: BTreeMap<(Kind, &'a str), &'a Live>,
    /// Parts that were asked and did not answer well.
    failed: BTreeMap<(Check, &'a str), &'a HealthRow>,
    /// Parts that were asked and did.
    works: BTreeSet<(Check, &'a str)>,
}

impl<'a> Region<'a> {
    fn new(declared: &'a model::Region, input: StatusInput<'a>) -> Self {
        let here = input
            .live
            .iter()
            .filter(|it| it.id.region == declared.name && it.status != Status::Absent);
        let asked = |status| {
            let of_region = input.health.iter().filter(|row| row.region == declared.name);
            of_region.filter(move |row| row.status == status)
        };
        Self {
            declared,
            input,
            live: here.map(|it| ((it.id.kind, it.id.name.as_str()), it)).collect(),
            failed: asked(Health::Failed)
                .map(|row| ((row.check, row.target.as_str()), row))
                .collect(),
            works: asked(Health::Ok).map(|row| (row.check, row.target.as_str())).collect(),
        }
    }

    /// As its provider says, corrected by what its probe found: that is what its users find, too.
    fn status(&self, kind: Kind, check: Check, name: &str) -> Status {
        match self.live.get(&(kind, name)) {
            None => Status::Absent,
            Some(live) if live.status == Status::Running && self.failed.contains_key(&(check, name)) => Status::Failed,
            Some(live) if live.status == Status::Failed && self.works.contains(&(check, name)) => Status::Running,
            Some(live) => live.status,
        }
    }

    /// Why its provider calls something failed that answers well, each reason once: nobody would start it again.
    fn unwatched(&self) -> Vec<String> {
        let answers = |kind, name| {
            let check = match kind {
                Kind::LoadBalancer => Check::LoadBalancer,
                Kind::Server => Check::Server,
                Kind::Store => Check::Store,
                _ => return false,
            };
            self.works.contains(&(check, name))
        };
        let failed = self.live.iter().filter(|(_, live)| live.status == Status::Failed);
        let reasons = failed
            .filter(|((kind, name), _)| answers(*kind, name))
            .filter_map(|(_, live)| live.detail.as_deref());
        reasons
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// `us-app-2 does not work: exited with status 1`; nothing when it runs.
    fn trouble(&self, kind: Kind, check: Check, name: &str) -> Option<String> {
        let status = match self.status(kind, check, name) {
            Status::Running => return None,
            Status::Absent => "is not there",
            Status::Pending => "is not ready",
            // There is no more to say than that.
            Status::Off => return Some(format!("{name} is switched off")),
            Status::Failed => "does not work",
        };
        let asked = self.failed.get(&(check, name)).and_then(|row| row.error.as_deref());
        let told = self.live.get(&(kind, name)).and_then(|live| live.detail.as_deref());
        let why = asked.or(told).map(|why| format!(": {why}")).unwrap_or_default();
        Some(format!("{name} {status}{why}"))
    }

    fn row(&self) -> StatusRow {
        let servers: Vec<String> = self
            .declared
            .servers
            .iter()
            .flat_map(model::ServerGroup::server_names)
            .collect();
        let is_up = |name: &&String| self.status(Kind::Server, Check::Server, name) == Status::Running;
        let servers_up = servers.iter().filter(is_up).count();
        let worst = |kind, check, names: Vec<&str>| {
            let statuses = names.into_iter().map(|name| self.status(kind, check, name));
            statuses.max_by_key(|status| match status {
                Status::Running => 0,
                Status::Pending => 1,
                Status::Off => 2,
                Status::Failed => 3,
                Status::Absent => 4,
            })
        };
        let balancers = self
            .declared
            .load_balancers
            .iter()
            .map(|it| it.declared.name.as_str())
            .collect();
        let members = self
            .declared
            .stores
            .iter()
            .map(|it| it.declared.name.as_str())
            .collect();
        let row = StatusRow {
            region: self.declared.name.clone(),
            provider: self.declared.provider,
            role: self.declared.role,
            database: self.database(),
            servers_up: servers_up.try_into().unwrap_or(u32::MAX),
            servers_total: servers.len().try_into().unwrap_or(u32::MAX),
            load_balancer: worst(Kind::LoadBalancer, Check::LoadBalancer, balancers),
            store: worst(Kind::Store, Check::Store, members),
            lag: self
                .lag_rows()
                .filter(|row| row.role == Some(NodeRole::Replica))
                .filter_map(|row| row.lag)
                .max(),
            verdict: StatusVerdict::Ok,
            reason: None,
            agreement: self.agreement().map(agreed),
        };
        if self.live.is_empty() {
            // One region alone may need another that is not there either.
            let reason = match self.input.live.iter().any(|it| it.status != Status::Absent) {
                true => format!("not provisioned: ha provision --region {}", self.declared.name),
                false => "not provisioned: ha provision".to_owned(),
            };
            return StatusRow {
                verdict: StatusVerdict::Absent,
                reason: Some(reason),
                ..row
            };
        }
        let down = self.down(&row);
        let verdict = if down.is_empty() {
            StatusVerdict::Degraded
        } else {
            StatusVerdict::Down
        };
        let reasons: Vec<String> = down.into_iter().chain(self.worries(&servers)).collect();
        if reasons.is_empty() {
            return row;
        }
        StatusRow {
            verdict,
            reason: Some(sentence(&reasons)),
            ..row
        }
    }

    /// Why users of the region are not served.
    fn down(&self, row: &StatusRow) -> Vec<String> {
        let mut out = Vec::new();
        for balancer in &self.declared.load_balancers {
            out.extend(self.trouble(Kind::LoadBalancer, Check::LoadBalancer, &balancer.declared.name));
        }
        let entries = self.failed.values().filter(|row| row.check == Check::Endpoint);
        out.extend(entries.map(|row| {
            let why = row.error.as_deref().unwrap_or("no good answer");
            format!("its entry {} does not answer: {why}", row.target)
        }));
        if row.servers_total > 0 && row.servers_up == 0 {
            out.push("none of its servers is up".to_owned());
        }
        out
    }

    /// What keeps a person awake although users are served.
    fn worries(&self, servers: &[String]) -> Vec<String> {
        let mut out = self.agreement().map(agreement_worries).unwrap_or_default();
        for why in self.database_worries() {
            if !said(&out, &why) {
                out.push(why);
            }
        }
        for store in &self.declared.stores {
            out.extend(self.trouble(Kind::Store, Check::Store, &store.declared.name));
        }
        out.extend(
            servers
                .iter()
                .filter_map(|name| self.trouble(Kind::Server, Check::Server, name)),
        );
        for why in self.unwatched() {
            if !said(&out, &why) {
                out.push(why);
            }
        }
        out
    }

    fn database_worries(&self) -> Vec<String> {
        let own = self.declared.databases.iter().any(|database| !database.managed);
        let primaries = self
            .input
            .lag
            .iter()
            .filter(|row| row.role == Some(NodeRole::Primary))
            .count();
        let mut out = Vec::new();
        if own && primaries == 0 {
            out.push("no database is known to be primary, writes may fail".to_owned());
        }
        let rows: Vec<&LagRow> = self.lag_rows().collect();
        if own && rows.is_empty() {
            out.push("its database is not there".to_owned());
        }
        out.extend(rows.into_iter().filter_map(lag_worry));
        for row in self.failed.values().filter(|row| row.check == Check::Database) {
            let why = row.error.as_deref().unwrap_or("no good answer");
            // Its guard may be what is wrong, and then its lag is not known either.
            if !said(&out, why) {
                out.push(format!("{} does not work: {why}", row.target));
            }
        }
        out
    }

    /// As the region's own guard sees it; of several, the one that knows most.
    fn agreement(&self) -> Option<&'a AgreementReport> {
        let views = self.input.nodes.iter().filter(|view| view.region == self.declared.name);
        let reports = views.filter_map(|view| view.report.as_ref().ok()?.agreement.as_ref());
        reports.max_by_key(|it| it.epoch)
    }

    fn lag_rows(&self) -> impl Iterator<Item = &'a LagRow> {
        let name = &self.declared.name;
        self.input.lag.iter().filter(move |row| row.region == *name)
    }

    /// A region that holds the primary is the primary's, whatever else it holds.
    fn database(&self) -> Option<NodeRole> {
        let views = self.input.nodes.iter().filter(|view| view.region == self.declared.name);
        let roles = views.filter_map(|view| view.report.as_ref().ok()?.database.role);
        roles.min_by_key(|role| *role != NodeRole::Primary)
    }
}

fn agreed(it: &AgreementReport) -> Agreed {
    let paused = it.paused.as_ref().map(|why| format!("paused by {why}: ha resume"));
    let blocked = it.blocked.as_ref().map(|it| format!("{}: {}", it.why, it.help));
    Agreed {
        epoch: it.epoch,
        phase: it.phase,
        leader: it.leader.clone(),
        mode: it.mode,
        code: it.blocked.as_ref().map(|it| it.code.clone()),
        blocked: blocked.or(paused),
    }
}

/// People trip over a block that they cannot see.
fn agreement_worries(it: &AgreementReport) -> Vec<String> {
    let mut out: Vec<String> = agreed(it).blocked.into_iter().collect();
    match it.phase {
        Phase::Active => {}
        Phase::Sealing => out.push(format!("nobody may write: epoch {} is being decided", it.epoch)),
        Phase::Switching => out.push(format!("{} is about to hand over", it.leader)),
    }
    for (name, why) in &it.alerts {
        if !said(&out, why) {
            out.push(format!("{name}: {why}"));
        }
    }
    out
}

fn lag_worry(row: &LagRow) -> Option<String> {
    let node = &row.node;
    let why = row.error.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let behind = row.lag.map(|lag| {
        let least = if row.at_least { "at least " } else { "" };
        format!("{node} is {least}{:.1} s behind", lag.as_secs_f64())
    });
    match (row.state, row.verdict) {
        (_, LagVerdict::Ok) => None,
        (LagState::Absent, _) => Some(format!("{node} is not there")),
        (LagState::Starting, _) => Some(format!("{node} is starting{why}")),
        (LagState::Down, _) => Some(format!("{node} is down{why}")),
        (LagState::Unknown, _) => Some(format!("nothing is known of {node}{why}")),
        (LagState::Primary, _) => Some(format!("{node} is not the only primary{why}")),
        (LagState::Stale | LagState::Disconnected | LagState::Paused, _) => {
            let behind = behind.unwrap_or_else(|| match row.state {
                LagState::Stale => format!("what is known of {node} is old"),
                LagState::Paused => format!("{node} does not replay"),
                _ => format!("{node} is cut off from its primary"),
            });
            Some(format!("{behind}{why}"))
        }
        (LagState::Streaming | LagState::CatchingUp, _) => {
            Some(behind.unwrap_or_else(|| format!("how far {node} is behind is not known")))
        }
    }
}

/// One of the reasons has it in it.
fn said(reasons: &[String], why: &str) -> bool {
    reasons.iter().any(|reason| reason.contains(why))
}

/// The first few; a row is read, not studied.
fn sentence(reasons: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = reasons
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    match reasons.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; {more} more, see ha health and ha lag"),
    }
}
