//! One AWS region: its clients, made once, and the way requests go there.

use std::{ops::Deref, sync::Arc, time::Duration};

use aws_credential_types::Credentials;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use ha_core::names::WorkspaceName;
use tokio::sync::Semaphore;

use super::{
    call::Caller,
    options::{self, Options},
};

/// Longer than AWS takes for any answer that it gives at all.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) workspace: WorkspaceName,
    pub(super) ec2: aws_sdk_ec2::Client,
    pub(super) elb: aws_sdk_elasticloadbalancingv2::Client,
    pub(super) rds: aws_sdk_rds::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) acm: aws_sdk_acm::Client,
    pub(super) ssm: aws_sdk_ssm::Client,
    pub(super) route53: aws_sdk_route53::Client,
    caller: Caller,
}

/// A place is what sends its requests.
impl Deref for Place {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

/// One place for each location of the options.
pub(super) fn open(options: &Options) -> Vec<Arc<Place>> {
    let http = http();
    let gate = Arc::new(Semaphore::new(options.concurrency.max(1)));
    let mut locations = options.locations.clone();
    locations.sort();
    locations.dedup();
    locations
        .into_iter()
        .map(|location| Arc::new(Place::new(options, location, &http, &gate)))
        .collect()
}

pub(crate) fn http() -> SharedHttpClient {
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// The same settings for the client of each service; their types have nothing in common but the names.
macro_rules! client {
    ($sdk:ident, $options:ident, $location:ident, $http:ident) => {{
        let mut config = $sdk::config::Builder::new()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .region($sdk::config::Region::new($location.clone()))
            .credentials_provider($crate::aws::place::credentials(&$options.credentials))
            .http_client($http.clone())
            // Repeated by `Caller`, which knows what may be repeated.
            .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
            .timeout_config(
                aws_smithy_types::timeout::TimeoutConfig::builder()
                    .connect_timeout($crate::aws::place::CONNECT_WITHIN)
                    .operation_timeout($crate::aws::place::ANSWER_WITHIN)
                    .build(),
            );
        config.set_endpoint_url($options.endpoint.clone());
        $sdk::Client::from_conf(config.build())
    }};
}
pub(crate) use client;

impl Place {
    fn new(options: &Options, location: String, http: &SharedHttpClient, gate: &Arc<Semaphore>) -> Self {
        Self {
            workspace: options.workspace.clone(),
            ec2: client!(aws_sdk_ec2, options, location, http),
            elb: client!(aws_sdk_elasticloadbalancingv2, options, location, http),
            rds: client!(aws_sdk_rds, options, location, http),
            sts: client!(aws_sdk_sts, options, location, http),
            acm: client!(aws_sdk_acm, options, location, http),
            ssm: client!(aws_sdk_ssm, options, location, http),
            route53: client!(aws_sdk_route53, options, location, http),
            caller: Caller {
                location,
                gate: Arc::clone(gate),
                ledger: Arc::clone(&options.ledger),
                deadline: options.deadline,
                pause: options.pause,
            },
        }
    }
}

pub(crate) fn credentials(given: &options::Credentials) -> Credentials {
    Credentials::new(
        given.access_key_id.clone(),
        given.secret_access_key.expose(),
        given.session_token.as_ref().map(|token| token.expose().to_owned()),
        None,
        "config.toml",
    )
}
