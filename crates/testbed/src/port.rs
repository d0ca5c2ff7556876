//! Ports that stay free until their server has them. A port found by binding `:0` may be given to somebody else before the
//! server starts, and again while it is restarted; so ports come from below the kernel's own range, and a locked file per
//! port keeps worlds of other processes away for as long as the [`Port`] lives.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rand::RngExt as _;

/// Below Linux's range for outgoing connections (32768 and up), above the well-known servers.
const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;

/// A port on 127.0.0.1 that is nobody else's.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Errors
    /// Where the folder of locks cannot be made, or no port is free.
    pub fn take() -> Result<Self> {
        let folder = crate::world::shared_folder("ports")?;
        let start = rand::rng().random_range(0..COUNT);
        for step in 0..COUNT {
            let number = FIRST + (start + step) % COUNT;
            if let Some(lock) = try_lock(&folder.join(number.to_string()))?
                && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
            {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no port is free between {FIRST} and {}", FIRST + COUNT)
    }

    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = match OpenOptions::new().create(true).append(true).open(path) {
        Ok(file) => file,
        // Another user's lock.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Port;

    #[test]
    fn no_two_hold_the_same_port() {
        let ports: Vec<_> = (0..50).map(|_| Port::take().unwrap()).collect();
        let numbers: BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }
}
