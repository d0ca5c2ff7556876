//! Commands to agents: journaled before they are sent, with their outcomes; and what agents remember.

use muster_common::counter::Term;
use muster_common::id::{CommandId, OperationId, StoreId};
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_wire::proto::agent::v1::{Command, TaskOutcome, task_outcome};
use muster_wire::proto::v1;
use prost::Message;

use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::{Row, query};

/// A command that was issued.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued {
    /// As it was first issued; the term in it is of then.
    pub command: Command,
    /// The agent that it is for.
    pub agent: Name,
    /// Whether its outcome is journaled.
    pub ended: bool,
}

/// Keeps a command, before it is sent.
///
/// # Errors
/// The database's; also where the id is taken.
pub async fn insert(connection: &mut Connection, command: &Command, agent: &Name, step: &str, at: Timestamp) -> Result<(), StoreError> {
    query("INSERT INTO commands (id, operation, step, agent, sequence, term, issued_at, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(&command.id)
        .bind(&command.operation_id)
        .bind(step)
        .bind(agent.as_str())
        .bind(to_sql(command.sequence))
        .bind(to_sql(command.term))
        .bind(at.0)
        .bind(command.encode_to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

/// One command.
///
/// # Errors
/// The database's, or a row that cannot be read.
pub async fn get(connection: &mut Connection, id: CommandId) -> Result<Option<Issued>, StoreError> {
    let row = query("SELECT id, agent, bytes, outcome IS NOT NULL FROM commands WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Keeps the outcome of a command; the first one stays.
///
/// # Errors
/// The database's.
pub async fn end(connection: &mut Connection, id: CommandId, outcome: &TaskOutcome) -> Result<(), StoreError> {
    query("UPDATE commands SET outcome = $1 WHERE id = $2 AND outcome IS NULL")
        .bind(outcome.encode_to_vec())
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Strays that are kept; the oldest are dropped beyond it.
pub const MOST_STRAYS: i64 = 10_000;

/// The longest of them, in bytes.
const MOST_STRAY_BYTES: usize = 16 << 10;

/// Keeps the outcome of a command that this store never issued.
///
/// # Errors
/// The database's.
pub async fn keep_stray(connection: &mut Connection, agent: &Name, outcome: &TaskOutcome, at: Timestamp) -> Result<(), StoreError> {
    query("INSERT INTO strays (command, agent, at, outcome) VALUES ($1, $2, $3, $4) ON CONFLICT (command) DO NOTHING")
        .bind(&outcome.command_id)
        .bind(agent.as_str())
        .bind(at.0)
        .bind(bounded(outcome).encode_to_vec())
        .execute(&mut *connection)
        .await?;
    query("DELETE FROM strays WHERE command IN (SELECT command FROM strays ORDER BY at DESC, command LIMIT 9223372036854775807 OFFSET $1)")
        .bind(MOST_STRAYS)
        .execute(connection)
        .await?;
    Ok(())
}

/// Kept strays are bounded in bytes too: of one that is larger only that it came is kept.
fn bounded(outcome: &TaskOutcome) -> TaskOutcome {
    let length = outcome.encoded_len();
    if length <= MOST_STRAY_BYTES {
        return outcome.clone();
    }
    let fault =
        v1::Fault { message: format!("the outcome had {length} bytes; {MOST_STRAY_BYTES} are kept of a stray"), ..v1::Fault::default() };
    TaskOutcome {
        command_id: outcome.command_id.clone(),
        at: outcome.at,
        outcome: Some(task_outcome::Outcome::Fault(fault)),
        hooks: Vec::new(),
    }
}

/// What an agent remembered when it last said hello, or was sent since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The highest term.
    pub term: Term,
    /// The highest command sequence.
    pub sequence: u64,
}

/// What this store knows that an agent can remember: its last hello, and every command that was issued to it.
///
/// # Errors
/// The database's.
pub async fn memory(connection: &mut Connection, agent: &Name) -> Result<Memory, StoreError> {
    let row = query("SELECT term, sequence FROM memories WHERE agent = $1").bind(agent.as_str()).fetch_optional(&mut *connection).await?;
    let mut memory = match row {
        Some(row) => Memory { term: Term(from_sql(row.try_get(0)?)), sequence: from_sql(row.try_get(1)?) },
        None => Memory::default(),
    };
    let issued: Option<i64> =
        query("SELECT max(sequence) FROM commands WHERE agent = $1").bind(agent.as_str()).fetch_one(connection).await?.try_get(0)?;
    memory.sequence = memory.sequence.max(from_sql(issued.unwrap_or(0)));
    Ok(memory)
}

/// Keeps what an agent remembers.
///
/// # Errors
/// The database's.
pub async fn remember(connection: &mut Connection, agent: &Name, memory: &Memory, store: Option<StoreId>) -> Result<(), StoreError> {
    query(
        "INSERT INTO memories (agent, term, sequence, store_id) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (agent) DO UPDATE SET term = excluded.term, sequence = excluded.sequence, store_id = excluded.store_id",
    )
    .bind(agent.as_str())
    .bind(to_sql(memory.term.0))
    .bind(to_sql(memory.sequence))
    .bind(store.map(|id| id.to_string()).unwrap_or_default())
    .execute(connection)
    .await?;
    Ok(())
}

/// The operation that a command belongs to.
///
/// # Errors
/// Where the row holds none.
pub fn operation_of(issued: &Issued) -> Result<OperationId, StoreError> {
    let text = &issued.command.operation_id;
    text.parse().map_err(|_| StoreError::Corrupt { what: "command", id: issued.command.id.clone(), why: format!("operation {text:?}") })
}

fn read(row: &Row) -> Result<Issued, StoreError> {
    let (id, agent, bytes, ended): (String, String, Vec<u8>, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let corrupt = |why: String| StoreError::Corrupt { what: "command", id: id.clone(), why };
    let command = Command::decode(bytes.as_slice()).map_err(|error| corrupt(error.to_string()))?;
    let agent = agent.parse().map_err(|error: muster_common::name::InvalidName| corrupt(error.to_string()))?;
    Ok(Issued { command, agent, ended })
}
