//! A cluster that can be broken, and what is asked of it afterwards.

use std::{fmt, time::Duration};

use ha_tests::{Cluster, Process, Refused, Row, Shell, value};
use rustix::process::Signal;
use serde_json::Value;

/// Scenarios that belong together. Without settings of their own they share the cluster of the rooms before.
pub(crate) struct Room {
    pub(crate) name: &'static str,
    /// Changes `workspace.ncl` before anything is provisioned; the room then has a cluster for itself.
    pub(crate) own: Option<fn(&Cluster)>,
    pub(crate) scenarios: &'static [Scenario],
}

/// Plays on a whole cluster, and leaves nothing broken behind that does not mend itself; gives the figures to print.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) play: fn(&World) -> String,
}

pub(crate) struct World {
    pub(crate) cluster: Cluster,
}

/// What `ha oracle` says of one fault.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) record: Row,
    pub(crate) ok: i64,
    pub(crate) unknown: i64,
    pub(crate) lost: i64,
    pub(crate) unexpected: i64,
    pub(crate) recovered: i64,
    pub(crate) overlaps: Vec<Row>,
    pub(crate) regions: Vec<Row>,
    /// Who acknowledged on which timeline.
    pub(crate) lineage: Vec<Row>,
    /// What the closure gave.
    pub(crate) answer: Value,
    /// The closure failed, or writes did not flow in the end.
    pub(crate) error: Option<String>,
}

impl World {
    /// Three regions near each other, any number of failovers allowed, every node a voter that streams.
    pub(crate) fn up_with(theme: &str, edit: impl FnOnce(&Cluster)) -> Self {
        let cluster = Cluster::new(theme);
        cluster.edit("timing = 'Default", "timing = 'Near");
        cluster.edit(
            "failover = { cooldown_seconds = 300, daily_limit = 3 }",
            "failover = { cooldown_seconds = 0, daily_limit = 'Unlimited }",
        );
        edit(&cluster);
        cluster.provision();
        let world = Self { cluster };
        world.wait_whole();
        world
    }

    // ------------------------------------------------------------ the shell

    /// What a pipeline gives, or what it raised; the commands of `scripts/ha` and of `steps.nu` are there.
    pub(crate) fn nu(&self, code: &str) -> Result<Value, Refused> {
        self.cluster.nu(&prepared(code))
    }

    /// The value of a pipeline that must not fail.
    pub(crate) fn value(&self, code: &str) -> Value {
        self.nu(code).unwrap_or_else(|refused| panic!("{code}\n{refused}"))
    }

    /// The rows of a pipeline that must not fail.
    pub(crate) fn rows(&self, code: &str) -> Vec<Row> {
        value::rows(self.value(code))
    }

    /// The error of a pipeline that must fail.
    pub(crate) fn refused(&self, code: &str) -> Refused {
        match self.nu(code) {
            Ok(value) => panic!("{code} was not refused: {value}"),
            Err(refused) => refused,
        }
    }

    /// A shell that goes on beside the test; what it prints is read when it has ended.
    pub(crate) fn spawn(&self, code: &str) -> Shell {
        self.cluster.spawn(&prepared(code))
    }

    /// Clients of every region write while the code runs, and until writes flow again.
    pub(crate) fn oracle(&self, code: &str) -> Verdict {
        self.oracle_with("", code)
    }

    /// The same with further flags of `ha oracle`.
    pub(crate) fn oracle_with(&self, flags: &str, code: &str) -> Verdict {
        let record = self.value(&format!("ha oracle --settle 90sec {flags} {{\n{code}\n}}"));
        Verdict::new(Row(record))
    }

    // ------------------------------------------------------------ what holds

    pub(crate) fn lease(&self) -> Row {
        self.rows("ha lease").remove(0)
    }

    pub(crate) fn epoch(&self) -> i64 {
        self.lease().number("epoch").expect("an epoch")
    }

    /// The region that leads.
    pub(crate) fn leader(&self) -> String {
        self.lease().text("region").to_owned()
    }

