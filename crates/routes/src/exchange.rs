//! One question to one server over a socket, and its answer: UDP, and TCP where an answer was cut short or it is set so.
//!
//! Sends a question once. Whether to send again is decided by whoever knows what it would do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::domain::Domain;
use crate::key::Key;
use crate::message::{self, Found, Question, Reply};
use crate::refusal::Refusal;

/// How long one question waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What a question travels by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP where an answer was cut short.
    #[default]
    Udp,
    /// TCP only.
    Tcp,
}

/// Seconds of the epoch, as this machine's clock has it.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Sends a question and waits for its answer.
///
/// # Errors
/// Where none comes in time, none can, or none that is to be believed.
pub async fn exchange(server: SocketAddr, transport: Transport, question: &mut Question) -> Result<Reply, Refusal> {
    let milliseconds = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
    let answered = tokio::time::timeout(PATIENCE, async {
        match transport {
            Transport::Udp => over_udp(server, question).await,
            Transport::Tcp => over_tcp(server, question).await,
        }
    });
    answered.await.unwrap_or(Err(Refusal::Silent(milliseconds)))
}

async fn over_udp(server: SocketAddr, question: &mut Question) -> Result<Reply, Refusal> {
    let unreachable = |error: std::io::Error| Refusal::Unreachable(error.to_string());
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    socket.send(&question.bytes).await.map_err(unreachable)?;
    let mut bytes = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut bytes).await.map_err(unreachable)?;
        // An answer to something else is no answer; the caller's time limit ends the wait.
        if let Some(reply) = question.answer(bytes.get(..length).unwrap_or_default()) {
            return reply;
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &mut Question) -> Result<Reply, Refusal> {
    let unreachable = |error: std::io::Error| Refusal::Unreachable(error.to_string());
    let mut stream = TcpStream::connect(server).await.map_err(unreachable)?;
    let length = u16::try_from(question.bytes.len()).map_err(|_| Refusal::Unreadable("the question is too long".to_owned()))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&question.bytes);
    stream.write_all(&framed).await.map_err(unreachable)?;
    let length = stream.read_u16().await.map_err(unreachable)?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.map_err(unreachable)?;
    question.answer(&bytes).unwrap_or_else(|| Err(Refusal::Unreadable("it answers another question".to_owned())))
}

/// How a name is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Whom to ask.
    pub server: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// What signs the question.
    pub key: Option<&'a Key>,
    /// Asks a resolver to follow, and takes what it remembers; otherwise only the zone's own word counts.
    pub recursive: bool,
}

impl Look<'_> {
    /// The records of one type at a name. Asked again once where no answer comes: a question changes nothing.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn find(&self, domain: &Domain, kind: RecordType) -> Result<Found, Refusal> {
        match self.once(domain, kind, self.transport).await {
            Err(Refusal::Silent(_)) => self.once(domain, kind, self.transport).await,
            done => done,
        }
    }

    async fn once(&self, domain: &Domain, kind: RecordType, transport: Transport) -> Result<Found, Refusal> {
        let ask = || message::question(domain, kind, self.recursive, self.key, now());
        let mut reply = exchange(self.server, transport, &mut ask()?).await?;
        if reply.is_truncated() && transport == Transport::Udp {
            reply = exchange(self.server, Transport::Tcp, &mut ask()?).await?;
        }
        reply.found(domain, !self.recursive)
    }

    /// Addresses and CNAME of a name.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn records(&self, domain: &Domain) -> Result<Found, Refusal> {
        let mut found = self.find(domain, RecordType::A).await?;
        let sixes = self.find(domain, RecordType::AAAA).await?;
        found.addresses.extend(sixes.addresses);
        found.ttl = found.ttl.max(sixes.ttl);
        Ok(found)
    }
}
