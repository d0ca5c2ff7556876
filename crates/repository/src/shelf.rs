//! Named files in a folder or a bucket, beside or without a repository: written once each, never overwritten.

use bytes::Bytes;

use crate::error::Error;
use crate::location::Location;
use crate::store::Store;

/// The longest file, in bytes.
pub const MOST_BYTES: u64 = 1 << 30;

/// A place for files.
#[derive(Clone, Debug)]
pub struct Shelf {
    store: Store,
}

impl Shelf {
    /// Names the place; nothing is opened yet.
    ///
    /// # Errors
    /// Where a bucket's credentials cannot be read.
    pub fn open(location: &Location) -> Result<Self, Error> {
        Ok(Self { store: Store::open(location)? })
    }

    /// Writes a new file, and reads it back: what is told of is there.
    ///
    /// # Errors
    /// Where the place refuses, is away or gives other bytes back, or the name is taken by other bytes.
    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let bytes = Bytes::from(bytes);
        self.store.put_new(name, bytes.clone()).await?;
        if self.store.get(name, MOST_BYTES).await? == bytes {
            return Ok(());
        }
        Err(Error::from(crate::error::Damage {
            object: name.to_owned(),
            offset: None,
            what: "other bytes came back than were written".into(),
        }))
    }

    /// A whole file.
    ///
    /// # Errors
    /// Where it is not there or cannot be read.
    pub async fn get(&self, name: &str) -> Result<Bytes, Error> {
        Ok(self.store.get(name, MOST_BYTES).await?)
    }
}
