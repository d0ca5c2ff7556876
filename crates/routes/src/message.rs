//! Messages of the DNS: questions, updates, and what an answer says. Bytes in, values out; no socket, no clock.
//!
//! An update is one transaction (RFC 2136, 3.4): its prerequisites are everything that was read, its deletions and additions
//! stand in one message, and there is never a separate one that only deletes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigVerifier, TSigner};

use crate::change::Wanted;
use crate::domain::Domain;
use crate::key::{Algorithm, Key};
use crate::refusal::Refusal;
use crate::standing::{Records, Standing, Target};

/// How far two clocks may be apart, in seconds (RFC 8945, 10: 300 is recommended).
const FUDGE: u16 = 300;

/// A message to send, with what is needed to believe its answer.
pub struct Question {
    /// Its bytes.
    pub bytes: Vec<u8>,
    id: u16,
    opcode: OpCode,
    queries: Vec<Query>,
    verifier: Option<TSigVerifier>,
    signed_at: u64,
}

/// An answer that belongs to its question and, where that was signed, is signed.
#[derive(Clone, Debug)]
pub struct Reply {
    message: Message,
}

fn name(domain: &Domain) -> Result<Name, Refusal> {
    Name::from_ascii(format!("{domain}.")).map_err(|error| Refusal::Unreadable(error.to_string()))
}

fn encode(message: Message, key: Option<&Key>, now: u64) -> Result<Question, Refusal> {
    let unreadable = |error: String| Refusal::Unreadable(error);
    let mut message = message;
    let mut verifier = None;
    if let Some(key) = key {
        let algorithm = match key.algorithm {
            Algorithm::Sha256 => TsigAlgorithm::HmacSha256,
            Algorithm::Sha384 => TsigAlgorithm::HmacSha384,
            Algorithm::Sha512 => TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(key.secret().to_vec(), algorithm, name(&key.name)?, FUDGE).map_err(|e| unreadable(e.to_string()))?;
        let (record, found) = signer.sign_message(&message, now).map_err(|e| unreadable(e.to_string()))?;
        message.set_signature(record);
        verifier = found;
    }
    let bytes = message.to_vec().map_err(|e| unreadable(e.to_string()))?;
    Ok(Question { bytes, id: message.metadata.id, opcode: message.metadata.op_code, queries: message.queries, verifier, signed_at: now })
}

/// Asks for one type of one name; `recursive` of a resolver. `now`: seconds of the epoch.
///
/// # Errors
/// Where it cannot be encoded.
pub fn question(domain: &Domain, kind: RecordType, recursive: bool, key: Option<&Key>, now: u64) -> Result<Question, Refusal> {
    let mut message = Message::query();
    message.metadata.recursion_desired = recursive;
    message.add_query(Query::query(name(domain)?, kind));
    encode(message, key, now)
}

/// One transaction that makes `before` into `wanted`, where it still stands as `before`; without `wanted` it changes nothing and tells whether it does.
///
/// # Errors
/// Where it cannot be encoded.
pub fn update(
    zone: &Domain,
    domain: &Domain,
    before: &Standing,
    wanted: Option<&Wanted>,
    key: &Key,
    now: u64,
) -> Result<Question, Refusal> {
    let (owner, mark) = (name(domain)?, name(&domain.mark())?);
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name(zone)?, RecordType::SOA));

    let old = before.records.as_ref().map(|records| rdata(&records.target)).transpose()?.unwrap_or_default();
    for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME] {
        if !old.iter().any(|data| data.record_type() == kind) {
            message.add_answer(absent(owner.clone(), kind));
        }
    }
    // A prerequisite on a value has class IN and TTL 0 (2.4.2).
    message.add_answers(old.iter().map(|data| Record::from_rdata(owner.clone(), 0, data.clone())));
    if old.is_empty() && wanted.is_some_and(|wanted| matches!(wanted.records.target, Target::Alias(_))) {
        // "Name is not in use" (2.4.5): beside anything else a CNAME would be dropped without a word.
        message.add_answer(absent(owner.clone(), RecordType::ANY));
    }
    let texts = before.mark.texts();
    if texts.is_empty() {
        message.add_answer(absent(mark.clone(), RecordType::TXT));
    }
    message.add_answers(texts.into_iter().map(|text| Record::from_rdata(mark.clone(), 0, txt(text))));

    if let Some(wanted) = wanted {
        for kind in [RecordType::A, RecordType::AAAA, RecordType::CNAME] {
            message.add_authority(gone(owner.clone(), kind));
        }
        let ttl = wanted.records.ttl;
        message.add_authorities(rdata(&wanted.records.target)?.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl, data)));
        message.add_authority(gone(mark.clone(), RecordType::TXT));
        message.add_authorities(wanted.standing().mark.texts().into_iter().map(|text| Record::from_rdata(mark.clone(), ttl, txt(text))));
    }
    encode(message, Some(key), now)
}

