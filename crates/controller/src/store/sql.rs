//! One way to ask two databases: SQLite in a file, or PostgreSQL. A statement has one text, which both take.
//!
//! It knows no table. What a statement has to keep to: placeholders `$1`, `$2` …; whole numbers, texts and bytes only (a yes or no is 0 or 1);
//! `ON CONFLICT`, `RETURNING` and `IS NULL` as both take them; no `LIMIT -1`; no sum without `CAST(sum(…) AS BIGINT)`, which is no BIGINT on
//! PostgreSQL. Texts compare by their bytes on both. A NUL in a text, which PostgreSQL does not take, is kept as U+FFFD on both.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Postgres, SqlSafeStr, SqlStr, Sqlite, Type};

use crate::store::Connection;
use crate::store::postgres::{STATEMENT, timed_out};

/// One row of an answer.
pub enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

/// What can stand in a column: `i64`, `String`, `Vec<u8>`, each as `Option` too, and the `bool` of an expression.
pub trait Held: Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres> {}

impl<T: Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>> Held for T {}

impl Row {
    /// The value of a column, by its place from 0 or by its name.
    ///
    /// # Errors
    /// Where there is no such column, or it holds something else.
    pub fn try_get<T: Held, I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>>(&self, index: I) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => sqlx::Row::try_get(row, index),
            Self::Postgres(row) => sqlx::Row::try_get(row, index),
        }
    }
}

/// What is bound to a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Number(Option<i64>),
    /// A text.
    Text(Option<String>),
    /// Bytes.
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::from(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Text(None), Self::from)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(bytes))
    }
}

impl From<&Vec<u8>> for Value {
    fn from(bytes: &Vec<u8>) -> Self {
        Self::Bytes(Some(bytes.clone()))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Bytes(bytes)
    }
}

/// A statement with what is bound to it.
#[must_use]
pub struct Query {
    sql: SqlStr,
    values: Vec<Value>,
}

/// A statement. One that is put together while the program runs is given as `sqlx::AssertSqlSafe`, and never holds what others said.
pub fn query(sql: impl SqlSafeStr) -> Query {
    Query { sql: sql.into_sql_str(), values: Vec::new() }
}

/// Binds all values to a statement of one of the two.
macro_rules! bound {
    ($query:expr, $database:ty) => {
        $query.values.into_iter().fold(sqlx::query::<$database>($query.sql), |query, value| match value {
            Value::Number(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(bytes),
        })
    };
}

impl Query {
    /// Binds the next placeholder.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; tells how many rows it changed.
    ///
    /// # Errors
    /// The database's.
    pub async fn execute(self, connection: &mut Connection) -> Result<Done, sqlx::Error> {
        let rows = match connection {
            Connection::Sqlite(connection) => bound!(self, Sqlite).execute(&mut **connection).await?.rows_affected(),
            Connection::Postgres(connection) => in_time(bound!(self, Postgres).execute(&mut **connection)).await?.rows_affected(),
        };
        Ok(Done { rows })
    }

    /// Runs it; gives the first row. `None`: there is none.
    ///
    /// # Errors
    /// The database's.
    pub async fn fetch_optional(self, connection: &mut Connection) -> Result<Option<Row>, sqlx::Error> {
        Ok(match connection {
            Connection::Sqlite(connection) => bound!(self, Sqlite).fetch_optional(&mut **connection).await?.map(Row::Sqlite),
            Connection::Postgres(connection) => in_time(bound!(self, Postgres).fetch_optional(&mut **connection)).await?.map(Row::Postgres),
        })
    }

    /// Runs it; gives the first row.
    ///
    /// # Errors
    /// The database's; also where there is none.
    pub async fn fetch_one(self, connection: &mut Connection) -> Result<Row, sqlx::Error> {
        self.fetch_optional(connection).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// Runs it; gives all rows. Whoever asks bounds them by `LIMIT`, or by what the table can hold.
    ///
    /// # Errors
    /// The database's.
    pub async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match connection {
            Connection::Sqlite(connection) => {
                bound!(self, Sqlite).fetch_all(&mut **connection).await?.into_iter().map(Row::Sqlite).collect()
            }
            Connection::Postgres(connection) => {
                in_time(bound!(self, Postgres).fetch_all(&mut **connection)).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }
}

/// What a statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    rows: u64,
}

impl Done {
    /// How many rows it changed.
    #[must_use]
    pub fn rows_affected(self) -> u64 {
        self.rows
    }
}

/// Runs several statements that are a part of this program, `;` between them.
///
/// # Errors
/// The database's.
pub async fn run_all(sql: impl SqlSafeStr, connection: &mut Connection) -> Result<(), sqlx::Error> {
    match connection {
        Connection::Sqlite(connection) => {
            sqlx::raw_sql(sql).execute(&mut **connection).await?;
        }
        Connection::Postgres(connection) => {
            in_time(sqlx::raw_sql(sql).execute(&mut **connection)).await?;
        }
    }
    Ok(())
}

/// A server that fell silent is given up, and with it the connection.
async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(STATEMENT, asked).await.map_err(|_| timed_out())?
}
