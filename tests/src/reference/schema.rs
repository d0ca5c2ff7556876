//! `docs/reference/muster.schema.json`: JSON Schema (2020-12) of what commands print with `-o json`, made from the protocol's descriptors and,
//! for the few commands that print something of their own, from `own.json`.

use prost_types::field_descriptor_proto::Type;
use serde_json::{Map, Value, json};

use super::commands::COMMANDS;
use super::protocol::{Holds, Message, Protocol, Shape, shape};

/// What commands print that is no message of the protocol.
const OWN: &str = include_str!("own.json");

/// The whole document: a definition a message, and one for each command.
///
/// # Panics
/// Where `own.json` is no JSON object.
#[must_use]
pub fn document(protocol: &Protocol) -> Value {
    let mut all: Map<String, Value> = serde_json::from_str(OWN).expect("own.json");
    for one in protocol.enums() {
        let names: Vec<_> = one.descriptor.value.iter().map(|value| value.name().to_owned()).collect();
        // A number is a value that this build does not know yet.
        all.insert(one.full_name, json!({"anyOf": [{"enum": names}, {"type": "integer"}]}));
    }
    for message in protocol.messages() {
        all.insert(message.full_name.clone(), message_schema(&message));
    }
    let mut definitions = Map::new();
    let mut commands = Map::new();
    let mut wanted: Vec<String> = COMMANDS.iter().filter_map(|row| row.prints).map(str::to_owned).collect();
    wanted.push("muster.v1.Fault".to_owned());
    while let Some(name) = wanted.pop() {
        if let Some(schema) = all.get(&name).filter(|_| !definitions.contains_key(&name)) {
            references(schema, &mut wanted);
            definitions.insert(name, schema.clone());
        }
    }
    for row in COMMANDS {
        if let Some(prints) = row.prints {
            commands.insert(format!("muster {}", row.command), reference(prints));
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "Made from proto/ by `make reference`. New fields and new values of enums may come; what is there stays.",
        "title": "What muster prints with -o json",
        "commands": commands,
        "$defs": definitions,
    })
}

fn references(schema: &Value, wanted: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                wanted.extend(name.strip_prefix("#/$defs/").map(str::to_owned));
            }
            map.values().for_each(|inner| references(inner, wanted));
        }
        Value::Array(list) => list.iter().for_each(|inner| references(inner, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{name}")})
}

fn message_schema(message: &Message<'_>) -> Value {
    let mut properties = Map::new();
    for field in &message.descriptor.field {
        let schema = match shape(message.descriptor, field) {
            Shape::One(holds) => held(&holds),
            Shape::List(holds) => json!({"type": "array", "items": held(&holds)}),
            Shape::Map(_, holds) => json!({"type": "object", "additionalProperties": held(&holds)}),
        };
        properties.insert(field.json_name().to_owned(), schema);
    }
    json!({"type": "object", "properties": properties})
}

/// Protobuf's canonical JSON: <https://protobuf.dev/programming-guides/json/>.
fn held(holds: &Holds) -> Value {
    match holds {
        Holds::Enum(name) => reference(name),
        Holds::Message(name) => match name.as_str() {
            "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" => json!({"type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?s$"}),
            "google.protobuf.Empty" | "google.protobuf.Struct" => json!({"type": "object"}),
            ours => reference(ours),
        },
        Holds::Scalar(kind) => match kind {
            Type::Bool => json!({"type": "boolean"}),
            Type::Double | Type::Float => json!({"type": ["number", "string"]}),
            Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Fixed32 | Type::Sfixed32 => json!({"type": "integer"}),
            Type::Int64 | Type::Uint64 | Type::Sint64 | Type::Fixed64 | Type::Sfixed64 => {
                json!({"type": "string", "pattern": "^-?[0-9]+$"})
            }
            Type::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Type::String | Type::Group | Type::Message | Type::Enum => json!({"type": "string"}),
        },
    }
}
