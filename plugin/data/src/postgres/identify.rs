//! `IDENTIFY_SYSTEM`: the one way to learn the timeline of the last log that a replica has.
//!
//! It is asked on a replication connection, which tokio-postgres cannot make; so the few messages it takes are sent
//! here, through the socket that only this node's user can reach, or through TLS.

use std::{io, path::Path, time::Duration};

use bytes::BytesMut;
use ha_core::{
    agent::PostgresConfig,
    lsn::{Lsn, Position},
};
use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::{
        backend::{ErrorResponseBody, Message},
        frontend,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::{
    fallible_iterator::FallibleIterator as _,
    tls::{MakeTlsConnect, TlsConnect as _},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    ADMIN_DATABASE, ADMIN_USER,
    connect::{ConnectOptions, Host, read_password},
    names::within,
    tls,
};
use crate::DataError;

/// What a server says of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub system_identifier: String,
    /// Of a primary where it flushed to; of a replica where its replay is, or what it received if that is further on
    /// the same timeline.
    pub position: Position,
}

/// Which cluster the server on this node serves, and how far its log goes, on which timeline.
///
/// `pg_control_checkpoint()` names the timeline of the last restart point instead, many promotions ago perhaps.
pub async fn identify(config: &PostgresConfig, patience: Duration) -> Result<Identity, DataError> {
    let socket = config.socket_dir.join(format!(".s.PGSQL.{}", config.port));
    let address = socket.display().to_string();
    let unreachable = |error: io::Error| unreachable(&address, &error);
    let work = async {
        let stream = UnixStream::connect(&socket).await.map_err(unreachable)?;
        Line::new(stream, &address).ask(&config.admin_password_file).await
    };
    within(patience, &format!("asking {address} for its timeline"), work).await
}

/// The same of a server elsewhere, as the admin, through TLS.
pub(super) async fn identify_at(options: &ConnectOptions, patience: Duration) -> Result<Identity, DataError> {
    let address = options.host.to_string();
    let unreachable = |error: io::Error| unreachable(&address, &error);
    let (Host::Tcp { host, port }, Some(ca)) = (&options.host, &options.ca) else {
        return Err(unreachable(io::Error::other("neither an address nor a CA was given")));
    };
    let tls = tls::client_config(ca)?;
    let work = async {
        let mut stream = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all(&request).await.map_err(unreachable)?;
        if stream.read_u8().await.map_err(unreachable)? != b'S' {
            return Err(unreachable(io::Error::other("it does not speak TLS")));
        }
        let mut tls = MakeRustlsConnect::new(tls);
        let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, host);
        let connect = connect.map_err(|error| unreachable(io::Error::other(error)))?;
        let stream = connect.connect(stream).await.map_err(unreachable)?;
        Line::new(stream, &address).ask(&options.password_file).await
    };
    within(patience, &format!("asking {address} for its timeline"), work).await
}

fn unreachable(address: &str, error: &io::Error) -> DataError {
    DataError::Unreachable {
        address: address.to_owned(),
        reason: error.to_string(),
    }
}

struct Line<S> {
    stream: S,
    buffer: BytesMut,
    address: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    fn new(stream: S, address: &str) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(1024),
            address: address.to_owned(),
        }
    }

    async fn ask(&mut self, password_file: &Path) -> Result<Identity, DataError> {
        self.log_in(&read_password(password_file)?).await?;
        self.identify().await
    }

    async fn send(&mut self, write: impl FnOnce(&mut BytesMut) -> io::Result<()>) -> Result<(), DataError> {
        let mut bytes = BytesMut::new();
        write(&mut bytes).map_err(|error| DataError::Unexpected(error.to_string()))?;
        self.stream.write_all(&bytes).await.map_err(lost)
    }

    /// The next message that matters.
    async fn receive(&mut self) -> Result<Message, DataError> {
        loop {
            match Message::parse(&mut self.buffer).map_err(|error| DataError::Unexpected(error.to_string()))? {
                Some(Message::ErrorResponse(error)) => return Err(self.refused(&error)),
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::BackendKeyData(_)) => {}
                Some(message) => return Ok(message),
                None => {
                    if self.stream.read_buf(&mut self.buffer).await.map_err(lost)? == 0 {
                        return Err(DataError::SessionLost("the server closed it".to_owned()));
                    }
                }
            }
        }
    }

    async fn log_in(&mut self, password: &str) -> Result<(), DataError> {
        let parameters = [
            ("user", ADMIN_USER),
            ("database", ADMIN_DATABASE),
            ("replication", "database"),
            ("application_name", "ha_identify"),
        ];
        self.send(|buffer| frontend::startup_message(parameters, buffer))
            .await?;
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            match self.receive().await? {
                Message::AuthenticationSasl(_) => {
                    self.send(|buffer| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), buffer))
                        .await?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data()).map_err(lost)?;
                    self.send(|buffer| frontend::sasl_response(scram.message(), buffer))
                        .await?;
                }
                // It knows the password as well.
                Message::AuthenticationSaslFinal(body) => scram.finish(body.data()).map_err(lost)?,
                Message::AuthenticationOk => {}
                Message::ReadyForQuery(_) => return Ok(()),
                _ => return Err(DataError::Unexpected("another way to log in than SCRAM".to_owned())),
            }
        }
    }

    async fn identify(&mut self) -> Result<Identity, DataError> {
        self.send(|buffer| frontend::query("IDENTIFY_SYSTEM", buffer)).await?;
        let mut answer = None;
        loop {
            match self.receive().await? {
                Message::DataRow(row) => answer = Some(columns(row.buffer())),
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        self.send(|buffer| {
            frontend::terminate(buffer);
            Ok(())
        })
        .await?;
        let bad = || DataError::Unexpected("an answer to IDENTIFY_SYSTEM that cannot be read".to_owned());
        let answer = answer.flatten().ok_or_else(bad)?;
        let [system_identifier, timeline, lsn, ..] = answer.as_slice() else {
            return Err(bad());
        };
        Ok(Identity {
            system_identifier: system_identifier.clone(),
            position: Position {
                timeline: timeline.parse().map_err(|_| bad())?,
                lsn: lsn.parse::<Lsn>().map_err(|_| bad())?,
            },
        })
    }

    fn refused(&self, error: &ErrorResponseBody) -> DataError {
        let (mut reason, mut code) = (String::new(), String::new());
        let mut fields = error.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'M' => reason = text(),
                b'C' => code = text(),
                _ => {}
            }
        }
        DataError::Refused {
            address: self.address.clone(),
            reason,
            code,
        }
    }
}

fn lost(error: io::Error) -> DataError {
    DataError::SessionLost(error.to_string())
}

/// Each as text; a null is empty.
fn columns(mut row: &[u8]) -> Option<Vec<String>> {
    let mut out = Vec::new();
    while let Some((length, rest)) = row.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let (value, rest) = rest.split_at_checked(length)?;
        out.push(String::from_utf8_lossy(value).into_owned());
        row = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_columns_and_a_broken_one_is_none() {
        let row = [&[0, 0, 0, 1, b'7', 0, 0, 0, 2, b'1', b'3'][..], &[0xFF; 4]].concat();
        assert_eq!(
            columns(&row),
            Some(vec!["7".to_owned(), "13".to_owned(), String::new()])
        );
        assert_eq!(columns(&[0, 0, 0, 9, b'7']), None);
    }
}
