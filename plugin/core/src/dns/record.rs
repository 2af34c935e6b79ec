//! One record set, as Route 53 keeps it.

use std::fmt;

use super::place::Place;

/// Values are sorted and names are [`super::plain`], so that equal means equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `us.api.example.com`
    pub name: String,
    /// `A`, `TXT`
    pub kind: String,
    /// Tells the sets of one name and kind apart; none of a simple record.
    pub set: Option<String>,
    pub policy: Policy,
    /// Seconds; none of an alias, which has that of what it leads to.
    pub ttl: Option<u64>,
    pub target: Target,
    /// The id of the health check without which it is not answered.
    pub check: Option<String>,
}

/// Which of several sets is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    Simple,
    Geolocation(Place),
    Failover(Turn),
    Weighted(u64),
    /// Of an AWS region: `ap-southeast-1`.
    Latency(String),
    /// One that nothing here writes, by Route 53's own word: it is somebody else's.
    Other(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Primary,
    Secondary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Values(Vec<String>),
    Alias {
        /// The zone that keeps the name.
        zone: String,
        name: String,
        /// Not answered when what it leads to is not well.
        evaluate: bool,
    },
}

impl Policy {
    /// As in the column `policy`.
    pub fn word(&self) -> &str {
        match self {
            Self::Simple => "simple",
            Self::Geolocation(_) => "geolocation",
            Self::Failover(_) => "failover",
            Self::Weighted(_) => "weighted",
            Self::Latency(_) => "latency",
            Self::Other(word) => word,
        }
    }

    /// What the sets of one name are told apart by.
    pub fn selects(&self) -> Option<String> {
        match self {
            Self::Simple | Self::Other(_) => None,
            Self::Geolocation(place) => Some(place.to_string()),
            Self::Failover(turn) => Some(turn.word().to_owned()),
            Self::Weighted(weight) => Some(weight.to_string()),
            Self::Latency(region) => Some(region.clone()),
        }
    }
}

impl Turn {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

impl Record {
    /// The set of one name and kind that it is.
    pub fn key(&self) -> (&str, Option<&str>) {
        (&self.kind, self.set.as_deref())
    }

    /// Sixteen hexadecimal digits over all of it.
    pub fn hash(&self) -> String {
        blake3::hash(self.to_string().as_bytes()).to_hex()[..16].to_owned()
    }

    /// Where it leads, as rows show it.
    pub fn values(&self) -> Vec<String> {
        match &self.target {
            Target::Values(values) => values.clone(),
            Target::Alias { name, .. } => vec![name.clone()],
        }
    }

    /// In what `wanted` differs: `value 192.0.2.1 → 192.0.2.2, ttl 60 → 30`. `named` gives a check the name of its region.
    pub fn difference(&self, wanted: &Self, named: impl Fn(&str) -> String) -> String {
        let mut words = Vec::new();
        let mut differs = |what: &str, before: String, after: String| {
            if before != after {
                words.push(format!("{what} {before} → {after}"));
            }
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        differs("value", self.values().join(" "), wanted.values().join(" "));
        differs("policy", self.policy_words(), wanted.policy_words());
        let ttl = |it: &Self| or_none(it.ttl.map(|it| it.to_string()));
        differs("ttl", ttl(self), ttl(wanted));
        let check = |it: &Self| or_none(it.check.as_deref().map(&named));
        differs("health check", check(self), check(wanted));
        match words.is_empty() {
            true if self.check != wanted.check => "another health check of the same region".to_owned(),
            true => "alias changed".to_owned(),
            false => words.join(", "),
        }
    }

    fn policy_words(&self) -> String {
        match self.policy.selects() {
            Some(selects) => format!("{} {selects}", self.policy.word()),
            None => self.policy.word().to_owned(),
        }
    }
}

/// All of it in one line; [`Record::hash`] is made of this.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, .. } = self;
        write!(f, "{name} {kind}")?;
        if let Some(set) = &self.set {
            write!(f, " set={set:?}")?;
        }
        write!(f, " {}", self.policy_words())?;
        if let Some(ttl) = self.ttl {
            write!(f, " ttl={ttl}")?;
        }
        match &self.target {
            Target::Values(values) => write!(f, " values={values:?}")?,
            Target::Alias { zone, name, evaluate } => write!(f, " alias={name} in {zone} evaluate={evaluate}")?,
        }
        match &self.check {
            Some(check) => write!(f, " check={check}"),
            None => Ok(()),
        }
    }
}
