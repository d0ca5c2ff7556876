//! A real controller over real mutual TLS on loopback, with real certificates.

mod calls;
mod enrolling;
mod inventory;
mod links;
mod process;
mod world;
