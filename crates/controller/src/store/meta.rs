//! The store's one row about itself: its id, its term, how far its counters are, where it ran.

use muster_common::counter::{EventNumber, Term};
use muster_common::id::StoreId;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::sql::query;

/// A term that has begun.
pub(super) struct Begun {
    pub(super) term: Term,
    pub(super) store_id: StoreId,
    pub(super) moved_from: Option<String>,
}

/// Numbers are kept as SQL's 64-bit signed integers, whose upper half nothing reaches.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Makes the row where there is none; takes the next term; records where the store runs now.
pub(super) async fn begin_term(connection: &mut Connection, machine: &str, path: &str) -> Result<Begun, StoreError> {
    let Some(row) = query("SELECT store_id, term, machine, path FROM meta").fetch_optional(&mut *connection).await? else {
        let store_id = StoreId::from_bytes(rand::random());
        query("INSERT INTO meta (one, store_id, term, machine, path, sequence, last_event, behind) VALUES (1, $1, 1, $2, $3, 0, 0, '')")
            .bind(store_id.to_string())
            .bind(machine)
            .bind(path)
            .execute(&mut *connection)
            .await?;
        return Ok(Begun { term: Term(1), store_id, moved_from: None });
    };
    let (id, term, old_machine, old_path): (String, i64, String, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let store_id = id.parse().map_err(|_| StoreError::Corrupt { what: "store", id, why: "its id is none".into() })?;
    let term = Term(from_sql(term)).next().filter(|term| term.0 < i64::MAX.unsigned_abs()).ok_or(StoreError::TermsUsedUp)?;
    query("UPDATE meta SET term = $1, machine = $2, path = $3").bind(to_sql(term.0)).bind(machine).bind(path).execute(connection).await?;
    let moved = old_machine != machine || old_path != path;
    Ok(Begun { term, store_id, moved_from: moved.then(|| format!("machine {old_machine}, {old_path}")) })
}

/// The store's id and its term.
///
/// # Errors
/// The database's.
pub async fn identity(connection: &mut Connection) -> Result<(String, Term), StoreError> {
    let row = query("SELECT store_id, term FROM meta").fetch_one(connection).await?;
    Ok((row.try_get(0)?, Term(from_sql(row.try_get(1)?))))
}

pub(super) async fn term(connection: &mut Connection) -> Result<Term, StoreError> {
    let term: i64 = query("SELECT term FROM meta").fetch_one(connection).await?.try_get(0)?;
    Ok(Term(from_sql(term)))
}

pub(super) async fn set_term(connection: &mut Connection, term: Term) -> Result<(), StoreError> {
    query("UPDATE meta SET term = $1").bind(to_sql(term.0)).execute(connection).await?;
    Ok(())
}

/// The highest command sequence that was given out.
///
/// # Errors
/// The database's.
pub async fn sequence(connection: &mut Connection) -> Result<u64, StoreError> {
    let sequence: i64 = query("SELECT sequence FROM meta").fetch_one(connection).await?.try_get(0)?;
    Ok(from_sql(sequence))
}

/// Gives out the next command sequence.
///
/// # Errors
/// The database's.
pub async fn next_sequence(connection: &mut Connection) -> Result<u64, StoreError> {
    let row = query("UPDATE meta SET sequence = sequence + 1 RETURNING sequence").fetch_one(connection).await?;
    Ok(from_sql(row.try_get(0)?))
}

/// Sequences go on above `seen`.
///
/// # Errors
/// The database's.
pub async fn raise_sequence(connection: &mut Connection, seen: u64) -> Result<(), StoreError> {
    query("UPDATE meta SET sequence = $1 WHERE sequence < $1").bind(to_sql(seen)).execute(connection).await?;
    Ok(())
}

/// Gives out the next event number.
///
/// # Errors
/// The database's.
pub async fn next_event(connection: &mut Connection) -> Result<EventNumber, StoreError> {
    let row = query("UPDATE meta SET last_event = last_event + 1 RETURNING last_event").fetch_one(connection).await?;
    Ok(EventNumber(from_sql(row.try_get(0)?)))
}

/// The number of the newest event; 0: there was none.
///
/// # Errors
/// The database's.
pub async fn last_event(connection: &mut Connection) -> Result<EventNumber, StoreError> {
    let number: i64 = query("SELECT last_event FROM meta").fetch_one(connection).await?.try_get(0)?;
    Ok(EventNumber(from_sql(number)))
}

/// Why the store was found to be behind its agents, in words. Empty: it was not.
///
/// # Errors
/// The database's.
pub async fn behind(connection: &mut Connection) -> Result<String, StoreError> {
    Ok(query("SELECT behind FROM meta").fetch_one(connection).await?.try_get(0)?)
}

/// Records why the store is behind.
///
/// # Errors
/// The database's.
pub async fn set_behind(connection: &mut Connection, why: &str) -> Result<(), StoreError> {
    query("UPDATE meta SET behind = $1").bind(why).execute(connection).await?;
    Ok(())
}
