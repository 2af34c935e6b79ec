//! What AWS refused, told apart by what can be done about it.
//!
//! AWS answers most refusals with status 400; the code in the answer is what tells them apart.
//! Sources: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>,
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html>,
//! <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/CommonErrors.html>.

use std::{fmt, time::Duration};

use crate::ProviderError;

/// One request that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// As IAM writes it, so that it can be copied into a policy: `ec2:RunInstances`.
    pub(crate) action: &'static str,
    pub(crate) location: String,
    pub(crate) class: Class,
    /// `RequestLimitExceeded`; empty when no answer came.
    pub(crate) code: String,
    pub(crate) message: String,
    /// From the first attempt to the end of the last.
    pub(crate) took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It is not there; just after a create: not there yet.
    NotFound,
    /// Something that still exists uses it.
    InUse,
    /// A name, a range or a rule that exists already.
    Exists,
    /// It is on its way between two states.
    Busy,
    Throttled,
    Denied,
    /// The key, the signature or the session is not accepted.
    Credential,
    Clock,
    NotEnabled,
    NoCapacity,
    Quota,
    Protected,
    /// The same client token came with other parameters.
    TokenReused,
    /// It cannot have been carried out: nobody was reached.
    Unreached,
    /// Nobody knows whether it was carried out.
    Unknown,
    /// What answers does not speak AWS's language.
    Garbled,
    Refused,
}

/// The class of a code; `status` decides where the code says nothing.
pub(super) fn class_of(code: &str, status: u16) -> Class {
    match code {
        "RequestLimitExceeded"
        | "SlowDown"
        | "PriorRequestNotComplete"
        | "EC2ThrottledException"
        | "TooManyRequestsException"
        | "RequestThrottled"
        | "BandwidthLimitExceeded" => Class::Throttled,
        _ if code.starts_with("Throttl") => Class::Throttled,
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "UnauthorizedAccess" | "Blocked" => {
            Class::Denied
        }
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "InvalidSecurityToken"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "AuthFailure" => Class::Credential,
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Class::Clock,
        "OptInRequired" => Class::NotEnabled,
        "InsufficientInstanceCapacity"
        | "InsufficientCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientDBInstanceCapacity"
        | "Unsupported"
        | "InsufficientVolumeCapacity"
        | "InsufficientAddressCapacity" => Class::NoCapacity,
        // Words that end like a quota and mean a rate were taken out above.
        "PendingVerification" => Class::Quota,
        _ if code.starts_with("TooMany")
            || code.ends_with("LimitExceeded")
            || code.ends_with("QuotaExceeded")
            || code.ends_with("QuotaExceededFault") =>
        {
            Class::Quota
        }
        "DependencyViolation"
        | "ResourceInUse"
        | "VolumeInUse"
        | "InvalidGroup.InUse"
        | "InvalidDBSubnetGroupStateFault" => Class::InUse,
        "IncorrectInstanceState"
        | "IncorrectState"
        | "IncorrectModificationState"
        | "InvalidDBInstanceState"
        | "OperationInProgress" => Class::Busy,
        "OperationNotPermitted" => Class::Protected,
        "IdempotentParameterMismatch" => Class::TokenReused,
        "Gateway.NotAttached" | "ResourceNotFoundException" => Class::NotFound,
        _ if code.ends_with("NotFound") || code.ends_with("NotFoundFault") => Class::NotFound,
        "InvalidGroup.Duplicate"
        | "InvalidPermission.Duplicate"
        | "InvalidKeyPair.Duplicate"
        | "InvalidSubnet.Conflict"
        | "Resource.AlreadyAssociated"
        | "RouteAlreadyExists"
        | "DuplicateLoadBalancerName"
        | "DuplicateTargetGroupName"
        | "DuplicateListener"
        | "DBInstanceAlreadyExists"
        | "DBInstanceAlreadyExistsFault"
        | "DBSubnetGroupAlreadyExists"
        | "DBSubnetGroupAlreadyExistsFault" => Class::Exists,
        _ if status == 429 => Class::Throttled,
        _ if status >= 500 => Class::Unknown,
        _ => Class::Refused,
    }
}

impl Fault {
    pub(crate) fn is(&self, class: Class) -> bool {
        self.class == class
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: ", self.action, self.location)?;
        match (self.message.trim_end_matches('.'), self.code.as_str()) {
            ("", "") => f.write_str("no answer"),
            ("", code) => f.write_str(code),
            (message, "") => f.write_str(message),
            (message, code) => write!(f, "{message} ({code})"),
        }
    }
}