    /// The other two, in the workspace's order.
    pub(crate) fn others(&self) -> [&'static str; 2] {
        let leader = self.leader();
        let others: Vec<_> = ha_tests::REGIONS.into_iter().filter(|it| *it != leader).collect();
        others.try_into().expect("three regions, one leads")
    }

    /// Somebody leads, every replica streams, every database node votes.
    pub(crate) fn wait_whole(&self) {
        self.value("wait whole --timeout 90sec");
    }

    /// Every active epoch there was, as the store has it, the oldest first.
    pub(crate) fn history(&self) -> Vec<Row> {
        let prefix = format!("/ha/{}/", self.cluster.name);
        let entries = self.stored(&prefix);
        let histories = entries.into_iter().filter(|(key, _)| key.contains("/history/"));
        histories.map(|(_, value)| Row(value)).collect()
    }

    /// Each timeline grew out of an earlier one, no number was given twice, and none goes back behind where its parent
    /// began. An epoch that ended before anybody followed it is a dead end: nobody acknowledged anything in it, which is
    /// the oracle's to say.
    pub(crate) fn one_lineage(&self) {
        let history = self.history();
        assert!(!history.is_empty(), "the store has no history");
        let number = |row: &Row, column: &str| {
            row.number(column)
                .unwrap_or_else(|| panic!("{column} of {row:?} is no number"))
        };
        let start = |row: &Row| lsn(row.text("start")).unwrap_or_else(|| panic!("start of {row:?}"));
        for (at, after) in history.iter().enumerate().skip(1) {
            let timeline = number(after, "timeline");
            assert_eq!(
                timeline,
                number(after, "epoch"),
                "a timeline has the number of its epoch: {after:?}"
            );
            let parent = number(after, "parent");
            assert!(parent < timeline, "it grew out of a later one: {after:?}");
            // Not always one that is in here: a promotion may not have lived to be published.
            let before = history[..at].iter().rfind(|it| number(it, "timeline") <= parent);
            let before = before.unwrap_or_else(|| panic!("it grew out of nothing: {after:?}"));
            assert!(
                start(before) <= start(after),
                "a line that went back: {before:?}, then {after:?}"
            );
        }
    }

    /// What the agreement store has below a prefix, by the operator's own client, in the order of the keys.
    pub(crate) fn stored(&self, prefix: &str) -> Vec<(String, Value)> {
        let mut answers = REGION_HOSTS
            .map(|(region, _)| self.etcdctl(region, &["get", "--prefix", prefix]))
            .into_iter();
        let text = answers.clone().find_map(Result::ok).unwrap_or_else(|| {
            panic!("no member of the store answers: {:?}", answers.find_map(Result::err));
        });
        let lines: Vec<_> = text.lines().collect();
        let entries = lines.chunks_exact(2).map(|entry| {
            let value = serde_json::from_str(entry[1]).unwrap_or_else(|error| panic!("{error}: {}", entry[1]));
            (entry[0].to_owned(), value)
        });
        entries.collect()
    }

    // ------------------------------------------------------------ breaking and mending

    /// To every process of `what` in a region: `database`, or a unit such as `guard`. Gives back whom it reached.
    pub(crate) fn signal(&self, region: &str, what: &str, signal: Signal) -> Vec<Process> {
        let reached = self.processes(region, what);
        for process in &reached {
            process.signal(signal);
        }
        reached
    }

    /// The processes of `what` in a region: `database` with all its children, or a unit.
    pub(crate) fn processes(&self, region: &str, what: &str) -> Vec<Process> {
        let host = host_of(region);
        if what == "database" {
            let data = self.cluster.host(region, host).join("data/postgres");
            return self
                .cluster
                .processes()
                .into_iter()
                .filter(|it| it.works_in(&data))
                .collect();
        }
        let hosts = std::fs::read_dir(self.cluster.state().join("regions").join(region).join("hosts"));
        let hosts = hosts.expect("the region's hosts").flatten();
        let names = hosts.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names
            .filter_map(|host| self.cluster.process((region, &host, what)))
            .collect()
    }

