//! Bytes over HTTP: one request, one answer, and in which way there was none.

use std::{io, sync::Arc, time::Duration};

use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::{
        legacy::{
            Client,
            connect::{HttpConnector, proxy::Tunnel},
        },
        proxy::matcher::Matcher,
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::Fault;

/// Memory is not given away to whatever answers: a page of fifty servers is a quarter of a megabyte.
const LARGEST_ANSWER: usize = 32 << 20;

type Body = Full<bytes::Bytes>;

/// A pool of connections to one host.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Direct(Client<HttpsConnector<HttpConnector>, Body>),
    /// Through the proxy that `HTTPS_PROXY` names.
    Proxied(Client<HttpsConnector<Tunnel<HttpConnector>>, Body>),
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: bytes::Bytes,
}

impl Transport {
    /// # Errors
    ///
    /// The system's certificates cannot be read, and `base` needs them.
    pub(super) fn new(base: &Uri, connect_timeout: Duration) -> io::Result<Self> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let secure = base.scheme_str() == Some("https");
        // Reading them takes milliseconds, and plain HTTP has no use for them.
        let tls = if secure {
            tls.with_native_roots()?
        } else {
            tls.with_root_certificates(RootCertStore::empty())
        };
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls.with_no_client_auth())
            .https_or_http()
            .enable_all_versions();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let proxy = Matcher::from_env().intercept(base).filter(|_| secure);
        let mut pool = Client::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new());
        pool.pool_idle_timeout(Duration::from_secs(30));
        Ok(match proxy {
            None => Self::Direct(pool.build(builder.wrap_connector(tcp))),
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                Self::Proxied(pool.build(builder.wrap_connector(tunnel)))
            }
        })
    }

    /// One request to its end, the body of the answer included. Dropping it closes what is under way.
    pub(super) async fn exchange(&self, request: Request<Body>, timeout: Duration) -> Result<Answer, Fault> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let work = async {
            let sent = match self {
                Self::Direct(client) => client.request(request).await,
                Self::Proxied(client) => client.request(request).await,
            };
            let (parts, body) = sent
                .map_err(|error| no_answer(&error, error.is_connect(), host))?
                .into_parts();
            let body = Limited::new(body, LARGEST_ANSWER)
                .collect()
                .await
                .map_err(|error| cut_short(error.as_ref()))?
                .to_bytes();
            Ok(Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::NoAnswer { after: timeout }),
        }
    }
}

fn cut_short(error: &(dyn std::error::Error + 'static)) -> Fault {
    if error.is::<LengthLimitError>() {
        return Fault::Shape {
            why: format!("longer than {LARGEST_ANSWER} bytes"),
        };
    }
    Fault::Broken { why: causes(error) }
}

fn no_answer(error: &(dyn std::error::Error + 'static), connecting: bool, host: String) -> Fault {
    let mut cause = Some(error);
    while let Some(now) = cause {
        if let Some(tls) = tls_error(now) {
            return match tls {
                rustls::Error::InvalidCertificate(why) => Fault::Certificate {
                    host,
                    why: why.to_string(),
                },
                other => Fault::Unreachable {
                    host,
                    why: other.to_string(),
                },
            };
        }
        let io = now.downcast_ref::<io::Error>();
        if connecting && io.is_some_and(|it| it.kind() == io::ErrorKind::ConnectionRefused) {
            return Fault::ConnectionRefused { host };
        }
        cause = now.source();
    }
    let why = causes(error);
    if connecting {
        Fault::Unreachable { host, why }
    } else {
        Fault::Broken { why }
    }
}

/// The error of the TLS stack in `error` or in what it wraps: an I/O error does not name its content as its source.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

/// The last cause says what happened; those above it only that something did.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
