//! Names: domains and their records. <https://docs.digitalocean.com/reference/api/reference/domain-records/>
//!
//! A record has one value here; those of one name and kind together are one [`Record`]. There are no routing policies and
//! no batches. Whose a set is, a line of the TXT record beside it says ([`marker`]), as everywhere; it is written before
//! the set and taken away after it, so that there is never a record of ours that nobody knows to be ours.
//!
//! A domain itself carries nothing either: a line of the same kind says that it was made by us.

use std::collections::{BTreeMap, BTreeSet};

use ha_core::dns::{Policy, Record, Target, marker, marker::Marker, plain, within};
use http::Method;
use serde_json::{Value, json};

use super::{
    DigitalOceanProvider,
    api::{Domain, DomainRecord},
    cloud::Cloud,
    errors,
};
use crate::{
    ProviderError,
    rest::{RestError, segment},
};

/// Of a record that names no other. <https://docs.digitalocean.com/products/networking/dns/how-to/manage-records/>
const USUAL_TTL: u64 = 1800;
/// The shortest that DigitalOcean takes; see [`USUAL_TTL`].
const LEAST_TTL: u64 = 30;

/// In a line about a domain as a whole, in place of the kind of a record.
const ZONE: &str = "ZONE";

/// The values of one name and kind, as DigitalOcean keeps them: one record each.
type Set<'a> = Vec<&'a DomainRecord>;

impl DigitalOceanProvider {
    /// All records of a domain, values of one name and kind together; none where the account has no such domain.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Denied`] where the token may not look.
    pub async fn records(&self, domain: &str) -> Result<Option<Vec<Record>>, ProviderError> {
        let domain = plain(domain);
        let all = self.cloud.domain_records(&domain).await?;
        Ok(all.map(|all| sets(&domain, &all)))
    }

    /// Afterwards the account has the domain. True when it was made now; one that was there stays whose it was.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Refused`] when DigitalOcean takes no such name, as when another account has it.
    pub async fn ensure_domain(&self, domain: &str) -> Result<bool, ProviderError> {
        let domain = plain(domain);
        if self.cloud.domain_records(&domain).await?.is_some() {
            return Ok(false);
        }
        let body = json!({ "name": domain });
        match self.cloud.create::<Domain>(&body).await {
            Ok(_) => {}
            Err(error) => return Err(failed(error, &domain)),
        }
        let line = self.line(ZONE, &domain);
        self.cloud.write_line(&domain, &domain, &line, &[]).await?;
        Ok(true)
    }

    /// Afterwards there is no such domain, when we made it and nothing of others is in it; true when it is gone.
    pub async fn remove_domain(&self, domain: &str) -> Result<bool, ProviderError> {
        let domain = plain(domain);
        let Some(all) = self.cloud.domain_records(&domain).await? else {
            return Ok(true);
        };
        let ours = lines(&domain, &all, &domain).any(|(_, line)| self.is_ours(&line, ZONE));
        let belongs = |it: &DomainRecord| {
            let zone_itself = it.name == "@" && matches!(it.kind.as_str(), "NS" | "SOA");
            zone_itself || Marker::parse(&it.data).is_some_and(|line| self.is_ours(&line, ZONE))
        };
        if !ours || !all.iter().all(belongs) {
            return Ok(false);
        }
        let path = format!("/v2/domains/{}", segment(&domain));
        let removed = self.cloud.delete(&path).await;
        removed.map(|_| true).map_err(|error| failed(error, &domain))
    }

    /// Afterwards the domain answers with this record, and a line beside it says that it is ours. Called again: nothing
    /// more is written.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Taken`] when the name has a record of somebody else that this one would replace, or a CNAME,
    /// which bears nothing beside itself. [`ProviderError::Refused`] for what DigitalOcean's DNS cannot do, and when
    /// there is no such domain.
    pub async fn ensure_record(&self, domain: &str, want: &Record) -> Result<(), ProviderError> {
        let domain = plain(domain);
        let values = writable(&domain, want)?;
        let all = self.cloud.domain_records(&domain).await?;
        let all = all.ok_or_else(|| ProviderError::Refused {
            what: format!("{}: this DigitalOcean account has no domain {domain}", want.name),
            help: "make it there and delegate to it, or name another in workspace.ncl".into(),
        })?;
        let is = set(&domain, &all, &want.name, &want.kind);
        let line = lines(&domain, &all, &want.name).find(|(_, line)| self.is_ours(line, &want.kind));
        let cname = set(&domain, &all, &want.name, "CNAME");
        if let Some(other) = is.first().filter(|_| line.is_none()).or(cname.first()) {
            return Err(ProviderError::Taken {
                what: format!("the name {} for {}", want.name, want.kind),
                by: format!(
                    "the record {} {} at DigitalOcean, which is not ours",
                    other.kind, other.data
                ),
            });
        }
        let wanted = Marker::of(self.cloud.options.workspace.as_str(), want, None);
        if line.as_ref().is_none_or(|(_, line)| *line != wanted) {
            self.cloud.write_line(&domain, &want.name, &wanted, &all).await?;
        }
        self.cloud.write_set(&domain, want, &values, is).await
    }

