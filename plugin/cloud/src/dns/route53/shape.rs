//! Records and health checks, in Route 53's words and in ours.

use aws_sdk_route53::{
    error::BuildError,
    types::{self as sdk, builders::ResourceRecordSetBuilder},
};
use ha_core::dns::{
    Check, CheckSpec, Policy, Record, Target, Turn,
    place::{Continent, Place},
    plain,
};

/// As it was listed.
pub(super) fn record(set: &sdk::ResourceRecordSet) -> Record {
    let target = match set.alias_target() {
        Some(alias) => Target::Alias {
            zone: alias.hosted_zone_id().to_owned(),
            name: plain(alias.dns_name()),
            evaluate: alias.evaluate_target_health(),
        },
        None => {
            let mut values: Vec<String> = set.resource_records().iter().map(|it| it.value().to_owned()).collect();
            values.sort();
            Target::Values(values)
        }
    };
    Record {
        name: plain(&unescaped(set.name())),
        kind: set.r#type().as_str().to_owned(),
        set: set.set_identifier().map(str::to_owned),
        policy: policy(set),
        ttl: set.ttl().and_then(|it| u64::try_from(it).ok()),
        target,
        check: set.health_check_id().map(str::to_owned),
    }
}

fn policy(set: &sdk::ResourceRecordSet) -> Policy {
    let other = |word: &str| Policy::Other(word.to_owned());
    if let Some(place) = set.geo_location() {
        return self::place(place).map_or_else(|| other("geolocation"), Policy::Geolocation);
    }
    match (set.failover(), set.weight(), set.region()) {
        (Some(sdk::ResourceRecordSetFailover::Primary), ..) => return Policy::Failover(Turn::Primary),
        (Some(sdk::ResourceRecordSetFailover::Secondary), ..) => return Policy::Failover(Turn::Secondary),
        (_, Some(weight), _) => return u64::try_from(weight).map_or_else(|_| other("weighted"), Policy::Weighted),
        (.., Some(region)) => return Policy::Latency(region.as_str().to_owned()),
        _ => {}
    }
    if set.cidr_routing_config().is_some() {
        other("cidr")
    } else if set.geo_proximity_location().is_some() {
        other("geoproximity")
    } else if set.traffic_policy_instance_id().is_some() {
        other("traffic policy")
    } else if set.set_identifier().is_some() {
        other("multivalue")
    } else {
        Policy::Simple
    }
}

fn place(place: &sdk::GeoLocation) -> Option<Place> {
    match (place.continent_code(), place.country_code(), place.subdivision_code()) {
        (Some(continent), ..) => Continent::of_code(continent).map(Place::Continent),
        (None, Some("*"), _) => Some(Place::Default),
        (None, Some(country), Some(part)) => Some(Place::Part(country.to_owned(), part.to_owned())),
        (None, Some(country), None) => Some(Place::Country(country.to_owned())),
        (None, None, _) => None,
    }
}

/// As a change names it: exactly as it is, or is to be.
pub(super) fn set(record: &Record) -> Result<sdk::ResourceRecordSet, BuildError> {
    let set = sdk::ResourceRecordSet::builder()
        .name(&record.name)
        .r#type(record.kind.as_str().into())
        .set_set_identifier(record.set.clone())
        .set_ttl(record.ttl.and_then(|it| i64::try_from(it).ok()))
        .set_health_check_id(record.check.clone());
    let set = match &record.target {
        Target::Values(values) => {
            let values = values.iter().map(|it| sdk::ResourceRecord::builder().value(it).build());
            set.set_resource_records(Some(values.collect::<Result<_, _>>()?))
        }
        Target::Alias { zone, name, evaluate } => {
            let alias = sdk::AliasTarget::builder()
                .hosted_zone_id(zone)
                .dns_name(name)
                .evaluate_target_health(*evaluate);
            set.alias_target(alias.build()?)
        }
    };
    by_policy(set, &record.policy).build()
}

fn by_policy(set: ResourceRecordSetBuilder, policy: &Policy) -> ResourceRecordSetBuilder {
    let geo = sdk::GeoLocation::builder;
    match policy {
        // What others made is never written.
        Policy::Simple | Policy::Other(_) => set,
        Policy::Weighted(weight) => set.set_weight(i64::try_from(*weight).ok()),
        Policy::Latency(region) => set.region(region.as_str().into()),
        Policy::Failover(Turn::Primary) => set.failover(sdk::ResourceRecordSetFailover::Primary),
        Policy::Failover(Turn::Secondary) => set.failover(sdk::ResourceRecordSetFailover::Secondary),
        Policy::Geolocation(place) => set.geo_location(match place {
            Place::Default => geo().country_code("*").build(),
            Place::Continent(continent) => geo().continent_code(continent.code()).build(),
            Place::Country(country) => geo().country_code(country).build(),
            Place::Part(country, part) => geo().country_code(country).subdivision_code(part).build(),
        }),
    }
}

