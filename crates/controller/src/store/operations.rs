//! Operations: one row each, with the journaled state as text that this module does not read.

use muster_common::counter::EventNumber;
use muster_common::id::OperationId;
use muster_common::name::Name;
use muster_common::time::Timestamp;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::{Row, query};

/// One operation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: OperationId,
    /// Its place in the order of acceptance.
    pub number: u64,
    /// Its kind's name.
    pub kind: String,
    /// Its phase's name.
    pub phase: String,
    /// Whether it has ended.
    pub ended: bool,
    /// The component.
    pub component: String,
    /// The instance.
    pub instance: String,
    /// The repository. Empty: none.
    pub repository: String,
    /// Who or what caused it.
    pub cause: String,
    /// The operation that it is a part of. Empty: none.
    pub parent: String,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// The version of `journal`.
    pub state_version: u32,
    /// The journaled state.
    pub journal: String,
    /// The number of its newest event.
    pub last_event: EventNumber,
}

/// Keeps a new operation and gives it its number.
///
/// # Errors
/// The database's; also where the id is taken.
pub async fn insert(connection: &mut Connection, record: &mut Record) -> Result<(), StoreError> {
    let number: i64 = query("SELECT coalesce(max(number), 0) + 1 FROM operations").fetch_one(&mut *connection).await?.try_get(0)?;
    record.number = from_sql(number);
    query(
        "INSERT INTO operations (id, number, kind, phase, ended, component, instance, repository, cause, parent, created, finished, \
         state_version, journal, last_event) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(record.id.to_string())
    .bind(number)
    .bind(&record.kind)
    .bind(&record.phase)
    .bind(i64::from(record.ended))
    .bind(&record.component)
    .bind(&record.instance)
    .bind(&record.repository)
    .bind(&record.cause)
    .bind(&record.parent)
    .bind(record.created.0)
    .bind(record.finished.map(|at| at.0))
    .bind(i64::from(record.state_version))
    .bind(&record.journal)
    .bind(to_sql(record.last_event.0))
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what became of an operation, if its newest event is still `seen`; tells whether it was.
///
/// # Errors
/// The database's.
pub async fn update(connection: &mut Connection, record: &Record, seen: EventNumber) -> Result<bool, StoreError> {
    let done = query(
        "UPDATE operations SET phase = $1, ended = $2, finished = $3, state_version = $4, journal = $5, last_event = $6 \
         WHERE id = $7 AND last_event = $8",
    )
    .bind(&record.phase)
    .bind(i64::from(record.ended))
    .bind(record.finished.map(|at| at.0))
    .bind(i64::from(record.state_version))
    .bind(&record.journal)
    .bind(to_sql(record.last_event.0))
    .bind(record.id.to_string())
    .bind(to_sql(seen.0))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One operation.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn get(connection: &mut Connection, id: OperationId) -> Result<Option<Record>, StoreError> {
    let row = query("SELECT * FROM operations WHERE id = $1").bind(id.to_string()).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// The operations whose ids begin with `prefix`: two at most, which is enough to know that it is ambiguous.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn by_prefix(connection: &mut Connection, prefix: &str) -> Result<Vec<Record>, StoreError> {
    let rows =
        query("SELECT * FROM operations WHERE id >= $1 AND id < $1 || 'g' ORDER BY id LIMIT 2").bind(prefix).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// Those that have not ended, oldest first.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn unfinished(connection: &mut Connection) -> Result<Vec<Record>, StoreError> {
    let rows = query("SELECT * FROM operations WHERE ended = 0 ORDER BY number").fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// Those of one component that have not ended, oldest first; without one, those that are of none.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn unfinished_of(connection: &mut Connection, component: Option<&Name>) -> Result<Vec<Record>, StoreError> {
    let rows = query("SELECT * FROM operations WHERE ended = 0 AND component = $1 ORDER BY number")
        .bind(component.map_or("", Name::as_str))
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// How many have not ended.
///
/// # Errors
/// The database's.
pub async fn count_unfinished(connection: &mut Connection) -> Result<u64, StoreError> {
    Ok(from_sql(query("SELECT count(*) FROM operations WHERE ended = 0").fetch_one(connection).await?.try_get(0)?))
}

/// Forgets operations that ended, all but the newest `keep` and none accepted after `horizon`, with their commands; some hundreds at once.
///
/// # Errors
/// The database's.
pub async fn prune(connection: &mut Connection, keep: u64, horizon: Timestamp) -> Result<usize, StoreError> {
    let gone = query(
        "DELETE FROM operations WHERE id IN (SELECT id FROM operations WHERE ended = 1 AND created < $1 \
         AND number <= (SELECT max(number) FROM operations) - $2 ORDER BY number LIMIT 500) RETURNING id",
    )
    .bind(horizon.0)
    .bind(to_sql(keep))
    .fetch_all(&mut *connection)
    .await?;
    for row in &gone {
        let id: String = row.try_get(0)?;
        query("DELETE FROM commands WHERE operation = $1").bind(id).execute(&mut *connection).await?;
    }
    Ok(gone.len())
}

/// Which operations a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this component.
    pub component: Option<Name>,
    /// In the phase of this name.
    pub phase: Option<&'static str>,
    /// Only those that have not ended.
    pub running: bool,
    /// Only those accepted before this one.
    pub before: Option<u64>,
}

/// Operations, newest first, `limit` at most.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn list(connection: &mut Connection, filter: &Filter, limit: u32) -> Result<Vec<Record>, StoreError> {
    let rows = query(
        "SELECT * FROM operations WHERE ($1 = '' OR component = $1) AND ($2 = '' OR phase = $2) AND (ended = 0 OR $3 = 0) AND number < $4 \
         ORDER BY number DESC LIMIT $5",
    )
    .bind(filter.component.as_ref().map_or("", Name::as_str))
    .bind(filter.phase.unwrap_or(""))
    .bind(i64::from(filter.running))
    .bind(filter.before.map_or(i64::MAX, to_sql))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// A component's operations of one kind that ended in this phase, newest first, `limit` at most.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn of_kind(
    connection: &mut Connection,
    component: &Name,
    kind: &str,
    phase: &str,
    limit: u32,
) -> Result<Vec<Record>, StoreError> {
    let rows = query("SELECT * FROM operations WHERE component = $1 AND kind = $2 AND phase = $3 ORDER BY number DESC LIMIT $4")
        .bind(component.as_str())
        .bind(kind)
        .bind(phase)
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// A component's newest operation of one kind that has ended, however it ended.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn last_ended(connection: &mut Connection, component: &Name, kind: &str) -> Result<Option<Record>, StoreError> {
    let row = query("SELECT * FROM operations WHERE component = $1 AND kind = $2 AND ended = 1 ORDER BY number DESC LIMIT 1")
        .bind(component.as_str())
        .bind(kind)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Operations accepted before the place (created, number), newest first, `limit` at most.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn by_age(
    connection: &mut Connection,
    component: Option<&Name>,
    before: (Timestamp, u64),
    limit: u32,
) -> Result<Vec<Record>, StoreError> {
    let rows = query(
        "SELECT * FROM operations WHERE ($1 = '' OR component = $1) AND (created < $2 OR (created = $2 AND number < $3)) \
         ORDER BY created DESC, number DESC LIMIT $4",
    )
    .bind(component.map_or("", Name::as_str))
    .bind(before.0.0)
    .bind(to_sql(before.1))
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Record, StoreError> {
    let id: String = row.try_get("id")?;
    let Ok(parsed) = id.parse() else {
        return Err(StoreError::Corrupt { what: "operation", id, why: "its id is none".into() });
    };
    let version: i64 = row.try_get("state_version")?;
    let state_version = u32::try_from(version).map_err(|error| StoreError::Corrupt { what: "operation", id, why: error.to_string() })?;
    Ok(Record {
        id: parsed,
        number: from_sql(row.try_get("number")?),
        kind: row.try_get("kind")?,
        phase: row.try_get("phase")?,
        ended: row.try_get::<i64, _>("ended")? != 0,
        component: row.try_get("component")?,
        instance: row.try_get("instance")?,
        repository: row.try_get("repository")?,
        cause: row.try_get("cause")?,
        parent: row.try_get("parent")?,
        created: Timestamp(row.try_get("created")?),
        finished: row.try_get::<Option<i64>, _>("finished")?.map(Timestamp),
        state_version,
        journal: row.try_get("journal")?,
        last_event: EventNumber(from_sql(row.try_get("last_event")?)),
    })
}
