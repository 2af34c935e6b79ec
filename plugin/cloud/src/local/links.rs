//! Delay and cuts between regions: `links.json`, which every relay reads again when it changes.

use std::{collections::BTreeMap, time::Duration};

use ha_core::unit::{Link, Links};
use serde::Deserialize;

use crate::ProviderError;
use crate::local::{
    Local,
    process::http,
    state::{
        files::{ReadError, read_json},
        layout::{RELAY, port},
    },
};

/// One direction between two regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    pub from: String,
    pub to: String,
    /// Added to each piece of data on its way.
    pub delay: Duration,
    /// Nothing passes, and nobody is told.
    pub cut: bool,
    /// None while one of the two relays does not answer.
    pub counters: Option<LinkCounters>,
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Open now between the two regions, whoever opened them.
    pub connections: u64,
    /// Passed in this direction since the relays started.
    pub bytes: u64,
}

/// What a relay answers to `GET /links`; fields it has besides are not asked for here.
#[derive(Deserialize)]
struct Counted {
    from: String,
    to: String,
    connections: u64,
    bytes: u64,
}

/// Every ordered pair of the regions that exist, with what is set and what passed.
///
/// Both regions' relays see a direction: one the connections that were opened along it, the other the answers to
/// those that were opened against it. Their sum is what passed.
pub(crate) async fn rows(local: &Local) -> Result<Vec<LinkRow>, ProviderError> {
    let links = read(local)?;
    let regions = local.regions()?;
    let file = local.record.read()?;
    let asked = regions.iter().map(async |region| {
        let relay = file.as_ref().and_then(|file| file.address(region, RELAY));
        let relay = relay.ok_or_else(|| format!("the relay of {region} has no address"))?;
        http::get::<Vec<Counted>>(&format!("http://{}:{}/links", relay.front, port::RELAY_STATUS)).await
    });
    let answers = futures::future::join_all(asked).await;
    let by_region: BTreeMap<&String, &Result<Vec<Counted>, String>> = regions.iter().zip(&answers).collect();
    let mut rows = Vec::new();
    for from in &regions {
        for to in regions.iter().filter(|to| *to != from) {
            let link = links.get(from, to);
            let relays = [from, to].map(|region| by_region.get(region));
            let error = relays
                .iter()
                .find_map(|answer| answer.and_then(|answer| answer.as_ref().err()));
            let counted = relays
                .iter()
                .filter_map(|answer| answer.and_then(|answer| answer.as_ref().ok()))
                .flatten();
            let mut counters = LinkCounters::default();
            for counted in counted.filter(|counted| (&counted.from, &counted.to) == (from, to)) {
                counters.connections += counted.connections;
                counters.bytes += counted.bytes;
            }
            rows.push(LinkRow {
                from: from.clone(),
                to: to.clone(),
                delay: Duration::from_millis(link.map_or(0, |link| link.delay_ms)),
                cut: link.is_some_and(|link| link.cut),
                counters: error.is_none().then_some(counters),
                error: error.cloned(),
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
    let _telling = local.telling();
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
    let _telling = local.telling();
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
    // A full disk must not keep a region from going, which changes nothing here in nearly all cases.
    if links != read(local)? {
        local.files.write_json(&local.layout.links(), &links)?;
    }
    Ok(())
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
