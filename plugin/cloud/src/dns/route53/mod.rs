//! AWS Route 53.
//!
//! Absent on purpose: UPSERT (it overwrites what nobody looked at), the SDK's own retries, and a record of what was made;
//! [`ha_core::dns`] says how what is ours is known.

mod acts;
mod lists;
mod shape;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ha_core::{
    dns::{Act, Check, Seen},
    names::WorkspaceName,
};
use tokio::sync::Semaphore;

use super::{Asked, Dns, Done, Names, pace::Pace};
use crate::{
    ProviderError,
    aws::{
        Credentials,
        call::{Caller, Repeat},
        fault::Fault,
        place,
    },
    limits::Ledger,
};

/// Where requests are signed for. Route 53 is one for all of AWS's regions.
/// Source: <https://docs.aws.amazon.com/general/latest/gr/r53.html>.
const LOCATION: &str = "us-east-1";

/// In place of a location, in what is said of a request.
const EVERYWHERE: &str = "all regions";

/// What one account may ask, shared by everything in this process that asks.
///
/// AWS lets an account send 50 requests at once and ten a second, and it is ours to share with consoles and other tools;
/// until lately it was five a second. The state of a check has a bucket of its own: four at once, one a second.
/// Source: <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/throttling-api-requests.html>.
#[derive(Debug)]
pub struct Paces {
    pub all: Pace,
    pub states: Pace,
}

impl Default for Paces {
    fn default() -> Self {
        Self {
            all: Pace::new(5, 5),
            states: Pace::new(4, 1),
        }
    }
}

/// How it is opened.
#[derive(Clone, Debug)]
pub struct Options {
    pub workspace: WorkspaceName,
    pub credentials: Credentials,
    /// In place of AWS's own endpoint: `http://127.0.0.1:5000`.
    pub endpoint: Option<String>,
    /// How long a change may take to reach all servers, and how long a zone may be busy with somebody else's.
    pub deadline: Duration,
    /// Between the first two looks at something under way; each further one comes later, up to five seconds.
    pub pause: Duration,
    pub ledger: Arc<Ledger>,
    /// The same for everybody who uses the account.
    pub paces: Arc<Paces>,
}

impl Options {
    /// Ten minutes for a change, which takes about one.
    pub fn new(workspace: WorkspaceName, credentials: Credentials) -> Self {
        Self {
            workspace,
            credentials,
            endpoint: None,
            deadline: Duration::from_secs(10 * 60),
            pause: Duration::from_millis(500),
            ledger: Arc::new(Ledger::new("aws")),
            paces: Arc::default(),
        }
    }
}

/// The account behind a credential, as one workspace sees it. Opening it asks nobody.
#[derive(Clone, Debug)]
pub struct Route53 {
    ws: WorkspaceName,
    client: aws_sdk_route53::Client,
    caller: Caller,
    paces: Arc<Paces>,
}

impl Route53 {
    pub fn open(options: &Options) -> Self {
        let location = LOCATION.to_owned();
        let http = place::http();
        Self {
            ws: options.workspace.clone(),
            client: place::client!(aws_sdk_route53, options, location, http),
            caller: Caller {
                location: EVERYWHERE.to_owned(),
                gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
                ledger: Arc::clone(&options.ledger),
                deadline: options.deadline,
                pause: options.pause,
            },
            paces: Arc::clone(&options.paces),
        }
    }

    /// As [`Caller::call`], and not too often.
    async fn call<T, E, F>(&self, action: &'static str, repeat: Repeat, send: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, acts::SdkError<E>>>,
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
    {
        let paced = || async {
            self.paces.all.pass().await;
            send().await
        };
        self.caller.call(action, repeat, paced).await
    }
}

#[async_trait]
impl Dns for Route53 {
    async fn observe(&self, names: Option<&Names>) -> Result<Seen, ProviderError> {
        self.look(names).await
    }

    async fn perform(&self, act: &Act) -> Result<Done, ProviderError> {
        self.act(act).await
    }

    async fn in_sync(&self, change: &str) -> Result<(), ProviderError> {
        self.spread(change).await
    }

    async fn ask(&self, check: &Check) -> Result<Asked, ProviderError> {
        self.state(check).await
    }
}
