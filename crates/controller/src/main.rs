//! The controller's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_controller::command::main()
}
