//! What makes a process: configuration, telemetry, task gates, shutdown.
