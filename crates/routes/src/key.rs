//! The TSIG key of a route: read from a file for each use, so that a new one needs no restart.
//!
//! The secret is nowhere shown, stored or sent; a key is told by its name and algorithm.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use muster_common::fault::{ErrorKind, Fault};
use zeroize::Zeroizing;

use crate::domain::Domain;

/// The most bytes of a key file.
const MOST: u64 = 4_096;

/// What signs with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// hmac-sha256.
    Sha256,
    /// hmac-sha384.
    Sha384,
    /// hmac-sha512.
    Sha512,
}

impl Algorithm {
    /// As key files have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    fn read(text: &str) -> Result<Self, KeyError> {
        let text = text.to_ascii_lowercase();
        let all = [Self::Sha256, Self::Sha384, Self::Sha512];
        all.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(KeyError::Algorithm)
    }
}

/// A key: a name, an algorithm and a secret.
#[derive(Clone)]
pub struct Key {
    /// Its name, which the server knows too.
    pub name: Domain,
    /// Its algorithm.
    pub algorithm: Algorithm,
    secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}:{}:***)", self.algorithm.as_str(), self.name)
    }
}

/// Why a text is no key. It never repeats what it read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither of the two forms.
    #[error("it has neither `key \"NAME\" {{ algorithm …; secret \"…\"; }};` nor a line ALGORITHM:NAME:SECRET")]
    Form,
    /// More than one key.
    #[error("it has more than one key")]
    Several,
    /// The name.
    #[error("the key's name is no name of the DNS")]
    Name,
    /// The algorithm.
    #[error("the algorithm is none of hmac-sha256, hmac-sha384, hmac-sha512")]
    Algorithm,
    /// The secret.
    #[error("the secret is not base64 of 16 bytes or more")]
    Secret,
}

impl Key {
    /// The secret's bytes.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    fn of(algorithm: &str, name: &str, secret: &str) -> Result<Self, KeyError> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(secret).map_err(|_| KeyError::Secret)?;
        let secret = Zeroizing::new(bytes);
        if secret.len() < 16 {
            return Err(KeyError::Secret);
        }
        Ok(Self { name: name.parse().map_err(|_| KeyError::Name)?, algorithm: Algorithm::read(algorithm)?, secret })
    }

    /// From what `tsig-keygen` (BIND) prints, or from `ALGORITHM:NAME:SECRET`, which `keymgr -t` (Knot) prints as a comment.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let line = text.lines().map(|line| line.trim().trim_start_matches(['#', '/']).trim()).find(|line| line.split(':').count() == 3);
        if let Some(line) = line
            && line.starts_with("hmac-")
            && let [algorithm, name, secret] = line.split(':').collect::<Vec<_>>().as_slice()
        {
            return Self::of(algorithm, name, secret);
        }
        let words = words(text);
        let words: Vec<&str> = words.iter().map(|word| word.as_str()).collect();
        match words.as_slice() {
            ["key", name, "{", rest @ ..] => Self::of_statements(name, rest),
            _ => Err(KeyError::Form),
        }
    }

    fn of_statements(name: &str, words: &[&str]) -> Result<Self, KeyError> {
        match words {
            ["algorithm", algorithm, ";", "secret", secret, ";", "}", ";"]
            | ["secret", secret, ";", "algorithm", algorithm, ";", "}", ";"] => Self::of(algorithm, name, secret),
            [.., "key", _, "{", _, _, ";", _, _, ";", "}", ";"] => Err(KeyError::Several),
            _ => Err(KeyError::Form),
        }
    }
}

/// The words of BIND's form: comments and quotes taken off, `{`, `}` and `;` by themselves.
fn words(text: &str) -> Vec<Zeroizing<String>> {
    let mut words = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let line = line.split('#').next().unwrap_or_default();
        let spaced = Zeroizing::new(line.replace('{', " { ").replace('}', " } ").replace(';', " ; "));
        words.extend(spaced.split_whitespace().map(|word| Zeroizing::new(word.trim_matches('"').to_owned())));
    }
    words
}

/// Where a route's key lies on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile(pub PathBuf);

impl KeyFile {
    /// Reads the key.
    ///
    /// # Errors
    /// Where the file is missing, too long, open to everybody, or no key.
    pub fn load(&self) -> Result<Key, Fault> {
        let path = self.0.as_path();
        let text = read_closed(path)?;
        Key::read(&text).map_err(|error| {
            let fault = Fault::refused(ErrorKind::FailedPrecondition, format!("read the TSIG key in {}: {error}", path.display()));
            fault.hint("put one key into it: BIND `tsig-keygen -a hmac-sha256 NAME`, Knot `keymgr -t NAME hmac-sha256`")
        })
    }
}

fn read_closed(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let told = |error: &std::io::Error| {
        let fault = Fault::refused(ErrorKind::FailedPrecondition, format!("read the TSIG key in {}: {error}", path.display()));
        fault.hint("tsigKeyFile is a file on the controller's machine that the controller's user may read")
    };
    let file = std::fs::File::open(path).map_err(|e| told(&e))?;
    let mode = file.metadata().map_err(|e| told(&e))?.permissions().mode();
    if mode & 0o007 != 0 {
        let fault = Fault::refused(
            ErrorKind::FailedPrecondition,
            format!("read the TSIG key in {}: everybody on this machine can", path.display()),
        );
        return Err(fault.hint(format!("chmod 640 {} (it was {:o})", path.display(), mode & 0o777)));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MOST).read_to_string(&mut text).map_err(|e| told(&e))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn the_forms_of_both_servers_are_read_and_the_secret_is_never_shown() {
        for text in [
            format!("key \"mover\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SECRET}\";\n}};\n"),
            format!("# a comment\nkey mover {{ secret \"{SECRET}\"; algorithm hmac-sha256; }};"),
            format!("hmac-sha256:mover:{SECRET}\n"),
            format!("# hmac-sha256:mover:{SECRET}\nkey:\n  - id: mover\n    algorithm: hmac-sha256\n    secret: {SECRET}\n"),
        ] {
            let key = Key::read(&text).expect("a key");
            assert_eq!(
                (key.name.as_str(), key.algorithm, key.secret()),
                ("mover", Algorithm::Sha256, b"0123456789abcdef0123456789abcdef".as_slice())
            );
            assert_eq!(format!("{key:?}"), "Key(hmac-sha256:mover:***)");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let block = format!("key a {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n");
        for (text, error) in [
            (String::new(), KeyError::Form),
            (SECRET.to_owned(), KeyError::Form),
            (format!("{block}{block}"), KeyError::Several),
            (format!("hmac-md5:mover:{SECRET}"), KeyError::Algorithm),
            ("hmac-sha256:mover:c2hvcnQ=".to_owned(), KeyError::Secret),
            ("hmac-sha256:mover:%%%".to_owned(), KeyError::Secret),
            (format!("hmac-sha256:a b:{SECRET}"), KeyError::Name),
        ] {
            let found = Key::read(&text).expect_err("no key");
            assert_eq!(found, error);
            assert!(!found.to_string().contains(SECRET));
        }
    }

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile(folder.path().join("key"));
        assert!(file.load().expect_err("no file").hint.contains("tsigKeyFile"));
        std::fs::write(&file.0, format!("hmac-sha512:mover:{SECRET}")).expect("written");
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o644)).expect("opened");
        assert!(file.load().expect_err("open to all").hint.starts_with("chmod 640"));
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(0o600)).expect("closed");
        assert_eq!(file.load().expect("a key").algorithm, Algorithm::Sha512);
    }
}
