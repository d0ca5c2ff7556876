//! Scenarios on real servers: PostgreSQL, object stores, controllers and agents as processes of their own. One module a subject.

mod audit;
mod ca;
mod clients;
mod clocks;
mod control_plane;
mod controller_store;
mod cookbook;
mod deployment;
mod disaster;
mod dump;
mod faults_crowds;
mod faults_ledger;
mod faults_network;
mod faults_postgres;
mod faults_requests;
mod faults_store;
mod findings;
mod forms;
mod hooks;
mod kills;
mod pair;
mod postgres;
mod prune;
mod restored_controller;
mod stores;
mod verify;
