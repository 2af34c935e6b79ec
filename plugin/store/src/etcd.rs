//! etcd v3 as the agreement store.

use std::{
    collections::VecDeque,
    error::Error as _,
    fmt, fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, EventType, GetOptions, Identity, KeyValue,
    PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};

use crate::{Change, Entry, Listing, Presence, Revision, Store, StoreError, Swap, Watch, Write};

/// etcd refuses pings that come more often than every five seconds.
const PING: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the store is, and who asks.
#[derive(Clone, Debug)]
pub struct Options {
    /// `https://address:2379`; tried in this order, so the own region's member comes first.
    pub endpoints: Vec<String>,
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// For one call to one member, a new connection included.
    pub timeout: Duration,
}

impl Options {
    /// Two seconds for each call.
    pub fn new(
        endpoints: Vec<String>,
        ca: impl Into<PathBuf>,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        Self {
            endpoints,
            ca: ca.into(),
            cert: cert.into(),
            key: key.into(),
            timeout: Duration::from_secs(2),
        }
    }

    /// For one call to one member.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// A client of one etcd cluster. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<[Endpoint]>,
    /// The member that answered last; asked first.
    preferred: Arc<AtomicUsize>,
    pub(crate) timeout: Duration,
}

struct Endpoint {
    url: String,
    client: Client,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("endpoints", &self.endpoints())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Why a call to one member gave no result, and whether the member can have seen it.
pub(crate) enum Miss {
    /// The connection never came up.
    NotSent(String),
    /// It may have been seen, and carried out.
    Lost(String),
    /// The member answered no.
    Refused(String),
}

impl Etcd {
    /// A client that connects when it is first used. Fails only on files and addresses that cannot be right.
    pub async fn new(options: &Options) -> Result<Self, StoreError> {
        if options.endpoints.is_empty() {
            return Err(StoreError::Options("no endpoint was given".to_owned()));
        }
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(&options.ca)?))
            .identity(Identity::from_pem(read(&options.cert)?, read(&options.key)?));
        let connect = ConnectOptions::new()
            .with_tls(tls)
            .with_connect_timeout(options.timeout)
            .with_keep_alive(PING, PING_TIMEOUT)
            .with_keep_alive_while_idle(false);
        let mut members = Vec::with_capacity(options.endpoints.len());
        for url in &options.endpoints {
            // One client for each member: the crate's own balancing picks at random, dead members included.
            let client = Client::connect([url], Some(connect.clone()))
                .await
                .map_err(|error| StoreError::Options(format!("{url}: {error}")))?;
            members.push(Endpoint {
                url: url.clone(),
                client,
            });
        }
        Ok(Self {
            members: members.into(),
            preferred: Arc::default(),
            timeout: options.timeout,
        })
    }

    /// As they were given.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.url.clone()).collect()
    }

    /// The members with the preferred one first.
    fn in_order(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let first = self.preferred.load(Ordering::Relaxed) % self.members.len();
        let order = (first..self.members.len()).chain(0..first);
        order.filter_map(|index| self.members.get(index).map(|member| (index, member)))
    }

    /// The client of one member; `None` for an address that is not among the endpoints.
    pub(crate) fn member(&self, url: &str) -> Option<(&str, Client)> {
        self.members
            .iter()
            .find(|member| member.url == url)
            .map(|member| (member.url.as_str(), member.client.clone()))
    }

    /// One call to one member, ended by the timeout.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Miss> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(classify(error)),
            Err(_) => Err(Miss::Lost("timed out".to_owned())),
        }
    }

    /// Asks one member after the other until one answers. Only for what changes nothing.
    pub(crate) async fn read<T, F, C>(&self, call: C) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
        C: Fn(Client) -> F,
    {
        let mut reached = None;
        let mut reasons = Vec::new();
        for (index, member) in self.in_order() {
            match self.call(call(member.client.clone())).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Miss::Refused(reason)) => {
                    return Err(StoreError::Refused {
                        endpoint: member.url.clone(),
                        reason,
                    });
                }
                Err(Miss::NotSent(reason)) => reasons.push(format!("{}: {reason}", member.url)),
                Err(Miss::Lost(reason)) => reached = Some((member.url.clone(), reason)),
            }
        }
        Err(match reached {
            Some((endpoint, reason)) => StoreError::NoAnswer {
                endpoint,
                timeout: self.timeout,
                reason,
            },
            None => StoreError::Unreachable {
                endpoints: self.endpoints(),
                reason: reasons.join("; "),
            },
        })
    }

    /// Asks the first member that can be reached, and no second one once it may have seen the request.
    pub(crate) async fn write<T, F, C>(&self, what: &str, call: C) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
        C: Fn(Client) -> F,
    {
        let mut reasons = Vec::new();
        for (index, member) in self.in_order() {
            let endpoint = member.url.clone();
            match self.call(call(member.client.clone())).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Miss::NotSent(reason)) => reasons.push(format!("{endpoint}: {reason}")),
                Err(Miss::Refused(reason)) => return Err(StoreError::Refused { endpoint, reason }),
                Err(Miss::Lost(reason)) => {
                    // Whoever asks next, to learn what came of it, had better ask another member.
                    self.preferred.store(index + 1, Ordering::Relaxed);
                    let key = what.to_owned();
                    return Err(StoreError::OutcomeUnknown { endpoint, key, reason });
                }
            }
        }
        Err(StoreError::Unreachable {
            endpoints: self.endpoints(),
            reason: reasons.join("; "),
        })
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        // Without options a read is linearizable: it needs a majority.
        let answer = self
            .read(|mut client| async move { client.get(key, None).await })
            .await?;
        Ok(answer.kvs().first().map(entry))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let answer = self
            .read(|mut client| async move { client.get(prefix, Some(GetOptions::new().with_prefix())).await })
            .await?;
        let header = answer.header();
        let mut entries = Vec::with_capacity(answer.kvs().len());
        for kv in answer.kvs() {
            entries.push((key(kv)?, entry(kv)));
        }
        Ok(Listing {
            entries,
            revision: Revision(header.map_or(0, |header| header.revision())),
            cluster: header.map_or_else(String::new, |header| format!("{:x}", header.cluster_id())),
        })
    }

    async fn compare_and_swap(&self, write: Write<'_>) -> Result<Swap, StoreError> {
        let own = (write.key, write.expected);
        let compares = std::iter::once(&own).chain(write.unchanged);
        let options = write
            .presence
            .map(|it| Ok::<_, StoreError>(PutOptions::new().with_lease(lease_id(it)?)))
            .transpose()?;
        let put = TxnOp::put(write.key, write.value, options);
        self.swap(write.key, compares, put).await
    }

    async fn remove(&self, key: &str, expected: Revision) -> Result<Swap, StoreError> {
        let own = (key, expected);
        self.swap(key, std::iter::once(&own), TxnOp::delete(key, None)).await
    }

    async fn watch(&self, key: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let mut pending = VecDeque::new();
        let mut from = after.0 + 1;
        if after == Revision::ABSENT {
            // History from the very first revision may have been compacted away. What counts is what is there now.
            let answer = self
                .read(|mut client| async move { client.get(key, None).await })
                .await?;
            pending.extend(answer.kvs().first().map(|kv| Change {
                key: key.to_owned(),
                revision: Revision(kv.mod_revision()),
                entry: Some(entry(kv)),
            }));
            from = answer.header().map_or(1, |header| header.revision() + 1);
        }
        self.begin_watch(key, WatchOptions::new().with_start_revision(from), pending)
            .await
    }

    async fn watch_prefix(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let options = WatchOptions::new().with_prefix().with_start_revision(after.0 + 1);
        self.begin_watch(prefix, options, VecDeque::new()).await
    }

    async fn presence(&self, time: Duration) -> Result<Presence, StoreError> {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1);
        let answer = self
            .write("a new etcd lease", |mut client| async move {
                client.lease_grant(seconds, None).await
            })
            .await?;
        Ok(Presence(format!("{:x}", answer.id())))
    }

    async fn keep_alive(&self, presence: &Presence) -> Result<bool, StoreError> {
        let id = lease_id(presence)?;
        let kept = self
            .read(|mut client| async move {
                match client.lease_keep_alive(id).await {
                    Ok(_) => Ok(true),
                    Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await?;
        Ok(kept)
    }
}

impl Etcd {
    /// `then` is carried out if all of `compares` hold. One transaction.
    async fn swap<'a>(
        &self,
        key: &str,
        compares: impl Iterator<Item = &'a (&'a str, Revision)>,
        then: TxnOp,
    ) -> Result<Swap, StoreError> {
        let compares: Vec<Compare> = compares
            .map(|(key, revision)| Compare::mod_revision(*key, CompareOp::Equal, revision.0))
            .collect();
        let txn = Txn::new()
            .when(compares)
            .and_then([then])
            .or_else([TxnOp::get(key, None)]);
        let answer = self
            .write(key, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        if answer.succeeded() {
            let revision = answer.header().map_or(0, |header| header.revision());
            return Ok(Swap::Done(Revision(revision)));
        }
        let current = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().map(entry),
            _ => None,
        });
        Ok(Swap::Changed(current))
    }

    async fn begin_watch(
        &self,
        what: &str,
        options: WatchOptions,
        pending: VecDeque<Change>,
    ) -> Result<Box<dyn Watch>, StoreError> {
        let stream = self
            .read(|mut client| {
                let options = options.clone();
                async move { client.watch(what, Some(options)).await }
            })
            .await?;
        Ok(Box::new(EtcdWatch {
            what: what.to_owned(),
            stream,
            pending,
        }))
    }
}

