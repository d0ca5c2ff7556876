//! Signals: the first SIGTERM or SIGINT asks a process to drain, the second ends it at once, SIGHUP asks it to reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that was told twice to stop (128 + SIGINT, as shells say it).
pub const EXIT_AT_ONCE: i32 = 130;

/// Installs the handlers of SIGTERM and SIGINT. From its return on, the first of them cancels `token`, the second exits the process
/// with [`EXIT_AT_ONCE`].
///
/// # Errors
/// Where the system refuses the handlers.
pub fn on_signal(token: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "asked to stop: draining; a second signal ends the process at once");
        token.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "asked to stop again: ending at once");
        std::process::exit(EXIT_AT_ONCE);
    });
    Ok(())
}

/// SIGHUPs as they come: `recv()` gives `Some(())` for each (several may come as one).
///
/// # Errors
/// Where the system refuses the handler.
pub fn reloads() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
