//! The store's tables as rows without meaning, for what moves a whole store: a copy, a backup.
//!
//! What always holds: a table's rows are read within one transaction, a page at a time; [`Sum`] does not depend on their order.

use sha2::{Digest, Sha256};

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::{Row, Value, query};

/// Rows that are read at once.
const PAGE: usize = 200;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
}

/// A table as the database describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, by name.
    pub columns: Vec<(String, Kind)>,
}

/// The number of rows and what they hold, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// The rows.
    pub rows: u64,
    fold: [u8; 32],
}

impl Sum {
    /// Takes one row in.
    pub fn add(&mut self, values: &[Value]) {
        let mut hash = Sha256::new();
        for value in values {
            let (tag, bytes): (u8, Vec<u8>) = match value {
                Value::Number(None) | Value::Text(None) | Value::Bytes(None) => (0, Vec::new()),
                Value::Number(Some(number)) => (1, number.to_be_bytes().to_vec()),
                Value::Text(Some(text)) => (2, text.as_bytes().to_vec()),
                Value::Bytes(Some(bytes)) => (3, bytes.clone()),
            };
            hash.update([tag]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
        for (sum, byte) in self.fold.iter_mut().zip(hash.finalize()) {
            *sum ^= byte;
        }
        self.rows += 1;
    }

    /// The sum of what rows hold, in hexadecimal digits.
    #[must_use]
    pub fn text(&self) -> String {
        hex::encode(self.fold)
    }
}

/// All tables that migrations made, by name. The list of migrations itself is not among them.
///
/// # Errors
/// The database's, or a column of a type that the store does not use.
pub async fn all(connection: &mut Connection) -> Result<Vec<Table>, StoreError> {
    let describe = match connection {
        Connection::Sqlite(_) => {
            "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.name"
        }
        Connection::Postgres(_) => {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns \
             WHERE table_schema = current_schema() ORDER BY table_name COLLATE \"C\", column_name COLLATE \"C\""
        }
    };
    let mut tables: Vec<Table> = Vec::new();
    for row in query(describe).fetch_all(connection).await? {
        let (name, column, kind): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if name == "migrations" {
            continue;
        }
        let kind = match kind.to_ascii_uppercase().as_str() {
            "INTEGER" | "BIGINT" => Kind::Number,
            "TEXT" => Kind::Text,
            "BLOB" | "BYTEA" => Kind::Bytes,
            _ => return Err(StoreError::Corrupt { what: "table", id: name, why: format!("column {column} is {kind}") }),
        };
        match tables.last_mut() {
            Some(table) if table.name == name => table.columns.push((column, kind)),
            Some(_) | None => tables.push(Table { name, columns: vec![(column, kind)] }),
        }
    }
    Ok(tables)
}

/// The rows of a table after the first `skip`, a page of them; fewer than a page: it is the last.
///
/// # Errors
/// The database's.
pub async fn page(connection: &mut Connection, table: &Table, skip: u64) -> Result<Vec<Vec<Value>>, StoreError> {
    let place = match connection {
        Connection::Sqlite(_) => "rowid",
        Connection::Postgres(_) => "ctid",
    };
    // Names come from the database's own description of what migrations made.
    let sql = format!("SELECT {} FROM {} ORDER BY {place} LIMIT {PAGE} OFFSET {skip}", names(table), table.name);
    let rows = query(sqlx::AssertSqlSafe(sql)).fetch_all(connection).await?;
    rows.iter().map(|row| read(row, table)).collect()
}

/// Puts a row in.
///
/// # Errors
/// The database's.
pub async fn put(connection: &mut Connection, table: &Table, values: Vec<Value>) -> Result<(), StoreError> {
    let places: Vec<String> = (1..=table.columns.len()).map(|number| format!("${number}")).collect();
    let sql = format!("INSERT INTO {} ({}) VALUES ({})", table.name, names(table), places.join(", "));
    let asked = values.into_iter().fold(query(sqlx::AssertSqlSafe(sql)), crate::store::sql::Query::bind);
    asked.execute(connection).await?;
    Ok(())
}

/// What a table holds.
///
/// # Errors
/// The database's.
pub async fn sum(connection: &mut Connection, table: &Table) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    loop {
        let rows = page(connection, table, sum.rows).await?;
        rows.iter().for_each(|row| sum.add(row));
        if rows.len() < PAGE {
            return Ok(sum);
        }
    }
}

fn names(table: &Table) -> String {
    table.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn read(row: &Row, table: &Table) -> Result<Vec<Value>, StoreError> {
    let values = table.columns.iter().enumerate().map(|(place, (_, kind))| match kind {
        Kind::Number => Ok(Value::Number(row.try_get(place)?)),
        Kind::Text => Ok(Value::from(row.try_get::<Option<String>, _>(place)?)),
        Kind::Bytes => Ok(Value::Bytes(row.try_get(place)?)),
    });
    values.collect()
}
