//! A session with a database: TLS always over TCP, a password from a file, and no wait without an end.

use std::{
    error::Error as _,
    fmt, fs,
    future::poll_fn,
    ops::Deref,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls,
    config::{ChannelBinding, SslMode},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;
use crate::DataError;

/// Notices kept for a caller who looks at them; for one who does not, the later ones are dropped.
const NOTICES: usize = 16;

/// Where a database listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address or a name; always TLS.
    Tcp { host: String, port: u16 },
    /// The folder of its unix socket; the port is part of the socket's name.
    Unix { dir: PathBuf, port: u16 },
}

impl Host {
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp {
            host: host.into(),
            port,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { dir, port } => write!(f, "{}/.s.PGSQL.{port}", dir.display()),
        }
    }
}

/// How to reach a database, as whom.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub host: Host,
    pub user: String,
    pub database: String,
    /// Holds the password and nothing else; a line end after it is ignored.
    pub password_file: PathBuf,
    /// The workspace's CA; needed for TCP.
    pub ca: Option<PathBuf>,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// For everything until the first statement can be sent, TLS and password included.
    pub timeout: Duration,
    /// A connection whose other side is silent for this long is given up by the kernel; without it a cut line is
    /// noticed after a quarter of an hour.
    pub silence: Duration,
}

impl ConnectOptions {
    /// Two seconds to connect, five of silence.
    pub fn new(
        host: Host,
        user: impl Into<String>,
        database: impl Into<String>,
        password_file: impl Into<PathBuf>,
    ) -> Self {
        Self {
            host,
            user: user.into(),
            database: database.into(),
            password_file: password_file.into(),
            ca: None,
            application_name: "ha".to_owned(),
            timeout: Duration::from_secs(2),
            silence: Duration::from_secs(5),
        }
    }

    pub fn ca(mut self, ca: impl Into<PathBuf>) -> Self {
        self.ca = Some(ca.into());
        self
    }

    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// What the server said beside its answers. A commit that is *not* replicated although it should be is told so, by
/// a warning with SQLSTATE 01000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `WARNING`, `NOTICE`
    pub severity: String,
    /// SQLSTATE
    pub code: String,
    pub message: String,
}

/// A connected client; dropping it ends the session.
pub struct Session {
    client: Client,
    notices: mpsc::Receiver<Notice>,
    address: String,
    opened: Instant,
}

impl Session {
    /// What the server said since the last look. Everything it said before a statement's answer is in here once
    /// that answer is.
    pub fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }

    /// Since it was opened.
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Where it leads, for messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Puts the place to an error of one of the client's calls.
    pub fn error(&self, error: &tokio_postgres::Error) -> DataError {
        explain(&self.address, error)
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A session that can be used. Within `timeout` it is there or an error is.
pub async fn connect(options: &ConnectOptions) -> Result<Session, DataError> {
    let address = options.host.to_string();
    match tokio::time::timeout(options.timeout, open(options, &address)).await {
        Ok(session) => session,
        Err(_) => Err(DataError::Timeout {
            what: format!("connecting to the database at {address}"),
            after: options.timeout,
        }),
    }
}

async fn open(options: &ConnectOptions, address: &str) -> Result<Session, DataError> {
    let mut config = Config::new();
    config
        .user(&options.user)
        .dbname(&options.database)
        .password(read_password(&options.password_file)?)
        .application_name(&options.application_name)
        .connect_timeout(options.timeout)
        .keepalives_idle(options.silence / 2)
        .keepalives_interval(Duration::from_secs(1))
        .keepalives_retries(2)
        .tcp_user_timeout(options.silence);
    match &options.host {
        Host::Tcp { host, port } => {
            let Some(ca) = &options.ca else {
                return Err(DataError::Unreachable {
                    address: address.to_owned(),
                    reason: "no CA was given, and without one nobody knows who answers".to_owned(),
                });
            };
            config
                .host(host)
                .port(*port)
                .ssl_mode(SslMode::Require)
                .channel_binding(ChannelBinding::Prefer);
            start(&config, MakeRustlsConnect::new(tls::client_config(ca)?), address).await
        }
        Host::Unix { dir, port } => {
            config.host_path(dir).port(*port).ssl_mode(SslMode::Disable);
            start(&config, NoTls, address).await
        }
    }
}

async fn start<T>(config: &Config, tls: T, address: &str) -> Result<Session, DataError>
where
    T: MakeTlsConnect<tokio_postgres::Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await.map_err(|error| explain(address, &error))?;
    let (sender, notices) = mpsc::channel(NOTICES);
    tokio::spawn(drive(connection, sender));
    Ok(Session {
        client,
        notices,
        address: address.to_owned(),
        opened: Instant::now(),
    })
}

/// Moves the session's bytes until it ends. How it ended is told by the calls that were under way.
async fn drive<S, T>(mut connection: Connection<S, T>, notices: mpsc::Sender<Notice>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                // Full means that nobody looks; then nobody misses it.
                let _ = notices.try_send(Notice {
                    severity: notice.severity().to_owned(),
                    code: notice.code().code().to_owned(),
                    message: notice.message().to_owned(),
                });
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a session with the database ended");
                break;
            }
        }
    }
}

pub(super) fn explain(address: &str, error: &tokio_postgres::Error) -> DataError {
    let address = address.to_owned();
    if let Some(answer) = error.as_db_error() {
        return DataError::Refused {
            address,
            reason: answer.message().to_owned(),
            code: answer.code().code().to_owned(),
        };
    }
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !reason.contains(&cause_text) {
            reason = format!("{reason}: {cause_text}");
        }
        source = cause.source();
    }
    if error.is_closed() {
        DataError::SessionLost(reason)
    } else {
        DataError::Unreachable { address, reason }
    }
}

/// The password in a file of mode 0600: everything up to a final line end.
pub(super) fn read_password(path: &Path) -> Result<String, DataError> {
    let text = fs::read_to_string(path).map_err(DataError::file(path))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    if password.is_empty() || password.contains(['\n', '\r', '\0']) {
        return Err(DataError::BadFile {
            path: path.to_owned(),
            reason: "must hold one password and nothing else".to_owned(),
        });
    }
    Ok(password.to_owned())
}
