//! The descriptors of our messages, decoded once: for YAML, JSON and whoever walks all rpcs.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, EnumDescriptor, EnumValueDescriptor, MessageDescriptor};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(decoded);

#[expect(clippy::expect_used, reason = "the bytes are made by our own build script; a test decodes them")]
fn decoded() -> DescriptorPool {
    DescriptorPool::decode(crate::DESCRIPTORS).expect("the descriptors that this crate was built with")
}

/// All that is in `proto/`, and the well-known messages that it uses.
#[must_use]
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// The descriptor of a message of ours. `None` where there is none of that name.
#[must_use]
pub fn message(full_name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(full_name)
}

/// The full names of all rpcs, as `/muster.v1.RecoveryService/Backup`.
pub fn rpcs() -> impl Iterator<Item = String> {
    let services: Vec<_> = POOL.services().collect();
    services.into_iter().flat_map(|service| {
        let methods: Vec<_> = service.methods().map(|method| format!("/{}/{}", service.full_name(), method.name())).collect();
        methods
    })
}

/// A generated message as a dynamic one. `None` where `full_name` does not name its type.
pub(crate) fn dynamic(message_of_ours: &impl Message, full_name: &str) -> Option<DynamicMessage> {
    DynamicMessage::decode(message(full_name)?, message_of_ours.encode_to_vec().as_slice()).ok()
}

/// `CRITICAL` of `PRIORITY_CRITICAL`: an enum's value without the prefix that Buf's style gives it.
pub(crate) fn short_name(enumeration: &EnumDescriptor, value: &EnumValueDescriptor) -> String {
    let mut prefix = String::new();
    for (at, letter) in enumeration.name().char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            prefix.push('_');
        }
        prefix.push(letter.to_ascii_uppercase());
    }
    prefix.push('_');
    value.name().strip_prefix(&prefix).unwrap_or(value.name()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_crate_was_built_with_can_be_decoded_and_names_all_rpcs() {
        assert!(message("muster.v1.Resource").is_some());
        assert!(message("muster.agent.v1.Command").is_some());
        let rpcs: Vec<_> = rpcs().collect();
        assert!(rpcs.contains(&"/muster.v1.RecoveryService/Backup".to_owned()), "{rpcs:?}");
        assert!(rpcs.contains(&"/muster.agent.v1.LinkService/Session".to_owned()), "{rpcs:?}");
    }

    #[test]
    fn every_enum_value_of_ours_has_the_prefix_of_its_enum() {
        for enumeration in POOL.all_enums().filter(|e| e.full_name().starts_with("muster.")) {
            for value in enumeration.values() {
                assert_ne!(short_name(&enumeration, &value), value.name());
            }
        }
    }
}
