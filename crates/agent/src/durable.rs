//! Small durable files of the agent: a header line with magic, version, checksum and length, then the body.
//!
//! ```text
//! MUSTER-INBOX 1 crc32c:1a2b3c4d 173\n<173 bytes>
//! ```
//!
//! It does not know what a body means. What always holds: a damaged, cut or foreign file is an error that names it, never
//! a default; a newer version is refused.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use muster_service::files::{self, FileError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest file that is read, in bytes. An assignment with 10,000 revocations takes less than 1 MiB.
pub const MAX_BYTES: u64 = 8 << 20;

/// One kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The first word of the file.
    pub magic: &'static str,
    /// The version that is written; each up to it is read.
    pub version: u16,
}

/// Why a durable file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be read, written or removed.
    #[error("use {}: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A newer agent wrote it.
    #[error("{} has version {found} of {magic}, this build reads up to {known}: start the newer agent again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The kind of file.
        magic: &'static str,
        /// Its version.
        found: u16,
        /// The newest that is known here.
        known: u16,
    },
}

/// The whole file for a body.
#[must_use]
pub fn encode(format: Format, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{} {} crc32c:{:08x} {}\n", format.magic, format.version, crc32c::crc32c(body), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The body of a whole file; `path` is for the error only.
///
/// # Errors
/// Where the file is damaged, foreign or newer.
pub fn decode<'a>(format: Format, path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], DurableError> {
    let damaged = |why: &str| DurableError::Damaged { path: path.to_owned(), why: why.to_owned() };
    let end = bytes.iter().take(128).position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no header line"))?;
    let (header, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let header = std::str::from_utf8(header).map_err(|_| damaged("its header is no text"))?;
    let mut words = header.split(' ');
    if words.next() != Some(format.magic) {
        return Err(damaged(&format!("it does not begin with {}", format.magic)));
    }
    let version: u16 = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| damaged("its version is no number"))?;
    if version > format.version {
        return Err(DurableError::Newer { path: path.to_owned(), magic: format.magic, found: version, known: format.version });
    }
    let sum = words.next().and_then(|word| word.strip_prefix("crc32c:")).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let length: usize = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| damaged("its length is no number"))?;
    if body.len() != length {
        return Err(damaged(&format!("it has {} bytes behind its header instead of {length}", body.len())));
    }
    if sum != Some(crc32c::crc32c(body)) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(body)
}

/// Writes a body durably, readable by its owner alone.
///
/// # Errors
/// As [`files::write_atomically`].
pub fn write(path: &Path, format: Format, body: &[u8]) -> Result<(), DurableError> {
    Ok(files::write_atomically(path, &encode(format, body), 0o600)?)
}

/// Reads a body; `None` where there is no such file.
///
/// # Errors
/// Where the file cannot be read, is damaged, foreign, newer or too long.
pub fn read(path: &Path, format: Format) -> Result<Option<Vec<u8>>, DurableError> {
    let failed = |source| DurableError::Disk { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(DurableError::Damaged { path: path.to_owned(), why: format!("it is longer than {MAX_BYTES} bytes") });
    }
    decode(format, path, &bytes).map(|body| Some(body.to_vec()))
}

/// Writes a value as JSON.
///
/// # Errors
/// As [`write()`].
pub fn write_json<T: Serialize>(path: &Path, format: Format, value: &T) -> Result<(), DurableError> {
    let body = serde_json::to_vec(value)
        .map_err(|error| DurableError::Damaged { path: path.to_owned(), why: format!("it cannot be written as JSON: {error}") })?;
    write(path, format, &body)
}

/// Reads a value that was written as JSON.
///
/// # Errors
/// As [`read`], and where the JSON is not of that type.
pub fn read_json<T: DeserializeOwned>(path: &Path, format: Format) -> Result<Option<T>, DurableError> {
    let Some(body) = read(path, format)? else { return Ok(None) };
    let value = serde_json::from_slice(&body)
        .map_err(|error| DurableError::Damaged { path: path.to_owned(), why: format!("its JSON is not what was expected: {error}") })?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { magic: "MUSTER-TEST", version: 2 };

    #[test]
    fn a_body_comes_back_and_every_flipped_bit_is_found() {
        let path = Path::new("/x");
        let good = encode(FORMAT, b"hello\nworld");
        assert_eq!(decode(FORMAT, path, &good).unwrap(), b"hello\nworld");
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // An older version's number is read by design; its body is still whole.
                if let Ok(body) = decode(FORMAT, path, &bad) {
                    assert_eq!(body, b"hello\nworld", "byte {at} bit {bit}");
                }
            }
            assert!(decode(FORMAT, path, &good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_with_what_to_do() {
        let newer = encode(Format { version: 3, ..FORMAT }, b"x");
        let error = decode(FORMAT, Path::new("/x"), &newer).unwrap_err().to_string();
        assert!(error.contains("version 3") && error.contains("up to 2"), "{error}");
    }

    #[test]
    fn a_file_that_is_absent_is_none_and_one_that_is_cut_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert_eq!(read_json::<String>(&path, FORMAT).unwrap(), None);
        write_json(&path, FORMAT, &"text".to_owned()).unwrap();
        assert_eq!(read_json::<String>(&path, FORMAT).unwrap(), Some("text".to_owned()));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(read_json::<String>(&path, FORMAT), Err(DurableError::Damaged { .. })));
    }
}
