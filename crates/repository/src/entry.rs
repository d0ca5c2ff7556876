//! What a point is made of: files, folders and symbolic links by their raw paths.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_common::time::Timestamp;

use crate::error::Error;

/// The longest path in a point, in bytes.
pub const MAX_PATH: usize = 4_096;
/// The longest component of a path, in bytes.
pub const MAX_PATH_COMPONENT: usize = 255;

/// A path inside a point: raw bytes, relative, `/` between components, none of which is empty, `.`, `..` or holds a NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// Checks the bytes.
    ///
    /// # Errors
    /// Where they could lead out of the folder that a restore goes into, or no file system takes them.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        let good =
            |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && part.len() <= MAX_PATH_COMPONENT && !part.contains(&0);
        if bytes.len() <= MAX_PATH && bytes.split(|b| *b == b'/').all(good) {
            Ok(Self(bytes))
        } else {
            Err(Error::Invalid(format!(
                "{:?} is no path inside a recovery point; expected at most {MAX_PATH} bytes, each part 1 to {MAX_PATH_COMPONENT}, none of them . or ..",
                String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or_default())
            )))
        }
    }

    /// The same from a relative path of the file system.
    ///
    /// # Errors
    /// As [`RelPath::new`].
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        Self::new(path.as_os_str().as_bytes())
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as a relative path, to be joined behind a folder.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// How a file is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Pages of one size in bytes, a power of two from 1,024 to 32,768. The last one may be short.
    Pages {
        /// The size.
        block_size: u32,
    },
    /// Anything else.
    Plain,
}

/// What a file is for, so that a restore can leave groups out or map them elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The data directory.
    Data,
    /// A tablespace, by its OID; the path is relative to the tablespace's folder.
    Tablespace(u32),
    /// Configuration that lies outside of the data directory.
    Config,
    /// Log segments of the point's own span.
    Wal,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path, unique within its group.
    pub path: RelPath,
    /// How it is cut.
    pub kind: FileKind,
    /// The permission bits.
    pub mode: u32,
    /// When it was changed last.
    pub mtime: Timestamp,
    /// How long it is thought to be, in bytes; what is read counts.
    pub size_hint: u64,
    /// What it is for.
    pub group: Group,
}

/// A folder of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its path.
    pub path: RelPath,
    /// The permission bits.
    pub mode: u32,
    /// What it is for.
    pub group: Group,
}

/// A symbolic link of a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymlinkEntry {
    /// Its path.
    pub path: RelPath,
    /// What it points at, raw, at most [`MAX_PATH`] bytes, no NUL. Who restores decides whether to make it.
    pub target: Vec<u8>,
    /// What it is for.
    pub group: Group,
}

impl FileKind {
    /// Checks the block size.
    ///
    /// # Errors
    /// Where it is no power of two from 1 to 32 KiB.
    pub fn check(self) -> Result<(), Error> {
        match self {
            Self::Plain => Ok(()),
            Self::Pages { block_size } if block_size.is_power_of_two() && (1_024..=32_768).contains(&block_size) => Ok(()),
            Self::Pages { block_size } => {
                Err(Error::Invalid(format!("block size {block_size}; expected a power of two from 1024 to 32768")))
            }
        }
    }
}
