//! muster, the operator's command.
