//! What is done, one request each.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use aws_sdk_route53::{
    error::BuildError,
    types::{self as sdk, ChangeAction, ChangeBatch, ChangeStatus, HostedZoneConfig, TagResourceType},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use ha_core::dns::{Act, Change, Check, CheckSpec, Made, Zone, plain, reference::Reference};

use super::{Route53, lists::bare, shape};
use crate::{
    ProviderError,
    aws::{
        call::Repeat::{Freely, WhenRefused},
        fault::Fault,
    },
    dns::Done,
};

pub(super) type SdkError<E> = aws_smithy_runtime_api::client::result::SdkError<E, HttpResponse>;

/// References that may be used up by what was deleted in the last days, before somebody has to see why.
const GENERATIONS: u32 = 200;

impl Route53 {
    pub(super) async fn act(&self, act: &Act) -> Result<Done, ProviderError> {
        let made = |made| Done { made, change: None };
        match act {
            Act::MakeZone {
                name,
                reference,
                generation,
                tags,
            } => {
                let mut zone = self.make_zone(name, reference, *generation).await?;
                self.tag(TagResourceType::Hostedzone, &zone.id, tags).await?;
                zone.tags.clone_from(tags);
                Ok(made(Made::Zone(zone)))
            }
            Act::TagZone { id, tags } => {
                self.tag(TagResourceType::Hostedzone, id, tags).await?;
                Ok(made(Made::Nothing))
            }
            Act::MakeCheck {
                spec,
                reference,
                generation,
                tags,
                ..
            } => {
                let mut check = self.make_check(spec, reference, *generation).await?;
                self.tag(TagResourceType::Healthcheck, &check.id, tags).await?;
                check.tags.clone_from(tags);
                Ok(made(Made::Check(check)))
            }
            Act::ChangeCheck { id, version, spec } => self.change_check(id, *version, spec).await.map(made),
            Act::TagCheck { id, tags } => {
                self.tag(TagResourceType::Healthcheck, id, tags).await?;
                Ok(made(Made::Nothing))
            }
            Act::ChangeRecords { zone, changes } => {
                let change = self.change_records(zone, changes).await?;
                Ok(Done {
                    made: Made::Nothing,
                    change,
                })
            }
            Act::RemoveCheck { id } => {
                let request = self.client.delete_health_check().health_check_id(id);
                let action = "route53:DeleteHealthCheck";
                let outcome = self.call(action, Freely, || request.clone().send()).await;
                gone_already(outcome.map(drop), "NoSuchHealthCheck")?;
                Ok(made(Made::Nothing))
            }
            Act::RemoveZone { id, name } => {
                let request = self.client.delete_hosted_zone().id(id);
                let action = "route53:DeleteHostedZone";
                let outcome = self.call(action, Freely, || request.clone().send()).await;
                match gone_already(outcome.map(drop), "NoSuchHostedZone") {
                    Err(fault) if fault.code == "HostedZoneNotEmpty" => Err(ProviderError::Refused {
                        what: format!("the zone {name} holds records of somebody else"),
                        help: "remove those, and then run the same command again".into(),
                    }),
                    outcome => Ok(outcome.map(|()| made(Made::Nothing))?),
                }
            }
        }
    }

