//! Serving an API on 127.0.0.1: recording, latency, faults, and connections that end without an answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::serve::{IncomingStream, Listener};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::fault::{Fault, Faults};
use crate::wire::{Ask, Reply};

/// One request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// As it was asked for, still percent-encoded, without the query.
    pub path: String,
    pub query: String,
    /// 0 where the connection was closed without an answer.
    pub status: u16,
    /// The body where it was JSON.
    pub body: Option<Value>,
}

/// A provider's API: the world behind it, and how it answers.
pub(crate) trait Api: Send + 'static {
    fn answer(&mut self, ask: Ask) -> Reply;
    /// The provider's own 429.
    fn too_many(&mut self, retry_after: Duration) -> Reply;
}

pub(crate) struct Shared<A> {
    pub(crate) api: Mutex<A>,
    pub(crate) faults: Faults,
    seen: Mutex<Vec<Seen>>,
    latency_us: AtomicU64,
}

/// An API that is being served; it ends when this is dropped.
pub(crate) struct Serving<A> {
    pub(crate) shared: Arc<Shared<A>>,
    pub(crate) address: SocketAddr,
    /// Dropping it ends the accept loop and closes idle connections.
    _stop: oneshot::Sender<()>,
}

impl<A: Api> Serving<A> {
    pub(crate) async fn start(api: A, listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            api: Mutex::new(api),
            faults: Faults::default(),
            seen: Mutex::default(),
            latency_us: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Router::new().fallback(take::<A>).with_state(Arc::clone(&shared));
        let serve = axum::serve(Lines(listener), app.into_make_service_with_connect_info::<Line>())
            .with_graceful_shutdown(async {
                // Ends as well when the sender is dropped, which is the only thing that ever happens to it.
                let _ = stopped.await;
            });
        tokio::spawn(async move { serve.await });
        Ok(Self {
            shared,
            address,
            _stop: stop,
        })
    }

    pub(crate) fn api(&self) -> MutexGuard<'_, A> {
        self.shared.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.shared.latency_us.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget_requests(&self) {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn take<A: Api>(
    State(shared): State<Arc<Shared<A>>>,
    ConnectInfo(line): ConnectInfo<Line>,
    request: Request,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    // Nothing the providers take is larger; what is too large is closed as a broken upload would be.
    let Ok(body) = axum::body::to_bytes(body, 4 << 20).await else {
        return line.cut();
    };
    let method = head.method.as_str().to_owned();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let json = serde_json::from_slice(&body).ok();
    let ask = Ask {
        method: method.clone(),
        path: path.clone(),
        query: serde_urlencoded::from_str(&query).unwrap_or_default(),
        bearer: head
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::to_owned),
        host: head
            .headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
        body,
        open: Vec::new(),
    };

    let latency = Duration::from_micros(shared.latency_us.load(Ordering::Relaxed));
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let fault = shared.faults.take(&method, &path);
    if let Some(Fault::Slow(longer)) = fault {
        tokio::time::sleep(longer).await;
    }
    let (reply, html) = {
        let mut api = shared.api.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            None | Some(Fault::Slow(_)) => (Some(api.answer(ask)), false),
            Some(Fault::LoseAnswer) => {
                api.answer(ask);
                (None, false)
            }
            Some(Fault::Close) => (None, false),
            Some(Fault::TooMany { retry_after }) => (Some(api.too_many(retry_after)), false),
            Some(Fault::Html) => (Some(Reply::empty(200)), true),
            Some(Fault::Status { code, headers, body }) => (
                Some(Reply {
                    status: code,
                    headers,
                    body: Some(body),
                }),
                false,
            ),
        }
    };
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
        method,
        path,
        query,
        status: reply.as_ref().map_or(0, |reply| reply.status),
        body: json,
    });
    match reply {
        None => line.cut(),
        Some(_) if html => page(),
        Some(reply) => answer(reply),
    }
}

fn page() -> Response<Body> {
    let mut response = Response::new(Body::from(
        "<!DOCTYPE html><html><body>Sign in to continue</body></html>",
    ));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

fn answer(reply: Reply) -> Response<Body> {
    let body = reply
        .body
        .map_or_else(Body::empty, |value| Body::from(value.to_string()));
    let has_body = !matches!(axum::body::HttpBody::size_hint(&body).exact(), Some(0));
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if has_body {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (
            header::HeaderName::try_from(name.as_str()),
            HeaderValue::try_from(value.as_str()),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// One connection, and the means to end it.
#[derive(Clone, Debug)]
struct Line(Arc<AtomicBool>);

impl Line {
    /// Nothing is written on this connection any more: the caller sees it closed without an answer.
    fn cut(&self) -> Response<Body> {
        self.0.store(true, Ordering::Release);
        Response::new(Body::empty())
    }
}

impl Connected<IncomingStream<'_, Lines>> for Line {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.remote_addr().clone()
    }
}

struct Lines(TcpListener);

impl Listener for Lines {
    type Io = Wire;
    type Addr = Line;

    async fn accept(&mut self) -> (Wire, Line) {
        loop {
            // An error here is of the one connection, or of too many open files: the next attempt tells.
            if let Ok((stream, _)) = self.0.accept().await {
                let line = Line(Arc::default());
                let wire = Wire {
                    stream,
                    line: line.clone(),
                };
                return (wire, line);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn local_addr(&self) -> io::Result<Line> {
        Ok(Line(Arc::default()))
    }
}

/// A stream that breaks at the next write once its line is cut.
struct Wire {
    stream: TcpStream,
    line: Line,
}

impl Wire {
    fn broken(&self) -> bool {
        self.line.0.load(Ordering::Acquire)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