    /// Afterwards there is no record of this name and kind, when it was ours; true when it was.
    pub async fn remove_record(&self, domain: &str, name: &str, kind: &str) -> Result<bool, ProviderError> {
        let (domain, name) = (plain(domain), plain(name));
        let Some(all) = self.cloud.domain_records(&domain).await? else {
            return Ok(false);
        };
        let ours: Vec<u64> = lines(&domain, &all, &name)
            .filter(|(_, line)| self.is_ours(line, kind))
            .map(|(record, _)| record.id)
            .collect();
        if ours.is_empty() {
            return Ok(false);
        }
        for number in set(&domain, &all, &name, kind).iter().map(|it| it.id).chain(ours) {
            self.cloud.delete_record(&domain, number).await?;
        }
        Ok(true)
    }

    fn is_ours(&self, line: &Marker, kind: &str) -> bool {
        line.kind == kind && *line.ws == *self.cloud.options.workspace.as_str()
    }

    fn line(&self, kind: &str, domain: &str) -> Marker {
        let record = Record {
            name: domain.to_owned(),
            kind: kind.to_owned(),
            set: None,
            policy: Policy::Simple,
            ttl: None,
            target: Target::Values(Vec::new()),
            check: None,
        };
        Marker::of(self.cloud.options.workspace.as_str(), &record, None)
    }
}

impl Cloud {
    /// None where there is no such domain.
    async fn domain_records(&self, domain: &str) -> Result<Option<Vec<DomainRecord>>, ProviderError> {
        let path = format!("/v2/domains/{}/records", segment(domain));
        match self.list_at(&path, "domain_records", "id", &[]).await {
            Ok(all) => Ok(Some(all)),
            Err(error) if errors::is_absent(&error) => Ok(None),
            Err(error) => Err(errors::denied(error)),
        }
    }

    /// Our line about a name and a kind, in place of the one that was there.
    async fn write_line(
        &self,
        domain: &str,
        name: &str,
        line: &Marker,
        all: &[DomainRecord],
    ) -> Result<(), ProviderError> {
        let said = |old: &Marker| old.ws == line.ws && old.kind == line.kind && old.set == line.set;
        let mut before = lines(domain, all, name).filter(|(_, old)| said(old));
        let text = unquoted(&line.value()).to_owned();
        let body = record_body(&relative(domain, &marker::name_of(name)), "TXT", &text, LINE_TTL);
        self.write(domain, before.next().map(|(record, _)| record.id), &body)
            .await?;
        for (double, _) in before {
            self.delete_record(domain, double.id).await?;
        }
        Ok(())
    }

    /// Values that are there stay; the others take the place of those that are not wanted any more, in one request each, so
    /// that the name is never without an answer.
    async fn write_set(
        &self,
        domain: &str,
        want: &Record,
        values: &[String],
        is: Set<'_>,
    ) -> Result<(), ProviderError> {
        let ttl = want.ttl.unwrap_or(USUAL_TTL);
        let name = relative(domain, &want.name);
        let mut missing: BTreeSet<&str> = values.iter().map(String::as_str).collect();
        let mut stale = Vec::new();
        let mut free = Vec::new();
        for record in is {
            match missing.remove(record.data.as_str()) {
                true if record.ttl == Some(ttl) => {}
                true => stale.push(record),
                // Not wanted, or there twice.
                false => free.push(record),
            }
        }
        let mut free = free.into_iter();
        for value in missing {
            let body = record_body(&name, &want.kind, value, ttl);
            self.write(domain, free.next().map(|it| it.id), &body).await?;
        }
        for record in stale {
            let body = record_body(&name, &want.kind, &record.data, ttl);
            self.write(domain, Some(record.id), &body).await?;
        }
        for record in free {
            self.delete_record(domain, record.id).await?;
        }
        Ok(())
    }

    /// Changes the record of that number, or makes one.
    async fn write(&self, domain: &str, number: Option<u64>, body: &Value) -> Result<(), ProviderError> {
        let path = format!("/v2/domains/{}/records", segment(domain));
        let answer = match number {
            Some(number) => {
                self.send::<Value>(Method::PUT, &format!("{path}/{number}"), Some(body))
                    .await
            }
            None => self.send::<Value>(Method::POST, &path, Some(body)).await,
        };
        answer.map(drop).map_err(|error| failed(error, domain))
    }

    async fn delete_record(&self, domain: &str, number: u64) -> Result<(), ProviderError> {
        let path = format!("/v2/domains/{}/records/{number}", segment(domain));
        self.delete(&path)
            .await
            .map(drop)
            .map_err(|error| failed(error, domain))
    }
}

/// People read it and nobody waits for it.
const LINE_TTL: u64 = 300;

fn record_body(name: &str, kind: &str, data: &str, ttl: u64) -> Value {
    json!({ "type": kind, "name": name, "data": data, "ttl": ttl })
}

