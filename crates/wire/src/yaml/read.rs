//! From a YAML tree to a message, by the message's descriptor.
//!
//! What always holds: nothing unknown is passed over, nothing is guessed, and every refusal says where and what was expected.

use std::collections::HashMap;
use std::time::Duration;

use prost_reflect::{Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::tree::{Node, Place, Shape};
use super::{Wrong, quoted};
use crate::descriptor::short_name;
use crate::nearest::did_you_mean;

const DURATION: &str = "google.protobuf.Duration";
const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// The message that a mapping describes. `path` is its place in the document, for refusals: `spec.instances[0]`.
pub fn message(node: &Node, descriptor: &MessageDescriptor, path: &str) -> Result<DynamicMessage, Wrong> {
    match descriptor.full_name() {
        DURATION => return duration(node, descriptor, path),
        TIMESTAMP => return Err(Wrong::at(node.place, format!("{path}: is set by Muster and cannot be declared"))),
        _ => {}
    }
    let Shape::Map(entries) = &node.shape else {
        let fields = expected_fields(descriptor);
        return Err(Wrong::at(node.place, format!("{path}: expected a mapping of {fields}, found {}", node.shape.told())));
    };
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut given: Vec<(FieldDescriptor, &str)> = Vec::new();
    for (key, value) in entries {
        let written = key_text(key, path)?;
        let Some(field) = find(descriptor, written) else {
            return Err(Wrong::at(key.place, unknown_field(descriptor, written, path)));
        };
        if let Some((_, before)) = given.iter().find(|(other, _)| other.number() == field.number()) {
            return Err(Wrong::at(key.place, format!("{path}: {} is given twice{}", quoted(written), as_before(before, written))));
        }
        if let Some((_, before)) =
            given.iter().find(|(other, _)| other.containing_oneof().is_some_and(|one| Some(one) == real_oneof(&field)))
        {
            return Err(Wrong::at(key.place, format!("{path}: {} and {} exclude each other", quoted(before), quoted(written))));
        }
        let value = field_value(value, &field, &joined(path, written))?;
        message.set_field(&field, value);
        given.push((field, written));
    }
    Ok(message)
}

fn real_oneof(field: &FieldDescriptor) -> Option<prost_reflect::OneofDescriptor> {
    field.containing_oneof().filter(|one| !one.is_synthetic())
}

fn as_before(before: &str, written: &str) -> String {
    if before == written { String::new() } else { format!(", first as {}", quoted(before)) }
}

fn joined(path: &str, field: &str) -> String {
    format!("{path}.{field}")
}

/// The field of that name, written as in JSON (`dataDirectory`) or as in proto (`data_directory`).
fn find(descriptor: &MessageDescriptor, written: &str) -> Option<FieldDescriptor> {
    descriptor.get_field_by_json_name(written).or_else(|| descriptor.get_field_by_name(written))
}

fn unknown_field(descriptor: &MessageDescriptor, written: &str, path: &str) -> String {
    let names: Vec<String> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
    let near = did_you_mean(written, names.iter().map(String::as_str));
    format!("{path}: unknown field {}; expected {}{near}", quoted(written), expected_fields(descriptor))
}

fn expected_fields(descriptor: &MessageDescriptor) -> String {
    let names: Vec<String> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
    if names.is_empty() { "no fields: {}".to_owned() } else { names.join(", ") }
}

fn key_text<'a>(key: &'a Node, path: &str) -> Result<&'a str, Wrong> {
    match &key.shape {
        Shape::Text(text) => Ok(text),
        other => Err(Wrong::at(key.place, format!("{path}: expected the name of a field, found {}", other.told()))),
    }
}

fn field_value(node: &Node, field: &FieldDescriptor, path: &str) -> Result<Value, Wrong> {
    if matches!(node.shape, Shape::Null) {
        let value = if field.is_list() { "[]" } else { empty_form(&field.kind()) };
        return Err(Wrong::at(node.place, format!("{path}: has no value; leave the field out, or write {value}")));
    }
    if field.is_map() {
        return map(node, field, path);
    }
    if field.cardinality() == Cardinality::Repeated {
        let Shape::List(items) = &node.shape else {
            return Err(Wrong::at(node.place, format!("{path}: expected a list, found {}", node.shape.told())));
        };
        let read = |(at, item): (usize, &Node)| single(item, &field.kind(), &format!("{path}[{at}]"));
        return items.iter().enumerate().map(read).collect::<Result<_, _>>().map(Value::List);
    }
    single(node, &field.kind(), path)
}

fn empty_form(kind: &Kind) -> &'static str {
    match kind {
        Kind::Message(descriptor) if descriptor.full_name() == DURATION => "a duration",
        Kind::Message(_) => "{}",
        Kind::String | Kind::Bytes => "\"\"",
        Kind::Double
        | Kind::Float
        | Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bool
        | Kind::Enum(_) => "one",
    }
}

fn map(node: &Node, field: &FieldDescriptor, path: &str) -> Result<Value, Wrong> {
    let (Shape::Map(entries), Kind::Message(entry)) = (&node.shape, field.kind()) else {
        return Err(Wrong::at(node.place, format!("{path}: expected a mapping, found {}", node.shape.told())));
    };
    let mut map = HashMap::new();
    for (key, value) in entries {
        let inner = format!("{path}[{}]", key.shape.told());
        let name = map_key(single(key, &entry.map_entry_key_field().kind(), &inner)?, key.place, &inner)?;
        let value = single(value, &entry.map_entry_value_field().kind(), &inner)?;
        if map.insert(name, value).is_some() {
            return Err(Wrong::at(key.place, format!("{inner}: is given twice")));
        }
    }
    Ok(Value::Map(map))
}

