//! A call's message without its generated type at hand: its canonical form, and single fields of it. For what records calls of every kind.
//!
//! What always holds: two requests that mean the same have the same canonical form, whatever order their maps were sent in; their request ids
//! are no part of it.

use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage, SerializeOptions, Value};

use crate::descriptor;

/// The field that tells one call from its repetition.
const REQUEST_ID: &str = "request_id";

/// A request or an answer.
#[derive(Clone, Debug)]
pub struct Read {
    message: DynamicMessage,
}

impl Read {
    /// The request of an rpc, by its full path. `None` where there is no such rpc, or the bytes are none of its requests.
    #[must_use]
    pub fn request(rpc: &str, bytes: &[u8]) -> Option<Self> {
        Self::decoded(method(rpc)?.input(), bytes)
    }

    /// The answer of an rpc.
    #[must_use]
    pub fn answer(rpc: &str, bytes: &[u8]) -> Option<Self> {
        Self::decoded(method(rpc)?.output(), bytes)
    }

    fn decoded(of: MessageDescriptor, bytes: &[u8]) -> Option<Self> {
        Some(Self { message: DynamicMessage::decode(of, bytes).ok()? })
    }

    /// Protobuf's JSON form without the request id, keys in the order of their bytes, no spaces. `None` where an instant in it has none.
    #[must_use]
    pub fn canonical(&self) -> Option<String> {
        let mut message = self.message.clone();
        message.clear_field_by_name(REQUEST_ID);
        let value = message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new()).ok()?;
        let mut text = String::new();
        write(&value, &mut text);
        Some(text)
    }

    /// The text of a field; empty where there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> String {
        self.message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Whether a field is true.
    #[must_use]
    pub fn is(&self, field: &str) -> bool {
        self.message.get_field_by_name(field).and_then(|value| value.as_bool()).unwrap_or(false)
    }

    /// The number of an enum's field; 0 where there is none.
    #[must_use]
    pub fn number(&self, field: &str) -> i32 {
        self.message.get_field_by_name(field).and_then(|value| value.as_enum_number()).unwrap_or(0)
    }

    /// The message of a field. `None` where it is not set.
    #[must_use]
    pub fn inner(&self, field: &str) -> Option<Self> {
        if !self.message.has_field_by_name(field) {
            return None;
        }
        self.message.get_field_by_name(field).and_then(|value| value.as_message().cloned()).map(|message| Self { message })
    }

    /// The messages of a repeated field.
    #[must_use]
    pub fn list(&self, field: &str) -> Vec<Self> {
        let value = self.message.get_field_by_name(field);
        let list = value.as_deref().and_then(Value::as_list).unwrap_or(&[]);
        list.iter().filter_map(|value| value.as_message().cloned()).map(|message| Self { message }).collect()
    }

    /// The name of the field that is set of a oneof; empty where none is.
    #[must_use]
    pub fn which(&self, oneof: &str) -> String {
        let descriptor = self.message.descriptor();
        let found = descriptor.oneofs().find(|one| one.name() == oneof);
        found
            .and_then(|one| one.fields().find(|field| self.message.has_field(field)))
            .map(|field| field.name().to_owned())
            .unwrap_or_default()
    }
}

/// Whether an rpc is one request and one answer. `None`: there is none of that path.
#[must_use]
pub fn is_unary(rpc: &str) -> Option<bool> {
    method(rpc).map(|method| !method.is_client_streaming() && !method.is_server_streaming())
}

fn method(rpc: &str) -> Option<MethodDescriptor> {
    let (service, name) = rpc.strip_prefix('/')?.split_once('/')?;
    let service = descriptor::pool().get_service_by_name(service)?;
    service.methods().find(|method| method.name() == name)
}

/// As JSON with sorted keys, whatever features serde_json is built with.
fn write(value: &serde_json::Value, text: &mut String) {
    match value {
        serde_json::Value::Array(list) => {
            text.push('[');
            for (place, one) in list.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write(one, text);
            }
            text.push(']');
        }
        serde_json::Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            text.push('{');
            for (place, name) in names.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                text.push_str(&serde_json::Value::String(name.clone()).to_string());
                text.push(':');
                write(fields.get(name).unwrap_or(&serde_json::Value::Null), text);
            }
            text.push('}');
        }
        plain @ (serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_)) => {
            text.push_str(&plain.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::v1;

    const RESTORE: &str = "/muster.v1.RecoveryService/Restore";

    #[test]
    fn two_requests_that_mean_the_same_have_the_same_form_and_the_request_id_is_no_part_of_it() {
        let request = |id: &str, order: &[u32]| {
            let tablespaces = order.iter().map(|oid| (*oid, format!("/srv/{oid}"))).collect();
            let message = v1::RestoreRequest { component: "docs".into(), request_id: id.into(), tablespaces, ..Default::default() };
            Read::request(RESTORE, &message.encode_to_vec()).unwrap()
        };
        let one = request("a", &[3, 1, 2]);
        assert_eq!(one.canonical(), request("b", &[2, 3, 1]).canonical());
        assert_eq!(one.canonical().unwrap(), r#"{"component":"docs","tablespaces":{"1":"/srv/1","2":"/srv/2","3":"/srv/3"}}"#);
        assert_eq!((one.text("component").as_str(), one.text("request_id").as_str(), one.text("no_such")), ("docs", "a", String::new()));
    }

    #[test]
    fn fields_are_read_by_name_and_what_is_no_request_is_none() {
        let resource =
            v1::Resource { name: "ankara".into(), spec: Some(v1::resource::Spec::Site(v1::SiteSpec::default())), ..Default::default() };
        let apply = v1::ApplyRequest { resources: vec![resource], dry_run: true, ..Default::default() };
        let read = Read::request("/muster.v1.InventoryService/Apply", &apply.encode_to_vec()).unwrap();
        let told: Vec<_> = read.list("resources").iter().map(|one| (one.which("spec"), one.text("name"))).collect();
        assert_eq!((told, read.is("dry_run")), (vec![("site".to_owned(), "ankara".to_owned())], true));
        let answer = v1::BackupResponse { operation: Some(v1::Operation { id: "ab".into(), ..Default::default() }) };
        let answer = Read::answer("/muster.v1.RecoveryService/Backup", &answer.encode_to_vec()).unwrap();
        assert_eq!(answer.inner("operation").unwrap().text("id"), "ab");
        assert!(Read::request(RESTORE, &[0xff]).is_none() && Read::request("/x/Y", &[]).is_none());
        assert_eq!((is_unary(RESTORE), is_unary("/muster.v1.OperationService/Watch"), is_unary("/x/Y")), (Some(true), Some(false), None));
    }
}
