//! A whole store into an empty one, of the same database or the other, while no controller runs on either.
//!
//! What always holds: both are locked; what is copied is one moment; the copy is committed as a whole, after every table was read back and
//! compared; the source is not changed. The copy keeps the store's id and where it last ran: the controller that starts on it takes it for
//! moved, and asks the agents before it goes on with what was under way.

use crate::store::error::StoreError;
use crate::store::place::Place;
use crate::store::sql::query;
use crate::store::tables::{self, Sum, Table};
use crate::store::{Base, Connection, schema};

/// A table that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

/// Copies; tells the tables.
///
/// # Errors
/// Where one of them is open, the source is none of this build's schema, or the target holds anything.
pub async fn copy(from: &Place, to: &Place) -> Result<Vec<Copied>, StoreError> {
    if let Place::File(path) = from
        && !path.exists()
    {
        return Err(StoreError::NoStore { place: from.to_string() });
    }
    let source = Base::open(from).await?;
    let target = Base::open(to).await?;
    let copied = copy_open(&source, &target, from, to).await;
    source.close().await;
    target.close().await;
    copied
}

async fn copy_open(source: &Base, target: &Base, from: &Place, to: &Place) -> Result<Vec<Copied>, StoreError> {
    let mut reading = source.read().await?;
    match schema::version(&mut reading).await? {
        0 => return Err(StoreError::NoStore { place: from.to_string() }),
        found if found < schema::KNOWN => return Err(StoreError::OlderSchema { place: from.to_string(), found, known: schema::KNOWN }),
        found if found > schema::KNOWN => return Err(StoreError::NewerSchema { found, known: schema::KNOWN }),
        _ => {}
    }
    let mut writing = target.begin_making().await?;
    if !tables::all(&mut writing).await?.is_empty() {
        return Err(StoreError::NotEmpty { place: to.to_string() });
    }
    schema::migrate(&mut writing).await?;
    let copied = fill(&mut reading, &mut writing).await?;
    query("COMMIT").execute(&mut writing).await?;
    Ok(copied)
}

/// Every row of every table; each table is read back.
pub(super) async fn fill(reading: &mut Connection, writing: &mut Connection) -> Result<Vec<Copied>, StoreError> {
    let described = tables::all(reading).await?;
    if described != tables::all(writing).await? {
        return Err(StoreError::Corrupt { what: "store", id: "tables".into(), why: "the two have not the same tables".into() });
    }
    let mut copied = Vec::new();
    for table in described {
        let read = fill_table(reading, writing, &table).await?;
        let written = tables::sum(writing, &table).await?;
        if read != written {
            let why = format!("{} rows were read, {} written, and they differ", read.rows, written.rows);
            return Err(StoreError::Corrupt { what: "table", id: table.name, why });
        }
        copied.push(Copied { table: table.name, rows: read.rows });
    }
    Ok(copied)
}

async fn fill_table(reading: &mut Connection, writing: &mut Connection, table: &Table) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    loop {
        let rows = tables::page(reading, table, sum.rows).await?;
        if rows.is_empty() {
            return Ok(sum);
        }
        for row in rows {
            sum.add(&row);
            tables::put(writing, table, row).await?;
        }
    }
}
