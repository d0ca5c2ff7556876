//! A replication connection: logs in, asks the few commands that backups need, streams WAL.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::position::Lsn;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{ErrorResponseBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Address, PostgresConfig};
use crate::connect::{CONNECT_TIMEOUT, ConnectError};
use crate::password;
use crate::replication::protocol::{self, Incoming, ProtocolError};

/// How long one command may take. A slot on a standby waits for the primary's next running-transactions record.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a replication command failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// The connection broke.
    #[error("the replication connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The server answered with an error.
    #[error("{message} ({code})")]
    Server {
        /// The server's words.
        message: String,
        /// The SQLSTATE.
        code: String,
    },
    /// It does not answer in time.
    #[error("the server did not answer in {} s", COMMAND_TIMEOUT.as_secs())]
    Late,
    /// What it sent cannot be read.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// It asks for a login that this client does not have.
    #[error("the server asks for {0}; a password (SCRAM, MD5, plain), peer or trust can be given")]
    Login(&'static str),
    /// It sent something else than it had to.
    #[error("the server answered {0} unexpectedly")]
    Unexpected(&'static str),
}

/// Who the server says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The cluster's identifier.
    pub system_id: u64,
    /// Its present timeline.
    pub timeline: u32,
    /// Its end of WAL.
    pub lsn: Lsn,
}

/// A replication connection.
pub struct Replication {
    stream: Box<dyn Stream>,
    received: BytesMut,
    sending: BytesMut,
}

impl Replication {
    /// Connects to the instance's server as a replication client.
    ///
    /// # Errors
    /// Where nothing answers, or the login is refused: the fault's hint says what to grant.
    pub async fn connect(config: &PostgresConfig) -> Result<Self, Fault> {
        Self::connect_with(config, password::find(config)?).await
    }

