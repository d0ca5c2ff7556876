//! The audit log's entries, and beside them where their chain begins and ends. It knows no rpc's meaning.
//!
//! What always holds: an entry is never changed; the oldest are forgotten from the front only, by an entry that says up to which and with
//! which hash they ended, in the same transaction.

use muster_common::time::Timestamp;

use crate::audit::chain::{self, Ends, Entry, Known, Phase, Verdict, Walk, What};
use crate::store::Connection;
use crate::store::error::StoreError;
use crate::store::meta::{from_sql, to_sql};
use crate::store::sql::{Row, query};

/// Entries that are read at once.
const PAGE: u32 = 500;
/// Entries that are forgotten at once.
const MOST_FORGOTTEN: u64 = 5_000;
/// A day, in microseconds: by age whole days are forgotten, so that the log is not filled by telling that it was.
const DAY: i64 = 86_400_000_000;

const COLUMNS: &str = "number, at, phase, caller, role, peer, rpc, resource, request_id, digest, answers, outcome, code, message, operation, \
                       left_out, hash";

/// Keeps an entry; gives its number.
///
/// # Errors
/// The database's.
pub async fn append(connection: &mut Connection, what: What) -> Result<u64, StoreError> {
    let what = what.kept();
    let ends = ends(connection).await?;
    // Where somebody changed the ends, what is there stays as it is, and the place is found when the chain is walked.
    let there: Option<i64> = query("SELECT max(number) FROM audit").fetch_one(&mut *connection).await?.try_get(0)?;
    let number = ends.last.max(there.map_or(0, from_sql)).saturating_add(1);
    let hash = chain::hash(&ends.head, number, &what);
    let sql = format!("INSERT INTO audit ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)");
    query(sqlx::AssertSqlSafe(sql))
        .bind(to_sql(number))
        .bind(what.at.0)
        .bind(what.phase.name())
        .bind(&what.caller)
        .bind(&what.role)
        .bind(&what.peer)
        .bind(&what.rpc)
        .bind(&what.resource)
        .bind(&what.request_id)
        .bind(&what.digest)
        .bind(to_sql(what.answers))
        .bind(&what.outcome)
        .bind(i64::from(what.code))
        .bind(&what.message)
        .bind(&what.operation)
        .bind(to_sql(what.left_out))
        .bind(&hash)
        .execute(&mut *connection)
        .await?;
    put_ends(connection, &Ends { last: number, head: hash, ..ends }).await?;
    Ok(number)
}

/// Where the chain begins and ends.
///
/// # Errors
/// The database's.
pub async fn ends(connection: &mut Connection) -> Result<Ends, StoreError> {
    let row = query("SELECT first, anchor, last, head FROM audit_chain").fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(Ends::default()) };
    Ok(Ends { first: from_sql(row.try_get(0)?), anchor: row.try_get(1)?, last: from_sql(row.try_get(2)?), head: row.try_get(3)? })
}

async fn put_ends(connection: &mut Connection, ends: &Ends) -> Result<(), StoreError> {
    query(
        "INSERT INTO audit_chain (one, first, anchor, last, head) VALUES (1, $1, $2, $3, $4) \
         ON CONFLICT (one) DO UPDATE SET first = excluded.first, anchor = excluded.anchor, last = excluded.last, head = excluded.head",
    )
    .bind(to_sql(ends.first))
    .bind(&ends.anchor)
    .bind(to_sql(ends.last))
    .bind(&ends.head)
    .execute(connection)
    .await?;
    Ok(())
}

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many entries at most.
    pub rows: u64,
    /// None from before this.
    pub since: Timestamp,
}

/// Forgets the oldest entries beyond what is kept, a few thousand at most, and says so in an entry; tells how many.
///
/// # Errors
/// The database's; also where the entry to forget up to is gone, which walking the chain tells more of.
pub async fn forget(connection: &mut Connection, keep: Keep, now: Timestamp) -> Result<u64, StoreError> {
    let ends = ends(connection).await?;
    let Some(cut) = last_to_forget(connection, &ends, keep).await?.filter(|cut| *cut >= ends.first) else { return Ok(0) };
    let cut = cut.min(ends.first.saturating_add(MOST_FORGOTTEN - 1));
    let row = query("SELECT hash FROM audit WHERE number = $1").bind(to_sql(cut)).fetch_optional(&mut *connection).await?;
    let Some(row) = row else {
        return Err(StoreError::Corrupt {
            what: "audit entry",
            id: cut.to_string(),
            why: "it is gone; `muster audit verify` tells more".into(),
        });
    };
    let anchor: String = row.try_get(0)?;
    let what = What {
        at: now,
        phase: Phase::Forgotten,
        caller: "controller".into(),
        digest: anchor.clone(),
        answers: cut,
        message: format!("entries up to {cut} were forgotten, as the retention says"),
        ..What::default()
    };
    append(connection, what).await?;
    let told = self::ends(connection).await?;
    query("DELETE FROM audit WHERE number <= $1").bind(to_sql(cut)).execute(&mut *connection).await?;
    put_ends(connection, &Ends { first: cut.saturating_add(1), anchor, ..told }).await?;
    Ok(cut.saturating_add(1).saturating_sub(ends.first))
}