impl From<Fault> for ProviderError {
    fn from(fault: Fault) -> Self {
        let what = fault.to_string();
        let refused = |help: &str| Self::Refused {
            what: what.clone(),
            help: help.to_owned(),
        };
        match fault.class {
            // AWS does not say when; its buckets refill every second, and others draw from them as well.
            Class::Throttled => Self::RateLimited {
                retry_after: Some(Duration::from_secs(5)),
            },
            Class::Denied => Self::Denied {
                what: format!("{} in {}", fault.action, fault.location),
            },
            Class::NoCapacity => Self::NoCapacity { what },
            Class::Unknown => Self::OutcomeUnknown {
                what,
                after: fault.took,
            },
            Class::Credential => refused(
                "check the key that config.toml names: that it exists, is active and belongs to this account; \
                 in a region that the account has not enabled every key is refused like this (AWS console: Account, Regions)",
            ),
            Class::Clock => refused("set this machine's clock (timedatectl set-ntp true) and run it again"),
            Class::NotEnabled => refused(
                "enable the region or the service for the account (AWS console: Account, Regions), or choose another in workspace.ncl",
            ),
            Class::Quota => Self::Quota { what },
            Class::Protected => refused("switch the protection off at AWS first, then run it again"),
            Class::InUse => refused("see what uses it (ha inventory, AWS console), free it, and run it again"),
            Class::Busy => refused("wait until it is done with its change, and run it again"),
            Class::TokenReused => refused("run it again: a request of a minute ago is still being carried out"),
            Class::Unreached | Class::Garbled => Self::Unreachable {
                what,
                help: "check the network, a proxy in between, and the endpoint in config.toml, then run it again"
                    .into(),
            },
            Class::NotFound | Class::Exists | Class::Refused => Self::Other { what },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str, status: u16) -> Fault {
        Fault {
            action: "ec2:RunInstances",
            location: "ap-southeast-1".into(),
            class: class_of(code, status),
            code: code.into(),
            message: "Something about it.".into(),
            took: Duration::from_secs(1),
        }
    }

    #[test]
    fn every_refusal_becomes_the_outcome_that_its_code_stands_for() {
        let table = [
            ("RequestLimitExceeded", 503, "ha::provider::rate_limited"),
            ("Throttling", 400, "ha::provider::rate_limited"),
            ("ThrottlingException", 400, "ha::provider::rate_limited"),
            ("TooManyRequestsException", 429, "ha::provider::rate_limited"),
            ("UnauthorizedOperation", 403, "ha::provider::denied"),
            ("AccessDenied", 403, "ha::provider::denied"),
            ("InsufficientInstanceCapacity", 500, "ha::provider::no_capacity"),
            ("VcpuLimitExceeded", 400, "ha::provider::quota"),
            ("VpcLimitExceeded", 400, "ha::provider::quota"),
            ("RequestExpired", 400, "ha::provider::refused"),
            ("SignatureDoesNotMatch", 403, "ha::provider::refused"),
            ("OptInRequired", 403, "ha::provider::refused"),
            ("AuthFailure", 401, "ha::provider::refused"),
            ("InternalError", 500, "ha::provider::outcome_unknown"),
            ("Unavailable", 503, "ha::provider::outcome_unknown"),
            ("InvalidParameterValue", 400, "ha::provider::failed"),
        ];
        for (code, status, wanted) in table {
            assert_eq!(ProviderError::from(fault(code, status)).code(), wanted, "{code}");
        }
    }

    #[test]
    fn a_quota_is_no_rate_and_is_not_worth_repeating() {
        for code in [
            "VcpuLimitExceeded",
            "VpcLimitExceeded",
            "AddressLimitExceeded",
            "InstanceQuotaExceeded",
        ] {
            assert_eq!(class_of(code, 400), Class::Quota, "{code}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_by_its_ending_whatever_it_is() {
        for code in [
            "InvalidVpcID.NotFound",
            "InvalidInstanceID.NotFound",
            "InvalidGroup.NotFound",
            "LoadBalancerNotFound",
        ] {
            assert_eq!(class_of(code, 400), Class::NotFound, "{code}");
        }
    }

    #[test]
    fn a_missing_right_is_called_by_the_name_that_a_policy_uses() {
        let error = ProviderError::from(fault("UnauthorizedOperation", 403));
        assert_eq!(
            error.to_string(),
            "this credential may not ec2:RunInstances in ap-southeast-1"
        );
    }
}
