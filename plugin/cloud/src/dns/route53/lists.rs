//! What is there, each list to its end.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_route53::types::{self as sdk, RrType, TagResourceType};
use futures::future::try_join_all;
use ha_core::dns::{
    Check, Record, Seen, Zone,
    check::{Health, health},
    plain, reference,
    seen::pick,
    within,
};
use jiff::Timestamp;

use super::{Route53, shape};
use crate::{
    ProviderError,
    aws::{
        call::Repeat::Freely,
        fault::{Class, Fault},
    },
    dns::{Asked, Names},
};

/// The most that `ListTagsForResources` takes.
/// Source: <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListTagsForResources.html>.
const MOST_TAGGED: usize = 10;

impl Route53 {
    pub(super) async fn look(&self, names: Option<&Names>) -> Result<Seen, ProviderError> {
        let (zones, checks) = tokio::join!(self.zones(names), self.checks());
        Ok(Seen {
            zones: zones?,
            checks: checks?,
        })
    }

    /// `(id, name, reference)` of every public zone of the account.
    pub(super) async fn all_zones(&self) -> Result<Vec<(String, String, String)>, Fault> {
        let action = "route53:ListHostedZones";
        let (mut all, mut marker) = (Vec::new(), None);
        loop {
            let request = self.client.list_hosted_zones().set_marker(marker.clone());
            let page = self.call(action, Freely, || request.clone().send()).await?;
            let public = page
                .hosted_zones
                .iter()
                .filter(|it| !it.config().is_some_and(|it| it.private_zone()));
            let named = |it: &sdk::HostedZone| (bare(it.id()), plain(it.name()), it.caller_reference().to_owned());
            all.extend(public.map(named));
            match next(page.is_truncated, marker, page.next_marker) {
                Next::End => return Ok(all),
                Next::From(next) => marker = Some(next),
                Next::Nowhere => return Err(self.endless(action)),
            }
        }
    }

    async fn zones(&self, names: Option<&Names>) -> Result<Vec<Zone>, ProviderError> {
        let ws = self.ws.as_str();
        let all = self.all_zones().await?;
        let named = match names {
            None => None,
            Some(names) => pick(&all, &names.zone, ws).map_err(|ambiguous| ProviderError::Refused {
                what: format!(
                    "{} public zones are called {}: {}",
                    ambiguous.ids.len(),
                    ambiguous.name,
                    ambiguous.ids.join(", ")
                ),
                help: "delete those that nothing delegates to; users are answered by one of them only".into(),
            })?,
        };
        let ours = all.iter().filter(|it| reference::is_of(ws, &it.2));
        // The one that names are wanted in first.
        let looked_at = named
            .into_iter()
            .chain(ours.filter(|it| named.is_none_or(|named| named.0 != it.0)));
        let looked_at = looked_at.map(|zone| async move {
            match reference::is_of(ws, &zone.2) {
                true => self.our_zone(zone).await,
                false => self.other_zone(zone, names).await,
            }
        });
        Ok(try_join_all(looked_at).await?)
    }

    pub(super) async fn our_zone(&self, (id, name, reference): &(String, String, String)) -> Result<Zone, Fault> {
        let (records, tags) = tokio::join!(self.records(id, None), self.tags_of_zone(id));
        Ok(zone(id, name, reference, records?, tags?))
    }

    async fn other_zone(
        &self,
        (id, name, reference): &(String, String, String),
        names: Option<&Names>,
    ) -> Result<Zone, Fault> {
        let records = self.records(id, names.map(|it| it.domain.as_str())).await?;
        Ok(zone(id, name, reference, records, BTreeMap::new()))
    }

    async fn tags_of_zone(&self, id: &str) -> Result<BTreeMap<String, String>, Fault> {
        let request = self
            .client
            .list_tags_for_resource()
            .resource_type(TagResourceType::Hostedzone)
            .resource_id(id);
        let answer = self
            .call("route53:ListTagsForResource", Freely, || request.clone().send())
            .await?;
        Ok(answer.resource_tag_set().map(tags).unwrap_or_default())
    }

    /// All records of a zone, or those at and below a name: Route 53 lists them by their labels from the right, so that
    /// these come one after the other.
    /// Source: <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ListResourceRecordSets.html>.
    async fn records(&self, zone: &str, below: Option<&str>) -> Result<Vec<Record>, Fault> {
        let action = "route53:ListResourceRecordSets";
        let mut all: Vec<Record> = Vec::new();
        let mut from = Start {
            name: below.map(str::to_owned),
            ..Start::default()
        };
        loop {
            let request = self
                .client
                .list_resource_record_sets()
                .hosted_zone_id(zone)
                .set_start_record_name(from.name.clone())
                .set_start_record_type(from.kind.clone())
                .set_start_record_identifier(from.set.clone());
            let page = self.call(action, Freely, || request.clone().send()).await?;
            all.extend(page.resource_record_sets.iter().map(shape::record));
            let beyond = |below: &str| all.last().is_some_and(|it| !within(&it.name, below));
            if !page.is_truncated || below.is_some_and(beyond) {
                if let Some(below) = below {
                    all.retain(|it| within(&it.name, below));
                }
                return Ok(all);
            }
            let next = Start {
                name: page.next_record_name,
                kind: page.next_record_type,
                set: page.next_record_identifier,
            };
            if next == from || next.name.is_none() {
                return Err(self.endless(action));
            }
            from = next;
        }
    }

