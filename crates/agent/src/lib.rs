//! The agent: stands beside the data and does what the controller asks.
