//! Where a repository is, and by what it is recognised.

use std::fmt;
use std::path::PathBuf;

use muster_common::id::RepositoryId;

/// The place of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder on this machine or on a mounted file system that has hard links.
    Folder {
        /// The folder; it must exist (an unmounted disk is not to be filled by mistake).
        path: PathBuf,
    },
    /// A bucket of an S3-compatible store.
    S3(S3Location),
}

/// A bucket and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket's name.
    pub bucket: String,
    /// The folder in the bucket; empty is its root.
    pub prefix: String,
    /// The region; `us-east-1` where a store does not care.
    pub region: String,
    /// `https://host[:port]`; absent is AWS. `http://` is taken too.
    pub endpoint: Option<String>,
    /// `endpoint/bucket/key` in place of `bucket.endpoint/key`.
    pub path_style: bool,
    /// PEM certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What requests are signed with.
    pub credentials: Credentials,
}

/// Where the access key comes from. The keys themselves are in no configuration that travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    Environment,
    /// A file on this machine: two lines (key id, secret), or an AWS credentials file (its `[default]` section).
    File(PathBuf),
    /// Requests are not signed.
    None,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path } => write!(f, "{}", path.display()),
            Self::S3(s3) => {
                write!(f, "s3://{}/{}", s3.bucket, s3.prefix.trim_matches('/'))?;
                s3.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {endpoint}"))
            }
        }
    }
}

/// What a repository is recognised by: agents pin both, so that no other one can be put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its id.
    pub id: RepositoryId,
    /// Its Ed25519 public key.
    pub public_key: [u8; 32],
}
