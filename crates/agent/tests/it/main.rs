//! The agent's parts against real files, real processes and real connections.

mod inbox;