/// "RRset does not exist" (2.4.3).
fn absent(owner: Name, kind: RecordType) -> Record {
    empty(owner, kind, DNSClass::NONE)
}

/// "Delete an RRset" (2.5.2).
fn gone(owner: Name, kind: RecordType) -> Record {
    empty(owner, kind, DNSClass::ANY)
}

fn empty(owner: Name, kind: RecordType, class: DNSClass) -> Record {
    let mut record = Record::from_rdata(owner, 0, RData::Update0(kind));
    record.dns_class = class;
    record
}

fn txt(text: String) -> RData {
    // A character-string holds 255 octets (RFC 1035, 3.3.14); what was read joined is only ours, and short.
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
    RData::TXT(TXT::from_bytes(pieces))
}

fn rdata(target: &Target) -> Result<Vec<RData>, Refusal> {
    match target {
        Target::Addresses(addresses) => Ok(addresses.iter().map(|address| of_address(*address)).collect()),
        Target::Alias(domain) => Ok(vec![RData::CNAME(CNAME(name(domain)?))]),
    }
}

const fn of_address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

impl Question {
    /// Reads the answer. `None` where these bytes are no answer to this question and another may still come.
    pub fn answer(&mut self, bytes: &[u8]) -> Option<Result<Reply, Refusal>> {
        let message = match Message::from_vec(bytes) {
            Ok(message) => message,
            Err(error) => {
                let ours = bytes.get(..2) == Some(self.id.to_be_bytes().as_slice());
                return ours.then(|| Err(Refusal::Unreadable(error.to_string())));
            }
        };
        let head = message.metadata;
        let same_question = message.queries.is_empty() || message.queries == self.queries;
        if head.id != self.id || head.message_type != MessageType::Response || head.op_code != self.opcode || !same_question {
            return None;
        }
        Some(self.believe(message, bytes))
    }

    fn believe(&mut self, message: Message, bytes: &[u8]) -> Result<Reply, Refusal> {
        let Some(verifier) = &mut self.verifier else { return Ok(Reply { message }) };
        let Some(signature) = message.signature() else { return Err(unsigned(message.metadata.response_code)) };
        let tsig = &signature.data;
        // BADKEY and BADSIG cannot be signed (RFC 8945, 5.2.1 and 5.2.2).
        match tsig.error {
            Some(TsigError::BadKey) => return Err(Refusal::BadKey),
            Some(TsigError::BadSig) => return Err(Refusal::BadSig),
            Some(TsigError::BadTime) => return Err(Refusal::BadTime { own: self.signed_at, server: server_time(&tsig.other) }),
            Some(TsigError::BadTrunc) => return Err(Refusal::Code(22)),
            Some(TsigError::Unknown(0)) | None => {}
            Some(TsigError::Unknown(code)) => return Err(Refusal::Code(code)),
        }
        verifier.verify(bytes).map_err(|_| Refusal::Forged)?;
        Ok(Reply { message })
    }
}

/// An unsigned answer to a signed question: refusals are taken at their word (nothing good comes of them), all else is not.
fn unsigned(code: ResponseCode) -> Refusal {
    match code {
        ResponseCode::Refused => Refusal::Refused,
        ResponseCode::NotImp => Refusal::NotUnderstood { code: "NOTIMP" },
        ResponseCode::FormErr => Refusal::NotUnderstood { code: "FORMERR" },
        ResponseCode::NotAuth => Refusal::NotAuth,
        _ => Refusal::Unsigned,
    }
}

