//! Messages as JSON, for `-o json`, by their descriptors: the canonical mapping of protobuf (<https://protobuf.dev/programming-guides/json/>).
//!
//! So 64-bit numbers are texts, instants RFC 3339, enum values their full names; absent and default fields are left out.

use prost::Message;
use prost_reflect::SerializeOptions;
use serde_json::Value;

use crate::descriptor;

/// A message that could not be shown, which is a defect of ours.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The name is not that of the message's type.
    #[error("{0} does not name the message's type")]
    NotOfThatName(String),
    /// An instant or duration in it is out of its range.
    #[error("show {full_name} as JSON")]
    NotShown {
        /// The message's type.
        full_name: String,
        /// What could not be shown.
        #[source]
        source: serde_json::Error,
    },
}

/// The message as a JSON value. `full_name` names its type: `muster.v1.Operation`.
///
/// # Errors
/// Where `full_name` is another type's, or an instant in the message has no JSON form.
pub fn to_value(message: &impl Message, full_name: &str) -> Result<Value, JsonError> {
    let dynamic = descriptor::dynamic(message, full_name).ok_or_else(|| JsonError::NotOfThatName(full_name.to_owned()))?;
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|source| JsonError::NotShown { full_name: full_name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::proto::v1;

    #[test]
    fn a_message_is_shown_in_protobufs_canonical_json() {
        let operation = v1::Operation {
            id: "ab".repeat(16),
            kind: v1::OperationKind::Backup.into(),
            created_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            last_event: 7,
            ..v1::Operation::default()
        };
        assert_eq!(
            to_value(&operation, "muster.v1.Operation").unwrap(),
            json!({"id": "ab".repeat(16), "kind": "OPERATION_KIND_BACKUP", "createdAt": "1970-01-01T00:00:00Z", "lastEvent": "7"})
        );
    }

    #[test]
    fn a_name_that_is_no_message_is_refused() {
        assert!(to_value(&v1::Operation::default(), "muster.v1.Nothing").is_err());
    }
}
