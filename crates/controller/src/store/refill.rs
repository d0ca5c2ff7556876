//! An empty store filled from a backup's tables, at the backup's schema.
//!
//! What always holds: it is locked; all comes in one transaction; what is dropped unfinished leaves nothing.

use crate::store::error::StoreError;
use crate::store::place::Place;
use crate::store::sql::{Value, query};
use crate::store::tables::{self, Table};
use crate::store::{Base, Connection, schema};

/// A store that is being filled.
pub struct Refill {
    base: Base,
    connection: Connection,
    expected: Vec<Table>,
    table: Option<Table>,
}

impl Refill {
    /// Locks the place, which must be empty, and makes the tables of this schema.
    ///
    /// # Errors
    /// Where it is in use or holds anything, or the schema is newer than this build.
    pub async fn begin(place: &Place, version: i64) -> Result<Self, StoreError> {
        if version > schema::KNOWN {
            return Err(StoreError::NewerSchema { found: version, known: schema::KNOWN });
        }
        let base = Base::open(place).await?;
        let mut connection = base.begin_making().await?;
        if !tables::all(&mut connection).await?.is_empty() {
            return Err(StoreError::NotEmpty { place: place.to_string() });
        }
        schema::migrate_to(&mut connection, version).await?;
        let expected = tables::all(&mut connection).await?;
        Ok(Self { base, connection, expected, table: None })
    }

    /// The table that the next rows belong to.
    ///
    /// # Errors
    /// Where the schema has no such table.
    pub async fn table(&mut self, table: Table) -> Result<(), StoreError> {
        if !self.expected.contains(&table) {
            return Err(StoreError::Corrupt { what: "table", id: table.name, why: "this schema has none with these columns".into() });
        }
        self.table = Some(table);
        Ok(())
    }

    /// A row of it.
    ///
    /// # Errors
    /// The database's.
    pub async fn row(&mut self, row: Vec<Value>) -> Result<(), StoreError> {
        match &self.table {
            Some(table) => tables::put(&mut self.connection, table, row).await,
            None => Err(StoreError::Corrupt { what: "row", id: String::new(), why: "it belongs to no table".into() }),
        }
    }

    /// Commits, with where the store comes from: it takes itself for moved when it is opened.
    ///
    /// # Errors
    /// The database's.
    pub async fn commit(mut self, from: &str) -> Result<(), StoreError> {
        query("UPDATE meta SET machine = $1, path = ''").bind(from).execute(&mut self.connection).await?;
        query("COMMIT").execute(&mut self.connection).await?;
        drop(self.connection);
        self.base.close().await;
        Ok(())
    }
}
