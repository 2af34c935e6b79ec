//! What [`judge`](crate::judge) says.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{By, Mark};

/// What became of a run. Moments are counted from its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub run: String,
    pub took: Duration,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Certainly not committed.
    pub failed: usize,
    /// No certain answer; those of them that are there are in [`Rows::recovered`], too.
    pub unknown: usize,
    /// None when nobody could be asked what is there: then nothing is known of losses.
    pub rows: Option<Rows>,
    /// Pairs that acknowledged at the same time; one of them was not the primary.
    pub overlaps: Vec<Overlap>,
    /// Who acknowledged, by timeline.
    pub lineage: Vec<Reign>,
    /// Why the timelines are not one growing line; none when they are.
    pub lineage_broken: Option<String>,
    /// In the order of the notes.
    pub regions: Vec<RegionVerdict>,
    pub marks: Vec<Mark>,
    /// Clients that ended before they were told to: the notes are not whole.
    pub broken: Vec<String>,
}

/// Notes and rows compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Acknowledged and there.
    pub ok: usize,
    /// Acknowledged and not there.
    pub lost: Vec<LostWrite>,
    /// Unknown and there: a client that asks again finds it.
    pub recovered: Vec<u64>,
    /// There and must not be.
    pub unexpected: Vec<Unexpected>,
    /// Who was asked.
    pub asked: By,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostWrite {
    pub id: u64,
    pub region: String,
    /// Whose word it was.
    pub by: By,
    /// When it was acknowledged.
    pub at: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexpected {
    pub id: u64,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its error said that it was not committed.
    Failed,
    /// No client wrote it.
    NeverAttempted,
    /// Written once, there more than once.
    Duplicated,
}

/// Two that acknowledged at the same time, whatever the delays of their answers: each of them acknowledged a write
/// that was sent after an answer of the other was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    pub earlier: By,
    pub later: By,
    /// From here on both had acknowledged.
    pub from: Duration,
    /// At least this long; zero when one of them acknowledged a single time.
    pub at_least: Duration,
    /// Acknowledged by `earlier` although sent after the first answer of `later`.
    pub writes: usize,
}

/// One node on one timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    pub by: By,
    pub first: Duration,
    pub last: Duration,
    pub acknowledged: usize,
}

/// What the clients of one region saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionVerdict {
    pub region: String,
    pub acknowledged: usize,
    pub failed: usize,
    pub unknown: usize,
    /// Longest time without an acknowledgement.
    pub outage: Option<Outage>,
    /// Of acknowledged writes, from sending to the answer.
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    pub slowest: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// The last acknowledgement before, or the start of the run.
    pub from: Duration,
    pub took: Duration,
    /// False when the run ended in it.
    pub over: bool,
}

impl Verdict {
    /// Nothing lost, nothing there that must not be, never two at once, one line of timelines, and the notes are whole.
    pub fn passed(&self) -> bool {
        let rows = self.rows.as_ref();
        rows.is_some_and(|rows| rows.lost.is_empty() && rows.unexpected.is_empty())
            && self.overlaps.is_empty()
            && self.lineage_broken.is_none()
            && self.broken.is_empty()
    }

    /// The longest of any region.
    pub fn longest_outage(&self) -> Option<&Outage> {
        let outages = self.regions.iter().filter_map(|region| region.outage.as_ref());
        outages.max_by_key(|outage| outage.took)
    }
}

/// One line: what is wrong, or that nothing is.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acknowledged", self.acknowledged)?;
        match &self.rows {
            Some(rows) => {
                let (lost, unexpected) = (rows.lost.len(), rows.unexpected.len());
                write!(f, ", {lost} lost, {unexpected} unexpected")?;
            }
            None => f.write_str(", and nobody could be asked what is there")?,
        }
        for overlap in &self.overlaps {
            write!(f, ", {} acknowledged beside {}", overlap.earlier, overlap.later)?;
        }
        if let Some(broken) = &self.lineage_broken {
            write!(f, ", {broken}")?;
        }
        for broken in &self.broken {
            write!(f, ", a client broke off: {broken}")?;
        }
        Ok(())
    }
}
