//! Scenarios on real servers: PostgreSQL, object stores, controllers and agents as processes of their own. One module a subject.

mod clients;
mod controller_store;
mod cookbook;
mod deployment;
mod forms;
mod kills;
mod postgres;
mod restored_controller;
mod stores;
mod verify;