    async fn checks(&self) -> Result<Vec<Check>, ProviderError> {
        let mut ours = self.untagged_checks().await?;
        let ids: Vec<String> = ours.iter().map(|it| it.id.clone()).collect();
        let tagged = ids.chunks(MOST_TAGGED).map(|ids| async move {
            let request = self
                .client
                .list_tags_for_resources()
                .resource_type(TagResourceType::Healthcheck)
                .set_resource_ids(Some(ids.to_vec()));
            let answer = self.call("route53:ListTagsForResources", Freely, || request.clone().send());
            answer.await.map(|it| it.resource_tag_sets)
        });
        for set in try_join_all(tagged).await?.into_iter().flatten() {
            let check = ours.iter_mut().find(|it| Some(it.id.as_str()) == set.resource_id());
            check.into_iter().for_each(|it| it.tags = tags(&set));
        }
        Ok(ours)
    }

    /// Those of the workspace, without asking for their tags.
    pub(super) async fn untagged_checks(&self) -> Result<Vec<Check>, Fault> {
        let action = "route53:ListHealthChecks";
        let (mut ours, mut marker) = (Vec::new(), None);
        loop {
            let request = self.client.list_health_checks().set_marker(marker.clone());
            let page = self.call(action, Freely, || request.clone().send()).await?;
            let checks = page.health_checks.iter();
            let of_ws = checks.filter(|it| reference::is_of(self.ws.as_str(), it.caller_reference()));
            ours.extend(of_ws.map(shape::check));
            match next(page.is_truncated, marker, page.next_marker) {
                Next::End => return Ok(ours),
                Next::From(next) => marker = Some(next),
                Next::Nowhere => return Err(self.endless(action)),
            }
        }
    }

    pub(super) async fn state(&self, check: &Check) -> Result<Asked, ProviderError> {
        self.paces.states.pass().await;
        let request = self.client.get_health_check_status().health_check_id(&check.id);
        let action = "route53:GetHealthCheckStatus";
        let answer = self.call(action, Freely, || request.clone().send()).await?;
        let reports = answer.health_check_observations;
        let mut asked = Asked {
            health: Health::Unknown,
            checkers: 0,
            well: 0,
            checked_at: None,
            failure: None,
        };
        for report in reports.iter().filter_map(sdk::HealthCheckObservation::status_report) {
            let Some(said) = report.status() else { continue };
            asked.checkers += 1;
            // "Success: HTTP Status Code 200, OK", or why not.
            match said.starts_with("Success") {
                true => asked.well += 1,
                false => asked.failure = Some(said.to_owned()),
            }
            let at = report
                .checked_time()
                .and_then(|it| Timestamp::from_second(it.secs()).ok());
            asked.checked_at = asked.checked_at.max(at);
        }
        asked.health = health(asked.checkers, asked.well);
        Ok(asked)
    }

    fn endless(&self, action: &'static str) -> Fault {
        Fault {
            action,
            location: self.caller.location.clone(),
            class: Class::Garbled,
            code: String::new(),
            message: "the list does not end: a page leads back to itself".to_owned(),
            took: Duration::ZERO,
        }
    }
}

/// Where a page of records begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Start {
    name: Option<String>,
    kind: Option<RrType>,
    set: Option<String>,
}

enum Next {
    End,
    From(String),
    Nowhere,
}

fn next(truncated: bool, marker: Option<String>, next: Option<String>) -> Next {
    match next {
        _ if !truncated => Next::End,
        Some(next) if marker.as_ref() != Some(&next) => Next::From(next),
        _ => Next::Nowhere,
    }
}

/// `Z0123` of `/hostedzone/Z0123`.
pub(super) fn bare(id: &str) -> String {
    id.rsplit('/').next().unwrap_or(id).to_owned()
}

fn tags(set: &sdk::ResourceTagSet) -> BTreeMap<String, String> {
    let tags = set.tags().iter();
    tags.filter_map(|it| Some((it.key()?.to_owned(), it.value().unwrap_or_default().to_owned())))
        .collect()
}

fn zone(id: &str, name: &str, reference: &str, records: Vec<Record>, tags: BTreeMap<String, String>) -> Zone {
    let own = records.iter().find(|it| it.name == *name && it.kind == "NS");
    let mut name_servers: Vec<String> = own.map(Record::values).unwrap_or_default();
    name_servers.iter_mut().for_each(|it| *it = plain(it));
    name_servers.sort();
    Zone {
        id: id.to_owned(),
        name: name.to_owned(),
        reference: reference.to_owned(),
        name_servers,
        records,
        tags,
    }
}