    /// Undoes every fault and waits until the cluster is whole. Fails when it does not become so.
    pub(crate) fn mend(&self) {
        self.undo();
        self.value("try { ha resume }");
        self.wait_whole();
    }

    /// Undoes every fault that can be undone from outside.
    pub(crate) fn undo(&self) {
        for process in self.cluster.processes() {
            process.signal(Signal::CONT);
        }
        if let Err(refused) = self.nu("fault repair") {
            eprintln!("fault repair: {refused}");
        }
    }
}

/// The database server of each region.
pub(crate) const REGION_HOSTS: [(&str, &str); 3] = [
    ("us-east", "us-db-1"),
    ("eu-central", "eu-db-1"),
    ("asia-southeast", "asia-db-1"),
];

pub(crate) fn host_of(region: &str) -> &'static str {
    let found = REGION_HOSTS.iter().find(|(it, _)| *it == region);
    found
        .map(|(_, host)| *host)
        .unwrap_or_else(|| panic!("no region {region}"))
}

fn prepared(code: &str) -> String {
    let steps = concat!(env!("CARGO_MANIFEST_DIR"), "/failover/steps.nu");
    format!("use ha *; use {steps:?} *\n{code}")
}

/// `X/Y`, as PostgreSQL writes a position, as one number.
fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some((u64::from_str_radix(high, 16).ok()? << 32) + u64::from_str_radix(low, 16).ok()?)
}

impl Verdict {
    fn new(record: Row) -> Self {
        let told = |column: &str| {
            record
                .number(column)
                .unwrap_or_else(|| panic!("{column} is not known: {}", record.text("error")))
        };
        let table = |column: &str| value::rows(record.get(column).clone());
        Self {
            ok: told("ok"),
            unknown: told("unknown"),
            lost: told("lost"),
            unexpected: told("unexpected"),
            recovered: told("recovered"),
            overlaps: table("overlaps"),
            regions: table("regions"),
            lineage: table("lineage"),
            answer: record.get("answer").clone(),
            error: (!record.is_null("error")).then(|| record.text("error").to_owned()),
            record,
        }
    }

    /// Of any client.
    pub(crate) fn outage(&self) -> Option<Duration> {
        self.record.duration("longest_outage")
    }

    /// Of the clients of one region.
    pub(crate) fn outage_of(&self, region: &str) -> Option<Duration> {
        let row = self.regions.iter().find(|row| row.is("region", region));
        row.unwrap_or_else(|| panic!("nobody wrote in {region}"))
            .duration("longest_outage")
    }

    /// What strict mode promises; and the closure came to its end, and writes flow again.
    pub(crate) fn passes(&self) -> &Self {
        let overlaps = self.overlaps.len();
        assert!(
            overlaps == 0,
            "{overlaps} times two acknowledged at once: {}",
            self.record.0
        );
        self.loses_nothing();
        self.one_line();
        self
    }

    pub(crate) fn loses_nothing(&self) -> &Self {
        let (lost, unexpected) = (self.lost, self.unexpected);
        assert!(
            lost == 0 && unexpected == 0,
            "{lost} lost, {unexpected} unexpected: {}",
            self.record.0
        );
        self.ends_well()
    }

    /// The closure came to its end, and writes flow again.
    pub(crate) fn ends_well(&self) -> &Self {
        if let Some(error) = &self.error {
            panic!("{error}: {}", self.record.0);
        }
        self
    }

    /// No timeline of two nodes, and a later timeline acknowledged later.
    pub(crate) fn one_line(&self) -> &Self {
        for pair in self.lineage.windows(2) {
            let [before, after] = pair else { continue };
            assert!(
                before.number("timeline") < after.number("timeline") && before.number("last") <= after.number("first"),
                "two lines: {}",
                self.record.get("lineage")
            );
        }
        self
    }
}

/// The figures, in one line.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ok, {} unknown", self.ok, self.unknown)?;
        write!(f, " ({} recovered), {} lost", self.recovered, self.lost)?;
        match self.outage() {
            Some(outage) => write!(f, ", outage {:.2} s", outage.as_secs_f64()),
            None => Ok(()),
        }
    }
}