    /// The same with a password that the caller has found.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(config: &PostgresConfig, password: Option<password::Password>) -> Result<Self, Fault> {
        let refused = |error: ConnectError| {
            let mut fault = error.fault(config);
            fault.message = format!("replication: {}", fault.message);
            if let ConnectError::Refused(_) = error {
                fault.hint = format!(
                    "as a superuser: ALTER ROLE {user} REPLICATION; and a line in pg_hba.conf for the database \"replication\" and the role {user}, then SELECT pg_reload_conf();",
                    user = crate::rights::identifier(&config.user)
                );
            }
            fault
        };
        let connecting = async {
            let stream: Box<dyn Stream> = match &config.address {
                Address::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
                Address::Socket { folder, port } => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?),
            };
            Ok::<_, std::io::Error>(Self { stream, received: BytesMut::new(), sending: BytesMut::new() })
        };
        let mut client = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| refused(ConnectError::NotThere(error.to_string())))?,
            Err(_) => return Err(refused(ConnectError::NotThere(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs())))),
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, client.log_in(&config.user, password.as_ref().map(password::Password::bytes))).await {
            Ok(Ok(())) => Ok(client),
            Ok(Err(error @ (ReplicationError::Server { .. } | ReplicationError::Login(_)))) => {
                Err(refused(ConnectError::Refused(error.to_string())))
            }
            Ok(Err(error)) => Err(refused(ConnectError::NotThere(error.to_string()))),
            Err(_) => Err(refused(ConnectError::NotThere(format!("no login in {} s", CONNECT_TIMEOUT.as_secs())))),
        }
    }

    async fn log_in(&mut self, user: &str, password: Option<&[u8]>) -> Result<(), ReplicationError> {
        let parameters = [("user", user), ("replication", "true"), ("application_name", "muster backup"), ("client_encoding", "UTF8")];
        frontend::startup_message(parameters, &mut self.sending)?;
        self.send().await?;
        let needed = || password.ok_or(ReplicationError::Login("a password, and none is configured"));
        let mut scram: Option<ScramSha256> = None;
        loop {
            match self.message().await? {
                Message::AuthenticationOk | Message::ParameterStatus(_) | Message::BackendKeyData(_) | Message::NoticeResponse(_) => {
                    continue;
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationCleartextPassword => frontend::password_message(needed()?, &mut self.sending)?,
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), needed()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.sending)?;
                }
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<&str> = body.mechanisms().collect().map_err(ReplicationError::Broken)?;
                    if !offered.contains(&SCRAM_SHA_256) {
                        return Err(ReplicationError::Login("a SASL mechanism that is not SCRAM-SHA-256"));
                    }
                    let exchange = scram.insert(ScramSha256::new(needed()?, ChannelBinding::unsupported()));
                    frontend::sasl_initial_response(SCRAM_SHA_256, exchange.message(), &mut self.sending)?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    let exchange = scram.as_mut().ok_or(ReplicationError::Unexpected("a SASL continuation"))?;
                    exchange.update(body.data())?;
                    frontend::sasl_response(exchange.message(), &mut self.sending)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or(ReplicationError::Unexpected("a SASL end"))?.finish(body.data())?;
                    continue;
                }
                Message::ErrorResponse(body) => return Err(server_error(&body)),
                Message::AuthenticationGss | Message::AuthenticationSspi | Message::AuthenticationKerberosV5 => {
                    return Err(ReplicationError::Login("Kerberos"));
                }
                _ => return Err(ReplicationError::Unexpected("a login message")),
            }
            self.send().await?;
        }
    }

    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// Where the server refuses it or the connection breaks.
    pub async fn identify(&mut self) -> Result<System, ReplicationError> {
        let rows = self.command("IDENTIFY_SYSTEM").await?;
        let column = |at: usize| rows.first().and_then(|row| row.get(at)).and_then(|value| std::str::from_utf8(value).ok());
        let read =
            || Some(System { system_id: column(0)?.parse().ok()?, timeline: column(1)?.parse().ok()?, lsn: column(2)?.parse().ok()? });
        read().ok_or(ReplicationError::Unexpected("IDENTIFY_SYSTEM"))
    }

    /// The value of a setting.
    ///
    /// # Errors
    /// Where the server has none of that name or the connection breaks.
    pub async fn show(&mut self, name: &str) -> Result<String, ReplicationError> {
        let rows = self.command(&format!("SHOW {name}")).await?;
        let value = rows.first().and_then(|row| row.first()).map(|value| String::from_utf8_lossy(value).into_owned());
        value.ok_or(ReplicationError::Unexpected("SHOW"))
    }

    /// Makes a slot that ends with this connection and holds WAL from now on.
    ///
    /// # Errors
    /// Where the server refuses it (no slot is free) or the connection breaks.
    pub async fn create_temporary_slot(&mut self, name: &str) -> Result<(), ReplicationError> {
        self.command(&protocol::create_temporary_slot(name)).await.map(drop)
    }

    /// The bytes of a timeline's history file.
    ///
    /// # Errors
    /// Where the server has none or the connection breaks.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Bytes, ReplicationError> {
        let rows = self.command(&protocol::timeline_history(timeline)).await?;
        rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).ok_or(ReplicationError::Unexpected("TIMELINE_HISTORY"))
    }

    /// Begins to stream. From then on only [`Self::next`] and [`Self::report`] may be used.
    ///
    /// # Errors
    /// Where the server refuses it or the connection breaks.
    pub async fn start(&mut self, slot: &str, start: Lsn, timeline: u32) -> Result<(), ReplicationError> {
        frontend::query(&protocol::start_replication(slot, start, timeline), &mut self.sending)?;
        self.send().await?;
        loop {
            match within(self.incoming()).await? {
                Incoming::StreamBegins => return Ok(()),
                Incoming::Other(Message::ErrorResponse(body)) => return Err(server_error(&body)),
                Incoming::Other(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                Incoming::Other(_) | Incoming::Wal { .. } | Incoming::Keepalive { .. } | Incoming::StreamEnds => {
                    return Err(ReplicationError::Unexpected("START_REPLICATION"));
                }
            }
        }
    }

    /// The next message of the stream. Cancelling it loses nothing.
    ///
    /// # Errors
    /// Where the connection breaks or the server ends the stream with an error.
    pub async fn next(&mut self) -> Result<Incoming, ReplicationError> {
        match self.incoming().await? {
            Incoming::Other(Message::ErrorResponse(body)) => Err(server_error(&body)),
            other => Ok(other),
        }
    }

    /// Tells the server how far the WAL has come, and up to where it need not keep it for this client.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn report(&mut self, written: Lsn, flushed: Lsn) -> Result<(), ReplicationError> {
        protocol::status_update(written, flushed, crate::clock::now().0, &mut self.sending);
        self.send().await
    }

    /// Ends the connection, and with it its slot.
    pub async fn close(mut self) {
        frontend::terminate(&mut self.sending);
        if let Err(error) = self.send().await {
            tracing::debug!(%error, "closing a replication connection");
        }
    }

    /// Sends a command and collects its rows. After an error the connection is drained to the next prompt and is still good.
    async fn command(&mut self, text: &str) -> Result<Vec<Vec<Bytes>>, ReplicationError> {
        frontend::query(text, &mut self.sending)?;
        self.send().await?;
        within(self.rows()).await
    }

    async fn rows(&mut self) -> Result<Vec<Vec<Bytes>>, ReplicationError> {
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.message().await? {
                Message::DataRow(body) => {
                    let whole = body.buffer_bytes();
                    let cell = |range: Option<std::ops::Range<usize>>| Ok(range.map_or_else(Bytes::new, |range| whole.slice(range)));
                    rows.push(body.ranges().map(cell).collect()?);
                }
                Message::ErrorResponse(body) => failed = Some(server_error(&body)),
                Message::ReadyForQuery(_) => return failed.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    async fn message(&mut self) -> Result<Message, ReplicationError> {
        match self.incoming().await? {
            Incoming::Other(message) => Ok(message),
            Incoming::StreamBegins | Incoming::Wal { .. } | Incoming::Keepalive { .. } | Incoming::StreamEnds => {
                Err(ReplicationError::Unexpected("a stream"))
            }
        }
    }

    async fn incoming(&mut self) -> Result<Incoming, ReplicationError> {
        loop {
            if let Some(message) = protocol::decode(&mut self.received)? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the server closed it").into());
            }
        }
    }

    async fn send(&mut self) -> Result<(), ReplicationError> {
        let bytes = self.sending.split();
        self.stream.write_all(&bytes).await?;
        Ok(self.stream.flush().await?)
    }
}

