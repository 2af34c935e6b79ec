//! Delay and cuts between regions: `links.json`, which every relay reads again when it changes.

use std::{collections::BTreeMap, time::Duration};

use ha_core::unit::{Link, Links};

use super::{
    Local,
    files::{ReadError, read_json},
    http,
};
use crate::ProviderError;

/// One direction between two regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    pub from: String,
    pub to: String,
    /// Added to each piece of data on its way.
    pub delay: Duration,
    /// Nothing passes, and nobody is told.
    pub cut: bool,
    /// What the relay of `to` counts on it now; none while that relay does not answer.
    pub counters: Option<LinkCounters>,
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    pub connections: u64,
    pub bytes: u64,
}

/// Every ordered pair of the regions that exist, with what is set and what passed.
pub(crate) async fn rows(local: &Local) -> Result<Vec<LinkRow>, ProviderError> {
    let links = read(local)?;
    let regions = local.regions()?;
    let mut counted = BTreeMap::new();
    let asked = regions
        .iter()
        .map(|region| async { (region.clone(), http::relay_counters(local, region).await) });
    for (region, answer) in futures::future::join_all(asked).await {
        counted.insert(region, answer);
    }
    let mut rows = Vec::new();
    for from in &regions {
        for to in regions.iter().filter(|to| *to != from) {
            let link = links.get(from, to);
            let (counters, error) = match counted.get(to) {
                Some(Ok(of)) => (Some(of.get(from).copied().unwrap_or_default()), None),
                Some(Err(error)) => (None, Some(error.clone())),
                None => (None, None),
            };
            rows.push(LinkRow {
                from: from.clone(),
                to: to.clone(),
                delay: Duration::from_millis(link.map_or(0, |link| link.delay_ms)),
                cut: link.is_some_and(|link| link.cut),
                counters,
                error,
            });
        }
    }
    Ok(rows)
}

/// Afterwards the direction has this delay and cut; what is none stays as it was. Relays follow within moments.
///
/// # Errors
/// `Refused` when a region does not exist or both are the same.
pub(crate) fn set(
    local: &Local,
    from: &str,
    to: &str,
    delay: Option<Duration>,
    cut: Option<bool>,
) -> Result<(), ProviderError> {
    let regions = local.regions()?;
    for region in [from, to] {
        if !regions.iter().any(|known| known == region) {
            return Err(unknown(region, &regions));
        }
    }
    if from == to {
        return Err(ProviderError::Refused {
            what: format!("{from} reaches itself without a relay"),
            help: "name two regions".into(),
        });
    }
    let mut links = read(local)?;
    let old = links.get(from, to);
    let link = Link {
        from: from.to_owned(),
        to: to.to_owned(),
        delay_ms: delay.map_or(old.map_or(0, |link| link.delay_ms), |delay| {
            u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
        }),
        cut: cut.unwrap_or_else(|| old.is_some_and(|link| link.cut)),
    };
    links
        .links
        .retain(|known| (known.from.as_str(), known.to.as_str()) != (from, to));
    if link.cut || link.delay_ms > 0 {
        links.links.push(link);
    }
    write(local, links)
}

/// Afterwards no direction that matches has a delay or a cut; none matches every region.
pub(crate) fn heal(local: &Local, from: Option<&str>, to: Option<&str>) -> Result<(), ProviderError> {
    let matches = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
    let mut links = read(local)?;
    links
        .links
        .retain(|link| !(matches(from, &link.from) && matches(to, &link.to)));
    write(local, links)
}

fn read(local: &Local) -> Result<Links, ProviderError> {
    let path = local.layout.links();
    match read_json(&path) {
        Ok(links) => Ok(links.unwrap_or_default()),
        Err(error @ (ReadError::Damaged(_) | ReadError::Unreadable(_))) => Err(ProviderError::Refused {
            what: format!("{} {error}", path.display()),
            help: "remove that file: without it there is no delay and no cut".into(),
        }),
    }
}

fn write(local: &Local, mut links: Links) -> Result<(), ProviderError> {
    links.links.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    local.files.write_json(&local.layout.links(), &links)
}

fn unknown(region: &str, regions: &[String]) -> ProviderError {
    let near = ha_core::names::nearest(region, regions.iter().map(String::as_str));
    ProviderError::Refused {
        what: format!("there is no region {region} on this machine"),
        help: match near {
            Some(near) => format!("did you mean {near}?"),
            None if regions.is_empty() => "run: ha provision".into(),
            None => format!("regions here: {}", regions.join(", ")),
        },
    }
}