/// The server's clock: 48 bits of seconds (RFC 8945, 5.2.3).
fn server_time(other: &[u8]) -> Option<u64> {
    let bytes: [u8; 6] = other.try_into().ok()?;
    Some(bytes.iter().fold(0, |time, byte| time << 8 | u64::from(*byte)))
}

/// What one type's records of a name are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Addresses at the name itself.
    pub addresses: BTreeSet<IpAddr>,
    /// Its CNAME.
    pub alias: Option<Domain>,
    /// Its texts.
    pub texts: Vec<String>,
    /// Its servers' names.
    pub servers: Vec<Domain>,
    /// The longest TTL among them.
    pub ttl: u32,
}

impl Reply {
    /// Whether it was cut short and has to be asked for over TCP.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.message.metadata.truncation
    }

    /// Whether an update was done.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn updated(&self) -> Result<(), Refusal> {
        match self.message.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::YXRRSet => Err(Refusal::Changed { code: "YXRRSET" }),
            ResponseCode::NXRRSet => Err(Refusal::Changed { code: "NXRRSET" }),
            ResponseCode::YXDomain => Err(Refusal::Changed { code: "YXDOMAIN" }),
            ResponseCode::NXDomain => Err(Refusal::Changed { code: "NXDOMAIN" }),
            code => Err(refusal(code)),
        }
    }

    /// The records at `domain`. A resolver's chain behind a CNAME is not followed; `authoritative`: an answer from a cache is refused.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn found(&self, domain: &Domain, authoritative: bool) -> Result<Found, Refusal> {
        match self.message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(refusal(code)),
        }
        if authoritative && !self.message.metadata.authoritative {
            return Err(Refusal::NotAuthoritative);
        }
        let owner = name(domain)?;
        let mut found = Found::default();
        for record in self.message.answers.iter().filter(|record| record.name == owner) {
            if found.add(&record.data)? {
                found.ttl = found.ttl.max(record.ttl);
            }
        }
        Ok(found)
    }
}

impl Found {
    /// Takes one record in; whether it was of use.
    fn add(&mut self, data: &RData) -> Result<bool, Refusal> {
        let domain = |name: &Name| name.to_ascii().parse::<Domain>().map_err(|error| Refusal::Unreadable(error.to_string()));
        match data {
            RData::A(address) => self.addresses.insert(IpAddr::V4(address.0)),
            RData::AAAA(address) => self.addresses.insert(IpAddr::V6(address.0)),
            RData::CNAME(alias) => self.alias.replace(domain(&alias.0)?).is_none(),
            RData::NS(server) => {
                self.servers.push(domain(&server.0)?);
                true
            }
            RData::TXT(text) => {
                self.texts.push(String::from_utf8_lossy(&text.txt_data.concat()).into_owned());
                true
            }
            // Signatures (RRSIG) and whatever else comes along.
            _ => return Ok(false),
        };
        Ok(true)
    }

    /// As records of a name; `None` where it has neither address nor CNAME.
    #[must_use]
    pub fn records(self) -> Option<Records> {
        let target = match (self.alias, self.addresses.is_empty()) {
            (Some(alias), _) => Target::Alias(alias),
            (None, false) => Target::Addresses(self.addresses),
            (None, true) => return None,
        };
        Some(Records { target, ttl: self.ttl })
    }
}

/// What a code means that is neither success nor a prerequisite's.
fn refusal(code: ResponseCode) -> Refusal {
    match code {
        ResponseCode::Refused => Refusal::Refused,
        ResponseCode::NotAuth => Refusal::NotAuth,
        ResponseCode::NotZone => Refusal::NotZone,
        ResponseCode::ServFail => Refusal::ServFail,
        ResponseCode::NotImp => Refusal::NotUnderstood { code: "NOTIMP" },
        ResponseCode::FormErr => Refusal::NotUnderstood { code: "FORMERR" },
        other => Refusal::Code(other.into()),
    }
}
