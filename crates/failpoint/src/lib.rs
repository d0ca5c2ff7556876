//! Named places in debug builds where a test can kill, pause or fail the process.
