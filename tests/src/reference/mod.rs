//! The book's reference, made from the protocol's own comments: nothing in it is written twice.
//!
//! `make reference` writes it; the test `reference` fails where what is committed is not what would be written.

pub mod api;
pub mod commands;
pub mod protocol;
pub mod schema;
pub mod validate;

use protocol::Protocol;

/// Every generated file, by its path from the root of the sources.
///
/// # Panics
/// Where the descriptors that we were built with cannot be read, which is a defect.
#[must_use]
pub fn pages() -> Vec<(&'static str, String)> {
    let protocol = Protocol::of_this_build();
    vec![
        ("docs/reference/api.md", api::page(&protocol)),
        ("docs/reference/json.md", commands::page()),
        ("docs/reference/muster.schema.json", format!("{:#}\n", schema::document(&protocol))),
    ]
}