    /// The zone with that reference, made now or by a request whose answer was lost.
    async fn make_zone(&self, name: &str, reference: &Reference, from: u32) -> Result<Zone, ProviderError> {
        let config = HostedZoneConfig::builder().comment(format!("ha: {}", self.ws)).build();
        for generation in from..from + GENERATIONS {
            let request = self
                .client
                .create_hosted_zone()
                .name(name)
                .caller_reference(reference.with(generation))
                .hosted_zone_config(config.clone());
            let action = "route53:CreateHostedZone";
            // A reference is taken once, however often the request is sent.
            match self.call(action, Freely, || request.clone().send()).await {
                Ok(answer) => {
                    let servers = answer.delegation_set().map(|it| it.name_servers()).unwrap_or_default();
                    let mut name_servers: Vec<String> = servers.iter().map(|it| plain(it)).collect();
                    name_servers.sort();
                    let zone = answer.hosted_zone().ok_or_else(|| incomplete(action))?;
                    return Ok(Zone {
                        id: bare(zone.id()),
                        name: plain(zone.name()),
                        reference: zone.caller_reference().to_owned(),
                        name_servers,
                        records: Vec::new(),
                        tags: BTreeMap::new(),
                    });
                }
                Err(fault) if fault.code == "HostedZoneAlreadyExists" => {
                    let all = self.all_zones().await?;
                    let found = all.iter().find(|it| reference.generation(&it.2).is_some());
                    if let Some(zone) = found {
                        return Ok(self.our_zone(zone).await?);
                    }
                }
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(used_up(reference))
    }

    /// The check with that reference, made now or by a request whose answer was lost.
    async fn make_check(&self, spec: &CheckSpec, reference: &Reference, from: u32) -> Result<Check, ProviderError> {
        let action = "route53:CreateHealthCheck";
        let config = shape::config(spec).map_err(|error| unbuilt(&error))?;
        for generation in from..from + GENERATIONS {
            let request = self
                .client
                .create_health_check()
                .caller_reference(reference.with(generation))
                .health_check_config(config.clone());
            // The same reference with the same settings is answered with the same check.
            match self.call(action, Freely, || request.clone().send()).await {
                Ok(answer) => return Ok(shape::check(answer.health_check().ok_or_else(|| incomplete(action))?)),
                // Of one that was deleted, or that somebody changed since.
                Err(fault) if fault.code == "HealthCheckAlreadyExists" => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(used_up(reference))
    }

    async fn change_check(&self, id: &str, version: i64, spec: &CheckSpec) -> Result<Made, ProviderError> {
        let action = "route53:UpdateHealthCheck";
        let request = self
            .client
            .update_health_check()
            .health_check_id(id)
            .health_check_version(version)
            .set_ip_address(spec.ip.map(|it| it.to_string()))
            .set_fully_qualified_domain_name(spec.host.clone())
            .port(i32::from(spec.port))
            .set_resource_path(spec.path.clone())
            .set_failure_threshold(i32::try_from(spec.failures).ok())
            .enable_sni(spec.sni)
            .disabled(spec.disabled)
            .inverted(spec.inverted);
        match self.call(action, WhenRefused, || request.clone().send()).await {
            Ok(answer) => {
                let check = answer.health_check().ok_or_else(|| incomplete(action))?;
                Ok(Made::Check(shape::check(check)))
            }
            Err(fault) if fault.code == "HealthCheckVersionMismatch" => Err(ProviderError::Refused {
                what: format!("the health check {id} was changed by somebody else just now"),
                help: "see what it is now: ha dns plan".into(),
            }),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn tag(&self, kind: TagResourceType, id: &str, tags: &BTreeMap<String, String>) -> Result<(), Fault> {
        let tags = tags
            .iter()
            .map(|(key, value)| sdk::Tag::builder().key(key).value(value).build());
        let request = self
            .client
            .change_tags_for_resource()
            .resource_type(kind)
            .resource_id(id)
            .set_add_tags(Some(tags.collect()));
        let action = "route53:ChangeTagsForResource";
        self.call(action, Freely, || request.clone().send()).await.map(drop)
    }

    /// The id under which [`Route53::spread`] asks for it. While Route 53 is at work on another batch of the same zone it
    /// takes none, which is waited out.
    async fn change_records(&self, zone: &str, changes: &[Change]) -> Result<Option<String>, ProviderError> {
        let built = changes.iter().map(|change| {
            let action = match change {
                Change::Delete(_) => ChangeAction::Delete,
                Change::Create(_) => ChangeAction::Create,
            };
            let set = shape::set(change.record())?;
            sdk::Change::builder().action(action).resource_record_set(set).build()
        });
        let built: Vec<sdk::Change> = built.collect::<Result<_, _>>().map_err(|error| unbuilt(&error))?;
        let batch = ChangeBatch::builder()
            .set_changes(Some(built))
            .comment(format!("ha: {}", self.ws));
        let batch = batch.build().map_err(|error| unbuilt(&error))?;
        let request = self
            .client
            .change_resource_record_sets()
            .hosted_zone_id(zone)
            .change_batch(batch);
        let said: Mutex<Option<Vec<String>>> = Mutex::default();
        let send = || async {
            let answer = request.clone().send().await;
            let body = answer
                .as_ref()
                .err()
                .and_then(|it| it.raw_response())
                .and_then(|it| it.body().bytes());
            *said.lock().unwrap_or_else(PoisonError::into_inner) = body.and_then(invalid_batch);
            answer
        };
        let action = "route53:ChangeResourceRecordSets";
        let until = Instant::now() + self.caller.deadline;
        let mut backoff = crate::rest::Backoff::starting(self.caller.pause);
        loop {
            // A second time it would be refused as done already.
            let fault = match self.call(action, WhenRefused, send).await {
                Ok(answer) => return Ok(answer.change_info().map(|it| bare(it.id()))),
                Err(fault) => fault,
            };
            let said = said.lock().unwrap_or_else(PoisonError::into_inner).take();
            let why = match said {
                Some(said) => said.join("; "),
                None if fault.code == "InvalidChangeBatch" => fault.message,
                None if fault.code == "PriorRequestNotComplete" && Instant::now() < until => {
                    tokio::time::sleep(backoff.pause()).await;
                    continue;
                }
                None => return Err(fault.into()),
            };
            let why = why.trim_end_matches('.');
            return Err(ProviderError::Refused {
                what: format!("Route 53 refuses the change, and nothing of it was done: {why}"),
                help: "see what there is now, and what would be done: ha dns plan".into(),
            });
        }
    }

    pub(super) async fn spread(&self, change: &str) -> Result<(), ProviderError> {
        let after = self.caller.deadline;
        let action = "route53:GetChange";
        let look = || async {
            let request = self.client.get_change().id(change);
            let answer = self.call(action, Freely, || request.clone().send()).await?;
            Ok(match answer.change_info().map(|it| it.status()) {
                Some(ChangeStatus::Insync) => Ok(()),
                _ => Err(format!("change {change} has not reached every server of Route 53 yet")),
            })
        };
        let late = |what| ProviderError::OutcomeUnknown { what, after };
        self.caller.until(after, look, late).await
    }
}

/// What is wrong with a batch, in the form of an answer that the SDK does not read: `<InvalidChangeBatch>` with all
/// messages, in place of `<Error>` with one.
/// Source: <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html#API_ChangeResourceRecordSets_Errors>.
fn invalid_batch(body: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, batch) = text.split_once("<InvalidChangeBatch")?;
    let messages = batch
        .split("<Message>")
        .skip(1)
        .filter_map(|it| Some(it.split_once("</Message>")?.0));
    let plain = messages.map(|it| {
        let entities = [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&apos;", "'"),
            ("&#39;", "'"),
            ("&amp;", "&"),
        ];
        entities
            .iter()
            .fold(it.to_owned(), |text, (entity, is)| text.replace(entity, is))
    });
    Some(plain.collect())
}

/// Success, also when it was not there.
fn gone_already(outcome: Result<(), Fault>, code: &str) -> Result<(), Fault> {
    match outcome {
        Err(fault) if fault.code == code => Ok(()),
        outcome => outcome,
    }
}

fn used_up(reference: &Reference) -> ProviderError {
    ProviderError::Refused {
        what: format!("{GENERATIONS} caller references like {reference} are used up"),
        help: "Route 53 forgets those of deleted things after some days; until then, choose another workspace name"
            .into(),
    }
}

fn incomplete(action: &str) -> ProviderError {
    ProviderError::Other {
        what: format!("{action} was answered without what it made"),
    }
}

fn unbuilt(error: &BuildError) -> ProviderError {
    ProviderError::Other {
        what: format!("a request for Route 53 cannot be written: {error}"),
    }
}
