//! The generated pages of the book are what would be generated now. With `MUSTER_WRITE=1` they are written: `make reference`.

use std::path::Path;

use muster_tests::reference::{pages, protocol};

#[test]
fn the_reference_is_what_the_protocol_says_now() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    for (path, text) in pages() {
        if std::env::var_os("MUSTER_WRITE").is_some() {
            std::fs::write(root.join(path), text).expect("write a page");
            continue;
        }
        let committed = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        // Not assert_eq: two pages of 3,000 lines help nobody.
        let line = committed.lines().zip(text.lines()).position(|(one, other)| one != other).map_or(0, |at| at + 1);
        assert!(committed == text, "{path} is not what proto/ says now, from line {line} on: `make reference` writes it");
    }
}

#[test]
fn everything_in_the_protocol_has_a_comment() {
    let mut without = Vec::new();
    let all = protocol::Protocol::of_this_build();
    for message in all.messages() {
        if protocol::comment(message.file, &message.path).is_empty() {
            without.push(message.full_name.clone());
        }
        for (at, field) in message.descriptor.field.iter().enumerate() {
            let path = [message.path.as_slice(), &[protocol::MEMBERS, protocol::index(at)]].concat();
            if protocol::comment(message.file, &path).is_empty() {
                without.push(format!("{}.{}", message.full_name, field.name()));
            }
        }
    }
    assert!(without.is_empty(), "without a comment in proto/: {without:?}");
}
