//! Every code a finding of `ha check` can carry, in one place. Scripts match on them: they do not change.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &str = $code;)*

        /// Code and meaning, in the order of this file.
        pub const ALL: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    CONFIG_SYNTAX = "ha::config::syntax", "config.toml is not TOML";
    CONFIG_UNKNOWN_KEY = "ha::config::unknown_key", "config.toml has a key that nothing reads";
    CONFIG_TYPE = "ha::config::type", "a value in config.toml is of the wrong type";
    CONFIG_VALUE = "ha::config::value", "a value in config.toml means nothing";
    CONFIG_LITERAL_SECRET = "ha::config::literal_secret", "config.toml holds a secret instead of naming one";
    CONFIG_REGION = "ha::config::region", "region_name contradicts the workspace";

    NO_REGION = "ha::check::no_region", "the workspace declares no region";
    PRIMARY = "ha::check::primary", "there is not exactly one primary region";
    WITNESS_DATA = "ha::check::witness_data", "a witness region holds a database";
    DUPLICATE_NAME = "ha::check::duplicate_name", "two things of one region have the same name";
    UNKNOWN_GROUP = "ha::check::unknown_group", "a server group is named that does not exist in the region";
    OTHER_REGION = "ha::check::other_region", "something is named that lives in another region";
    EMPTY_GROUP = "ha::check::empty_group", "something runs on a group without servers";
    SHARED_GROUP = "ha::check::shared_group", "two databases, or two store members, would run on the same servers";
    AMBIGUOUS_TARGETS = "ha::check::ambiguous_targets", "a balancer does not say which of several groups it spreads over";

    RANGE = "ha::check::range", "a network range is not a range, or not a private one";
    OVERLAP = "ha::check::overlap", "two network ranges share addresses";

    LOCATION = "ha::check::location", "the provider has no location of that name";
    COORDINATES = "ha::check::coordinates", "where on earth a region lies is not known";
    DISTANCE = "ha::check::distance", "two regions are too close to be lost apart";
    LATENCY = "ha::check::latency", "commits wait longer for their nearest copy than the objectives allow";
    RESIDENCY = "ha::check::residency", "data is, or may come to lie, where it must not";

    REPLICATION = "ha::check::replication", "one of two databases cannot copy the other";
    UNKNOWN_DATABASE = "ha::check::unknown_database", "a database is named that does not exist";
    FOUNDER = "ha::check::founder", "the declared primary region holds no node of a database";
    ENGINE = "ha::check::engine", "databases of one cluster differ in engine or major version";
    MANAGED_LOCAL = "ha::check::managed_local", "a managed database is not rehearsed on the local target";

    STORE_MISSING = "ha::check::store_missing", "replicated databases have no agreement store";
    STORE_EVEN = "ha::check::store_even", "an even number of store members tolerates no more than one less";
    STORE_MAJORITY = "ha::check::store_majority", "one region holds so much of the store that nothing can be decided without it";

    DNS_DEFAULT = "ha::check::dns_default", "geographic records leave some users unanswered";
    DNS_REGION = "ha::check::dns_region", "the DNS names a region that does not exist";
    DNS_ZONE = "ha::check::dns_zone", "the hosted zone cannot hold the domain";
    DNS_NAME = "ha::check::dns_name", "two regions would be called the same";
    DNS_TTL = "ha::check::dns_ttl", "answers are kept for longer than a region that is gone can wait";
    DNS_PAIR = "ha::check::dns_pair", "failover between names is between two regions, and there are others";
    DNS_PROBES = "ha::check::dns_probes", "failover between names needs health checks";
    DNS_PLACE = "ha::check::dns_place", "a place of geographic records is unknown, taken twice, or nobody's";
    DNS_PORT = "ha::check::dns_port", "health checks ask a port that nobody listens on";

    LAG_ABOVE_RPO = "ha::check::lag_above_rpo", "a lag limit above the RPO cannot meet it";
    LAG_ORDER = "ha::check::lag_order", "the three lag limits are not in order";
    RTO = "ha::check::rto", "detection, TTL and promotion together take longer than the RTO";
    TIMING = "ha::check::timing", "the regions are further apart than the timing profile allows";
    TIMING_TAKE = "ha::check::timing_take", "a lease may be taken before its holder is surely fenced (C1)";
    TIMING_HOLD = "ha::check::timing_hold", "an election in the store demotes a healthy primary (C2)";
    TIMING_WATCHDOG = "ha::check::timing_watchdog", "the watchdog does not come between the fence and the taker (C3)";
    TIMING_PROBES = "ha::check::timing_probes", "a lease may be taken before the votes are there (C4)";
    TIMING_REPLICATION = "ha::check::timing_replication", "PostgreSQL keeps a dead line for longer than a lease (C5)";
    TIMING_STORE = "ha::check::timing_store", "the store's election timeout is too short for the way between regions (C6)";
    TWO_REGIONS = "ha::check::two_regions", "with two data regions, strict mode stops when one is lost";
    NODE_NAME = "ha::check::node_name", "a database server's name is too long to stream under";
    CANNOT_LEAD = "ha::check::cannot_lead", "no region, or only one, or not the primary, may be made primary";
    WITNESS_STORE = "ha::check::witness_store", "a witness region has no member of the agreement store";
    BUDGET = "ha::check::budget", "what is declared costs more than the objectives allow";
    ONE_COPY = "ha::check::one_copy", "there is no second copy that a commit could wait for";

    PROVIDER_RANGE = "ha::check::provider_range", "the provider takes no network of that range";
    PROVIDER_HEALTH_CHECK = "ha::check::provider_health_check", "the provider's balancers do not check like that";
    PROVIDER_LABEL = "ha::check::provider_label", "a name or a label has what the provider's labels cannot hold";
    PROVIDER_FIREWALL = "ha::check::provider_firewall", "the provider's firewalls cannot have that many";

    OFFER_LOCATION = "ha::offers::location", "the provider has no such location, or not for this account";
    OFFER_SIZE = "ha::offers::size", "the provider does not sell this size there";
    OFFER_IMAGE = "ha::offers::image", "the provider has no such image there";
    OFFER_CAPACITY = "ha::offers::capacity", "the provider has no room there now";
    OFFER_QUOTA = "ha::offers::quota", "the account may not have that many";
    OFFER_CALLS = "ha::offers::calls", "the provider allows fewer requests now than the plan needs";
    OFFER_UNKNOWN = "ha::offers::unknown", "the provider did not say what it has";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_means_one_thing() {
        let mut codes: Vec<&str> = ALL.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
    }
}