fn map_key(value: Value, place: Place, path: &str) -> Result<MapKey, Wrong> {
    value.into_map_key().ok_or_else(|| Wrong::at(place, format!("{path}: cannot be a key")))
}

fn single(node: &Node, kind: &Kind, path: &str) -> Result<Value, Wrong> {
    let expected = |what: &str| Wrong::at(node.place, format!("{path}: expected {what}, found {}", node.shape.told()));
    match kind {
        Kind::Message(descriptor) => message(node, descriptor, path).map(Value::Message),
        Kind::Enum(descriptor) => enumerated(node, descriptor, path),
        Kind::String => match &node.shape {
            Shape::Text(text) => Ok(Value::String(text.clone())),
            Shape::Bool(_) | Shape::Whole(_) | Shape::Float(_) => {
                Err(Wrong::at(node.place, format!("{path}: expected a text, found {}; write it in quotes", node.shape.told())))
            }
            Shape::Null | Shape::List(_) | Shape::Map(_) => Err(expected("a text")),
        },
        Kind::Bool => match node.shape {
            Shape::Bool(value) => Ok(Value::Bool(value)),
            Shape::Null | Shape::Whole(_) | Shape::Float(_) | Shape::Text(_) | Shape::List(_) | Shape::Map(_) => {
                Err(expected("true or false"))
            }
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            whole(node).and_then(|n| n.try_into().ok()).map(Value::I32).ok_or_else(|| expected("a whole number of 32 bits"))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            whole(node).and_then(|n| n.try_into().ok()).map(Value::I64).ok_or_else(|| expected("a whole number of 64 bits"))
        }
        Kind::Uint32 | Kind::Fixed32 => {
            whole(node).and_then(|n| n.try_into().ok()).map(Value::U32).ok_or_else(|| expected("a whole number from 0 to 4294967295"))
        }
        Kind::Uint64 | Kind::Fixed64 => {
            whole(node).and_then(|n| n.try_into().ok()).map(Value::U64).ok_or_else(|| expected("a whole number of 64 bits, not negative"))
        }
        Kind::Double => number(node).map(Value::F64).ok_or_else(|| expected("a number")),
        Kind::Float | Kind::Bytes => Err(Wrong::at(node.place, format!("{path}: cannot be declared in YAML"))),
    }
}

fn whole(node: &Node) -> Option<i128> {
    match &node.shape {
        Shape::Whole(number) => Some(*number),
        // Protobuf's JSON form of 64-bit numbers is a text.
        Shape::Text(text) if !text.starts_with('+') => text.parse().ok(),
        Shape::Text(_) | Shape::Null | Shape::Bool(_) | Shape::Float(_) | Shape::List(_) | Shape::Map(_) => None,
    }
}

fn number(node: &Node) -> Option<f64> {
    match node.shape {
        Shape::Float(number) => Some(number),
        Shape::Whole(number) => Some(number as f64),
        Shape::Null | Shape::Bool(_) | Shape::Text(_) | Shape::List(_) | Shape::Map(_) => None,
    }
}

/// `CRITICAL`, `critical` or `PRIORITY_CRITICAL`.
fn enumerated(node: &Node, descriptor: &EnumDescriptor, path: &str) -> Result<Value, Wrong> {
    // Number 0 means that nothing was said, which is said by leaving the field out.
    let values: Vec<_> = descriptor.values().filter(|value| value.number() != 0).collect();
    let names: Vec<String> = values.iter().map(|value| short_name(descriptor, value)).collect();
    if let Shape::Text(text) = &node.shape {
        let found = values.iter().zip(&names).find(|(value, name)| value.name() == text || name.eq_ignore_ascii_case(text));
        if let Some((value, _)) = found {
            return Ok(Value::EnumNumber(value.number()));
        }
    }
    let near = match &node.shape {
        Shape::Text(text) => did_you_mean(text, names.iter().map(String::as_str)),
        Shape::Null | Shape::Bool(_) | Shape::Whole(_) | Shape::Float(_) | Shape::List(_) | Shape::Map(_) => String::new(),
    };
    let expected = if names.is_empty() { "that the field is left out".to_owned() } else { format!("one of {}", names.join(", ")) };
    Err(Wrong::at(node.place, format!("{path}: expected {expected}, found {}{near}", node.shape.told())))
}

fn duration(node: &Node, descriptor: &MessageDescriptor, path: &str) -> Result<DynamicMessage, Wrong> {
    let found = match &node.shape {
        Shape::Text(text) => exact_seconds(text).or_else(|| muster_common::duration::parse(text).ok()),
        Shape::Null | Shape::Bool(_) | Shape::Whole(_) | Shape::Float(_) | Shape::List(_) | Shape::Map(_) => None,
    };
    let wrong = || {
        let told = node.shape.told();
        Wrong::at(node.place, format!("{path}: expected a duration, for example 45s, 30m, 1h30m or 7d; found {told}"))
    };
    let proto = crate::convert::duration_to_proto(found.ok_or_else(wrong)?);
    let mut message = DynamicMessage::new(descriptor.clone());
    message.transcode_from(&proto).map_err(|_| wrong())?;
    Ok(message)
}

/// Protobuf's own form, exact to the nanosecond: `5400s`, `1.000000001s`.
fn exact_seconds(text: &str) -> Option<Duration> {
    let digits = text.strip_suffix('s')?;
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(seconds) || !all_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    let seconds: u64 = seconds.parse().ok()?;
    (seconds <= 315_576_000_000).then(|| Duration::new(seconds, nanos))
}