/// The values that are written for it.
fn writable(domain: &str, want: &Record) -> Result<Vec<String>, ProviderError> {
    let refuse = |why: String| {
        Err(ProviderError::Refused {
            what: format!("{} {}: {why}", want.name, want.kind),
            help: "keep this domain at Route 53, or write routing = \"failover\" and point it: ha dns point".into(),
        })
    };
    if !within(&want.name, domain) {
        return refuse(format!("it is not in the domain {domain}"));
    }
    if want.policy != Policy::Simple || want.set.is_some() || want.check.is_some() {
        return refuse(format!(
            "DigitalOcean's DNS answers everybody alike, and knows neither {} nor health checks",
            want.policy.word()
        ));
    }
    if !matches!(want.kind.as_str(), "A" | "AAAA" | "TXT") {
        return refuse("only A, AAAA and TXT are written at DigitalOcean".into());
    }
    if want.ttl.is_some_and(|ttl| ttl < LEAST_TTL) {
        return refuse(format!("DigitalOcean takes a TTL of {LEAST_TTL} seconds or more"));
    }
    match &want.target {
        Target::Values(values) if !values.is_empty() => Ok(values.iter().map(|it| unquoted(it).to_owned()).collect()),
        Target::Values(_) => refuse("it has no value".into()),
        Target::Alias { .. } => refuse("an alias leads only to what is at AWS".into()),
    }
}

fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inner.unwrap_or(text)
}

/// `us` of `us.example.com`, `@` of the domain itself.
fn relative(domain: &str, name: &str) -> String {
    let inner = name.strip_suffix(domain).and_then(|it| it.strip_suffix('.'));
    inner.unwrap_or("@").to_owned()
}

fn full(domain: &str, record: &DomainRecord) -> String {
    match record.name.as_str() {
        "@" => domain.to_owned(),
        name => format!("{}.{domain}", plain(name)),
    }
}

fn set<'a>(domain: &str, all: &'a [DomainRecord], name: &str, kind: &str) -> Set<'a> {
    let is = |it: &&DomainRecord| it.kind == kind && full(domain, it) == name;
    all.iter().filter(is).collect()
}

/// The lines about a name, each with the record that it is.
fn lines<'a>(
    domain: &str,
    all: &'a [DomainRecord],
    name: &str,
) -> impl Iterator<Item = (&'a DomainRecord, Marker)> + use<'a> {
    let found = set(domain, all, &marker::name_of(name), "TXT");
    found.into_iter().filter_map(|it| Some((it, Marker::parse(&it.data)?)))
}

/// Values of one name and kind together, sorted; of TXT records with the quotes that other providers give them.
fn sets(domain: &str, all: &[DomainRecord]) -> Vec<Record> {
    let mut found: BTreeMap<(String, &str), Vec<&DomainRecord>> = BTreeMap::new();
    for it in all {
        found.entry((full(domain, it), &it.kind)).or_default().push(it);
    }
    let record = |((name, kind), records): ((String, &str), Vec<&DomainRecord>)| {
        let value = |it: &&DomainRecord| match kind {
            "TXT" => format!("\"{}\"", unquoted(&it.data)),
            _ => it.data.clone(),
        };
        let mut values: Vec<String> = records.iter().map(value).collect();
        values.sort();
        values.dedup();
        Record {
            name,
            kind: kind.to_owned(),
            set: None,
            policy: Policy::Simple,
            ttl: records.iter().filter_map(|it| it.ttl).min(),
            target: Target::Values(values),
            check: None,
        }
    };
    found.into_iter().map(record).collect()
}

/// What a request about a domain came to.
fn failed(error: RestError, domain: &str) -> ProviderError {
    match error.status() {
        Some(401 | 403) => ProviderError::Denied {
            what: format!("write the domain {domain} ({error})"),
        },
        Some(400 | 422) => ProviderError::Refused {
            what: error.to_string(),
            help: "see what is there: ha dns plan".into(),
        },
        _ => error.into_provider(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(name: &str, values: &[&str]) -> Record {
        Record {
            name: name.into(),
            kind: "A".into(),
            set: None,
            policy: Policy::Simple,
            ttl: Some(60),
            target: Target::Values(values.iter().map(|it| (*it).to_owned()).collect()),
            check: None,
        }
    }

    #[test]
    fn names_are_relative_to_their_domain() {
        assert_eq!(relative("example.com", "us.example.com"), "us");
        assert_eq!(relative("example.com", "a.us.example.com"), "a.us");
        assert_eq!(relative("example.com", "example.com"), "@");
    }

    #[test]
    fn what_this_dns_cannot_do_is_said_before_anything_is_asked() {
        let cannot = |change: fn(&mut Record), words: &str| {
            let mut record = want("us.example.com", &["192.0.2.1"]);
            change(&mut record);
            let error = writable("example.com", &record).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
        };
        cannot(|it| it.name = "us.example.org".into(), "not in the domain");
        cannot(|it| it.name = "usexample.com".into(), "not in the domain");
        cannot(|it| it.policy = Policy::Weighted(1), "weighted");
        cannot(|it| it.check = Some("c".into()), "health checks");
        cannot(|it| it.ttl = Some(10), "30 seconds or more");
        cannot(|it| it.kind = "MX".into(), "only A, AAAA and TXT");
        cannot(|it| it.target = Target::Values(Vec::new()), "no value");
    }
}