/// By number a hundredth more than needed is forgotten, by age whole days: what tells of it must not fill the log.
async fn last_to_forget(connection: &mut Connection, ends: &Ends, keep: Keep) -> Result<Option<u64>, StoreError> {
    let held = ends.last.saturating_add(1).saturating_sub(ends.first);
    if held > keep.rows {
        let slack = (keep.rows / 100).max(10);
        return Ok(Some(ends.last.saturating_sub(keep.rows.saturating_sub(slack).max(1))));
    }
    let oldest = query("SELECT at FROM audit WHERE number = $1").bind(to_sql(ends.first)).fetch_optional(&mut *connection).await?;
    let Some(oldest) = oldest else { return Ok(None) };
    if oldest.try_get::<i64, _>(0)? >= keep.since.0.saturating_sub(DAY) {
        return Ok(None);
    }
    let young = query("SELECT min(number) FROM audit WHERE at >= $1").bind(keep.since.0).fetch_one(connection).await?;
    let young: Option<i64> = young.try_get(0)?;
    Ok(Some(young.map_or(ends.last, from_sql).saturating_sub(1)))
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Whose caller holds this text.
    pub caller: String,
    /// Whose resource or operation holds this text.
    pub resource: String,
    /// Also entries `asked` whose outcome is recorded.
    pub every: bool,
    /// Only numbers below this.
    pub before: Option<u64>,
}

/// Entries, newest first, `limit` at most.
///
/// # Errors
/// The database's.
pub async fn list(connection: &mut Connection, filter: &Filter, limit: u32) -> Result<Vec<Entry>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM audit WHERE number < $1 AND at >= $2 AND caller LIKE $3 ESCAPE '\\' \
         AND (resource LIKE $4 ESCAPE '\\' OR operation LIKE $4 ESCAPE '\\') \
         AND ($5 = 1 OR phase <> 'asked' OR NOT EXISTS (SELECT 1 FROM audit o WHERE o.answers = audit.number AND o.phase = 'answered')) \
         ORDER BY number DESC LIMIT $6"
    );
    let rows = query(sqlx::AssertSqlSafe(sql))
        .bind(filter.before.map_or(i64::MAX, to_sql))
        .bind(filter.since.map_or(i64::MIN, |since| since.0))
        .bind(pattern(&filter.caller))
        .bind(pattern(&filter.resource))
        .bind(i64::from(filter.every))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.iter().map(read).collect()
}

/// What `LIKE` takes for: it holds this text.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

/// The hash of one entry.
///
/// # Errors
/// The database's.
pub async fn hash_of(connection: &mut Connection, number: u64) -> Result<Option<String>, StoreError> {
    let row = query("SELECT hash FROM audit WHERE number = $1").bind(to_sql(number)).fetch_optional(connection).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Walks the whole chain. `known` is what others saw of it.
///
/// # Errors
/// The database's.
pub async fn verify(connection: &mut Connection, known: Vec<Known>) -> Result<Verdict, StoreError> {
    let mut walk = Walk::begin(ends(connection).await?, known);
    // What stands before the first that should be there was put in; it is met first.
    let mut after = 0;
    loop {
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE number > $1 ORDER BY number LIMIT $2");
        let rows = query(sqlx::AssertSqlSafe(sql)).bind(to_sql(after)).bind(i64::from(PAGE)).fetch_all(&mut *connection).await?;
        if rows.is_empty() {
            return Ok(walk.end());
        }
        for row in &rows {
            let number = from_sql(row.try_get(0)?);
            let Ok(entry) = read(row) else {
                return Ok(Verdict::Broken { number, why: "it is not what was written there".into() });
            };
            if let Err(verdict) = walk.take(&entry) {
                return Ok(verdict);
            }
            after = number;
        }
    }
}

fn read(row: &Row) -> Result<Entry, StoreError> {
    let number = from_sql(row.try_get(0)?);
    let phase: String = row.try_get(2)?;
    let corrupt = || StoreError::Corrupt { what: "audit entry", id: number.to_string(), why: format!("its phase is {phase:?}") };
    Ok(Entry {
        number,
        what: What {
            at: Timestamp(row.try_get(1)?),
            phase: Phase::named(&phase).ok_or_else(corrupt)?,
            caller: row.try_get(3)?,
            role: row.try_get(4)?,
            peer: row.try_get(5)?,
            rpc: row.try_get(6)?,
            resource: row.try_get(7)?,
            request_id: row.try_get(8)?,
            digest: row.try_get(9)?,
            answers: from_sql(row.try_get(10)?),
            outcome: row.try_get(11)?,
            code: u32::try_from(row.try_get::<i64, _>(12)?).unwrap_or(u32::MAX),
            message: row.try_get(13)?,
            operation: row.try_get(14)?,
            left_out: from_sql(row.try_get(15)?),
        },
        hash: row.try_get(16)?,
    })
}
