//! What is shown to people. Pure: the same messages and the same instant give the same text.
//!
//! One file a subject; each takes what the controller sent and gives text, and knows neither terminal nor network.

pub mod agents;
pub mod amount;
pub mod audit;
pub mod authority;
pub mod fault;
pub mod findings;
pub mod hooks;
pub mod logs;
pub mod loss;
pub mod moves;
pub mod operation;
pub mod pause;
pub mod points;
pub mod resource;
pub mod retention;
pub mod route;
pub mod schedule;
pub mod status;
pub mod table;
