//! A thousand generated malformed requests over every rpc: none makes the controller panic, grow or hang, and each refusal has a kind that a
//! client can act on. Some are no message at all, some hold names of 3 and of 10 megabytes, numbers at their ends, enums that do not exist.
//!
//! The seed is fixed; `SEED` and `REQUESTS` set others (`make soak`).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::scenario::scenario;
use muster_testbed::simulated::administrator;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::usage;
use muster_wire::descriptor;
use prost_reflect::bytes::{Buf as _, BufMut as _, Bytes};
use prost_reflect::prost::Message as _;
use prost_reflect::{Cardinality, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};

const REQUESTS: usize = 1_000;
/// An answer, or a stream's beginning, comes within this on a busy machine.
const BOUND: Duration = Duration::from_secs(15);
/// The most that the controller may grow by all of them.
const MOST_GROWN: u64 = 192 << 20;
/// What a server of ours takes of one message.
const LARGEST: usize = 4 << 20;

/// Passes bytes through as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Makes what no honest client sends.
struct Malformed(StdRng);

impl Malformed {
    fn text(&mut self, large: bool) -> String {
        let texts = ["", "notes", "no-such", "../../etc/passwd", "a\0b", "'; drop table operations; --", "🧨\u{202e}", "-", "istanbul"];
        match self.0.random_range(0..14) {
            0 if large => "x".repeat(3 << 20),
            1 if large && self.0.random_bool(0.3) => "y".repeat(10 << 20),
            2 => "z".repeat(70_000),
            3 => "0123456789abcdef".repeat(2),
            n => (*texts.get(n % texts.len()).unwrap_or(&"")).to_owned(),
        }
    }

    fn number(&mut self) -> u64 {
        let ends = [0, 1, 2, 255, 1 << 31, u64::from(u32::MAX), i64::MAX.cast_unsigned(), u64::MAX, u64::MAX - 1];
        *ends.get(self.0.random_range(0..ends.len())).unwrap_or(&0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "any number will do")]
    fn value(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let number = self.number();
        match field.kind() {
            Kind::Double | Kind::Float if field.kind() == Kind::Float => Value::F32(f32::NAN),
            Kind::Double | Kind::Float => Value::F64(f64::INFINITY),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
            Kind::Bool => Value::Bool(number.is_multiple_of(2)),
            Kind::String => Value::String(self.text(depth < 2)),
            Kind::Bytes => Value::Bytes(self.text(depth < 2).into_bytes().into()),
            Kind::Message(message) => Value::Message(self.message(&message, depth + 1)),
            Kind::Enum(_) => Value::EnumNumber(if self.0.random_bool(0.6) { self.0.random_range(0..6) } else { number as i32 }),
        }
    }

    fn message(&mut self, of: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut made = DynamicMessage::new(of.clone());
        for field in of.fields() {
            if depth > 4 || self.0.random_bool(0.35) {
                continue;
            }
            let value = if field.is_map() {
                let value = of.parent_pool().get_message_by_name("google.protobuf.Empty").map(|_| Value::String(self.text(false)));
                let entries = (0..self.0.random_range(0..50_u32)).filter_map(|n| Some((MapKey::U32(n), value.clone()?)));
                let entries = entries.collect();
                match field.kind() {
                    Kind::Message(entry) if entry.map_entry_key_field().kind() == Kind::Uint32 => Value::Map(entries),
                    _ => continue,
                }
            } else if field.cardinality() == Cardinality::Repeated {
                let count = if depth < 1 && self.0.random_bool(0.1) { 2_000 } else { self.0.random_range(0..3) };
                Value::List((0..count).map(|_| self.value(&field, depth + 1)).collect())
            } else {
                self.value(&field, depth)
            };
            made.set_field(&field, value);
        }
        made
    }

    /// A request's bytes, and whether they are a message at all.
    fn request(&mut self, of: &MessageDescriptor) -> (Bytes, bool) {
        if self.0.random_bool(0.1) {
            let length = self.0.random_range(1..2_000);
            return ((0..length).map(|_| self.0.random::<u8>()).collect::<Vec<u8>>().into(), false);
        }
        let bytes = self.message(of, 0).encode_to_vec();
        let small = bytes.len() <= LARGEST;
        (bytes.into(), small)
    }
}

/// Sends one; the first message of the answer counts, and a stream that stays open is one that was taken.
async fn send(channel: Channel, path: String, request: Bytes) -> Result<Option<Status>> {
    let mut grpc = tonic::client::Grpc::new(channel).max_encoding_message_size(64 << 20);
    let call = async {
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut answer =
            grpc.server_streaming(tonic::Request::new(request), path.parse().map_err(|_| Status::internal("no path"))?, Raw).await?;
        match tokio::time::timeout(Duration::from_millis(100), answer.get_mut().message()).await {
            Ok(Err(status)) => Err(status),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    };
    let answered = tokio::time::timeout(BOUND, call).await.with_context(|| format!("no answer to {path}"))?;
    Ok(answered.err())
}

/// What is wrong with a refusal of a well-formed message: a client must be able to act on it.
fn complaint(status: &Status) -> Option<String> {
    let fault = muster_wire::status::fault(status);
    let typed = !matches!(status.code(), Code::Unknown | Code::Internal | Code::Unimplemented | Code::Unavailable | Code::DataLoss);
    if !typed || fault.hint.is_empty() {
        return Some(format!("{:?} {:?}, hint {:?}", status.code(), status.message().chars().take(200).collect::<String>(), fault.hint));
    }
    (status.message().len() > 8 << 10).then(|| format!("a text of {} bytes", status.message().len()))
}

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn malformed_requests_over_every_rpc_are_refused_and_harm_nothing() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        sites.notes().await?;
        let pid = sites.controller.pid()?.context("the controller runs")?;
        let before = usage::resident(pid)?;
        let methods: Vec<_> = descriptor::pool().services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        let mut made = Malformed(StdRng::seed_from_u64(setting("SEED", 7) as u64));
        let channel = administrator(&world)?;
        let (mut wrong, mut codes) = (Vec::new(), BTreeMap::<String, usize>::new());
        for number in 0..setting("REQUESTS", REQUESTS) {
            let Some(method) = methods.get(number % methods.len()) else { continue };
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let (request, is_message) = made.request(&method.input());
            let refused = send(channel.clone(), path.clone(), request).await.with_context(|| format!("request {number}"))?;
            *codes.entry(refused.as_ref().map_or("taken".to_owned(), |status| format!("{:?}", status.code()))).or_default() += 1;
            if let Some(complaint) = refused.filter(|_| is_message).as_ref().and_then(complaint) {
                wrong.push(format!("request {number} {path}: {complaint}"));
            }
        }
        println!("answers: {codes:?}; grown by {} KiB", usage::resident(pid)?.saturating_sub(before) >> 10);
        ensure!(wrong.is_empty(), "{} refusals that no client can act on:\n{}", wrong.len(), wrong.join("\n"));
        ensure!(!sites.controller.written()?.contains("panicked"), "the controller panicked");
        ensure!(sites.controller.pid()? == Some(pid), "another controller");
        let grown = usage::resident(pid)?.saturating_sub(before);
        ensure!(grown < MOST_GROWN, "it grew by {} MiB", grown >> 20);
        sites.operator.says(&["status"]).await?;
        Ok(())
    });
}