/// Route 53 writes `*` and whatever is no letter, digit, dash, dot or underscore as three octal digits.
/// Source: <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html>.
fn unescaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// As it was listed, without its tags, which are told elsewhere.
pub(super) fn check(check: &sdk::HealthCheck) -> Check {
    Check {
        id: check.id().to_owned(),
        reference: check.caller_reference().to_owned(),
        version: check.health_check_version(),
        spec: check.health_check_config().map_or_else(nothing, spec),
        tags: std::collections::BTreeMap::new(),
    }
}

fn spec(config: &sdk::HealthCheckConfig) -> CheckSpec {
    let number = |it: Option<i32>| it.and_then(|it| u32::try_from(it).ok());
    let text = |it: Option<&str>| it.filter(|it| !it.is_empty()).map(str::to_owned);
    let protocol = config.r#type().as_str();
    // What it is when it is not said.
    let usual_port = if protocol.starts_with("HTTPS") { 443 } else { 80 };
    CheckSpec {
        protocol: protocol.to_owned(),
        ip: config.ip_address().and_then(|it| it.parse().ok()),
        host: text(config.fully_qualified_domain_name()).map(|it| plain(&it)),
        port: config
            .port()
            .and_then(|it| u16::try_from(it).ok())
            .unwrap_or(usual_port),
        path: text(config.resource_path()),
        interval: u64::from(number(config.request_interval()).unwrap_or(30)),
        failures: number(config.failure_threshold()).unwrap_or(3),
        sni: config.enable_sni().unwrap_or(false),
        disabled: config.disabled().unwrap_or(false),
        inverted: config.inverted().unwrap_or(false),
    }
}

/// One that Route 53 says nothing about: it can become nothing that is wanted.
fn nothing() -> CheckSpec {
    CheckSpec {
        protocol: String::new(),
        ip: None,
        host: None,
        port: 0,
        path: None,
        interval: 0,
        failures: 0,
        sni: false,
        disabled: false,
        inverted: false,
    }
}

pub(super) fn config(spec: &CheckSpec) -> Result<sdk::HealthCheckConfig, BuildError> {
    let number = |it: u64| i32::try_from(it).ok();
    sdk::HealthCheckConfig::builder()
        .r#type(spec.protocol.as_str().into())
        .set_ip_address(spec.ip.map(|it| it.to_string()))
        .set_fully_qualified_domain_name(spec.host.clone())
        .port(i32::from(spec.port))
        .set_resource_path(spec.path.clone())
        .set_request_interval(number(spec.interval))
        .set_failure_threshold(number(spec.failures.into()))
        .enable_sni(spec.sni)
        .disabled(spec.disabled)
        .inverted(spec.inverted)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(record_: &Record) {
        let set = set(record_).expect("it is complete");
        assert_eq!(record(&set), *record_);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let policies = [
            Policy::Geolocation(Place::Default),
            Policy::Geolocation(Place::Continent(Continent::NorthAmerica)),
            Policy::Geolocation(Place::Country("IE".into())),
            Policy::Geolocation(Place::Part("US".into(), "VA".into())),
            Policy::Failover(Turn::Primary),
            Policy::Failover(Turn::Secondary),
            Policy::Weighted(3),
            Policy::Latency("ap-southeast-1".into()),
        ];
        for policy in policies {
            same(&Record {
                name: "api.example.com".into(),
                kind: "A".into(),
                set: Some("us-east".into()),
                policy,
                ttl: Some(60),
                target: Target::Values(vec!["192.0.2.1".into()]),
                check: Some("c-1".into()),
            });
        }
        same(&Record {
            name: "asia.api.example.com".into(),
            kind: "A".into(),
            set: None,
            policy: Policy::Simple,
            ttl: None,
            target: Target::Alias {
                zone: "Z1LMS91P8CMLE5".into(),
                name: "asia-lb-1.ap-southeast-1.elb.amazonaws.com".into(),
                evaluate: false,
            },
            check: None,
        });
    }

    #[test]
    fn a_policy_that_nothing_here_writes_is_somebody_else_s() {
        let set = sdk::ResourceRecordSet::builder()
            .name("API.Example.com.")
            .r#type(sdk::RrType::A)
            .set_identifier("one")
            .multi_value_answer(true)
            .build()
            .expect("it is complete");
        let record = record(&set);
        assert_eq!(record.policy, Policy::Other("multivalue".into()));
        assert_eq!(record.name, "api.example.com");
    }

    #[test]
    fn names_are_read_without_their_escapes() {
        assert_eq!(unescaped("\\052.example.com."), "*.example.com.");
        assert_eq!(unescaped("a\\b"), "a\\b");
    }

    #[test]
    fn a_check_is_read_as_it_was_asked_for() {
        let wanted = CheckSpec {
            protocol: "HTTPS".into(),
            ip: Some([192, 0, 2, 1].into()),
            host: Some("api.example.com".into()),
            port: 443,
            path: Some("/health".into()),
            interval: 30,
            failures: 3,
            sni: true,
            disabled: false,
            inverted: false,
        };
        assert_eq!(spec(&config(&wanted).expect("it is complete")), wanted);
    }
}