struct EtcdWatch {
    /// A key, or a prefix.
    what: String,
    stream: WatchStream,
    pending: VecDeque<Change>,
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Change, StoreError> {
        let ended = |reason: String| StoreError::WatchEnded {
            key: self.what.clone(),
            reason,
        };
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            let message = match self.stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(ended("the member closed it".to_owned())),
                Err(error) => return Err(ended(reason(&error))),
            };
            if message.canceled() {
                return Err(ended(match message.compact_revision() {
                    0 => message.cancel_reason().to_owned(),
                    oldest => format!("the store only remembers changes from revision {oldest} on"),
                }));
            }
            for event in message.events() {
                let Some(kv) = event.kv() else { continue };
                self.pending.push_back(Change {
                    key: key(kv)?,
                    revision: Revision(kv.mod_revision()),
                    entry: (event.event_type() == EventType::Put).then(|| entry(kv)),
                });
            }
        }
    }
}

fn entry(kv: &KeyValue) -> Entry {
    Entry {
        value: kv.value().to_vec(),
        revision: Revision(kv.mod_revision()),
    }
}

fn key(kv: &KeyValue) -> Result<String, StoreError> {
    kv.key_str().map(str::to_owned).map_err(|error| StoreError::Malformed {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        reason: format!("its name: {error}"),
    })
}

