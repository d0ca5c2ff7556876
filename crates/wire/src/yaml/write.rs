//! From a message to YAML as people write it: fields in the order of the proto files, short enum values, short durations.

use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::descriptor::short_name;

/// A document that is ready to be written.
pub enum Plain {
    /// A text.
    Text(String),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Whole(i128),
    /// Another number.
    Float(f64),
    /// A sequence.
    List(Vec<Plain>),
    /// A mapping in this order.
    Map(Vec<(Plain, Plain)>),
}

impl Serialize for Plain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Whole(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => serializer.serialize_u64(number),
                (Err(_), Ok(number)) => serializer.serialize_i64(number),
                (Err(_), Err(_)) => serializer.serialize_i128(*number),
            },
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// A message as a mapping of what is set in it.
pub fn message(message: &DynamicMessage) -> Plain {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Duration" {
        return Plain::Text(duration(message));
    }
    let mut entries = Vec::new();
    for field in descriptor.fields() {
        if message.has_field(&field) {
            let value = value(message.get_field(&field).as_ref(), &field.kind());
            entries.push((Plain::Text(field.json_name().to_owned()), value));
        }
    }
    Plain::Map(entries)
}

fn value(value_of_field: &Value, kind: &Kind) -> Plain {
    match value_of_field {
        Value::Bool(value) => Plain::Bool(*value),
        Value::I32(number) => Plain::Whole((*number).into()),
        Value::I64(number) => Plain::Whole((*number).into()),
        Value::U32(number) => Plain::Whole((*number).into()),
        Value::U64(number) => Plain::Whole((*number).into()),
        Value::F32(number) => Plain::Float((*number).into()),
        Value::F64(number) => Plain::Float(*number),
        Value::String(text) => Plain::Text(text.clone()),
        Value::Bytes(bytes) => Plain::List(bytes.iter().map(|byte| Plain::Whole((*byte).into())).collect()),
        Value::EnumNumber(number) => enumerated(*number, kind),
        Value::Message(inner) => message(inner),
        Value::List(items) => Plain::List(items.iter().map(|item| value(item, kind)).collect()),
        Value::Map(entries) => {
            let inner = kind.as_message().map_or(Kind::String, |entry| entry.map_entry_value_field().kind());
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(b.0));
            Plain::Map(sorted.into_iter().map(|(name, item)| (key(name), value(item, &inner))).collect())
        }
    }
}

fn key(name: &MapKey) -> Plain {
    match name {
        MapKey::Bool(value) => Plain::Bool(*value),
        MapKey::I32(number) => Plain::Whole((*number).into()),
        MapKey::I64(number) => Plain::Whole((*number).into()),
        MapKey::U32(number) => Plain::Whole((*number).into()),
        MapKey::U64(number) => Plain::Whole((*number).into()),
        MapKey::String(text) => Plain::Text(text.clone()),
    }
}

fn enumerated(number: i32, kind: &Kind) -> Plain {
    let named = kind.as_enum().and_then(|descriptor| descriptor.get_value(number).map(|value| short_name(descriptor, &value)));
    named.map_or(Plain::Whole(number.into()), Plain::Text)
}

/// `1h30m`, or protobuf's `1.500s` where a unit's form would not be exact.
fn duration(message: &DynamicMessage) -> String {
    let proto: prost_types::Duration = message.transcode_to().unwrap_or_default();
    match (u64::try_from(proto.seconds), u32::try_from(proto.nanos)) {
        (Ok(seconds), Ok(0)) => in_units(seconds),
        (Ok(seconds), Ok(nanos)) => format!("{seconds}.{nanos:09}s"),
        // Never declared: a negative one is refused when it is read.
        (Err(_), _) | (_, Err(_)) => format!("{}s", proto.seconds),
    }
}

fn in_units(seconds: u64) -> String {
    if seconds == 0 {
        return "0s".to_owned();
    }
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
}
