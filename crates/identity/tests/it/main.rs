//! Identity against real TLS over loopback and real tonic services. No mocks: every certificate is signed by a CA of ours (or a foreign
//! one), every refusal is seen by a client.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on ends; these are its helpers")]

mod authority;
mod enrollment;
mod given;
mod parsers;
mod reload;
mod tls;
mod world;