fn lease_id(presence: &Presence) -> Result<i64, StoreError> {
    i64::from_str_radix(&presence.0, 16)
        .map_err(|error| StoreError::Options(format!("`{}` is no etcd lease: {error}", presence.0)))
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|error| StoreError::Options(format!("{}: {error}", path.display())))
}

fn classify(error: Error) -> Miss {
    let text = reason(&error);
    let Error::GRpcStatus(status) = &error else {
        return Miss::Lost(text);
    };
    if never_connected(status) {
        return Miss::NotSent(text);
    }
    // gRPC's codes by number. Those below mean that the request was understood and not carried out:
    // InvalidArgument, NotFound, AlreadyExists, PermissionDenied, ResourceExhausted (the database is full),
    // FailedPrecondition, OutOfRange, Unimplemented, Unauthenticated. All others leave it open.
    match status.code() as i32 {
        3 | 5 | 6 | 7 | 8 | 9 | 11 | 12 | 16 => Miss::Refused(status.message().to_owned()),
        _ => Miss::Lost(text),
    }
}

/// True only when it is certain: the request cannot have left this machine.
fn never_connected(status: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(
                io.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            );
        }
        cause = error.source();
    }
    false
}

fn reason(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else {
        return error.to_string();
    };
    // The status of a failed connection says "transport error"; why is in its causes.
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