async fn within<T>(work: impl Future<Output = Result<T, ReplicationError>>) -> Result<T, ReplicationError> {
    tokio::time::timeout(COMMAND_TIMEOUT, work).await.unwrap_or(Err(ReplicationError::Late))
}

fn server_error(body: &ErrorResponseBody) -> ReplicationError {
    let (mut message, mut code) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        match field.type_() {
            b'M' => message = String::from_utf8_lossy(field.value_bytes()).into_owned(),
            b'C' => code = String::from_utf8_lossy(field.value_bytes()).into_owned(),
            _ => {}
        }
    }
    ReplicationError::Server { message, code }
}

impl ReplicationError {
    /// The same as a fault of what was being done.
    #[must_use]
    pub fn fault(&self, doing: &str) -> Fault {
        let (kind, hint) = match self {
            Self::Broken(_) | Self::Late => {
                (ErrorKind::Unavailable, "see whether the server still runs and what its log says, then run it again")
            }
            Self::Server { .. } | Self::Login(_) => (
                ErrorKind::FailedPrecondition,
                "see what the server says; `muster describe component NAME` shows the instance's conditions",
            ),
            Self::Protocol(_) | Self::Unexpected(_) => (ErrorKind::Internal, "please report this with the server's version"),
        };
        Fault::failed(kind, format!("{doing}: {self}")).hint(hint)
    }
}
