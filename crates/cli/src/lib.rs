//! `muster`, the operator's command: one file a command, made for three in the morning.
//!
//! What always holds: data goes to standard output, all else to standard error; every refusal says why and what would lift it;
//! nothing is destroyed without the name of what is lost typed, or `--yes`; the exit code tells how it ended ([`exit`]).

pub mod arguments;
pub mod command;
pub mod console;
pub mod context;
pub mod controller;
pub mod exit;
pub mod follow;
pub mod last_page;
pub mod place;
pub mod progress;
pub mod render;
pub mod tar;
