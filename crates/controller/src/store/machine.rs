//! Which machine this is: its machine-id (`man 5 machine-id`), or, where there is none as in some containers, its host name.

use crate::store::error::StoreError;

/// A text that stays the same over boots and differs between machines.
pub(super) fn id() -> Result<String, StoreError> {
    for path in ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname"] {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::File { path: path.into(), source }),
        }
    }
    Ok("unknown".to_owned())
}
