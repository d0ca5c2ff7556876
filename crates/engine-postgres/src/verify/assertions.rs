//! What the copy must answer. Each statement runs read-only, bounded in time and size, as a role made for it that may read
//! everything and nothing else: who declares an assertion gets no way to run programs or to read files on this machine.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::StreamExt;
use muster_common::fault::{ErrorKind, Fault};
use muster_engine::request::{Assertion, Checked, VerifyCheck, VerifyRequest};
use muster_engine::work::Work;
use tokio_postgres::SimpleQueryMessage;

use crate::backup::cancelled;
use crate::connect::{Session, tell};
use crate::verify::Finding;
use crate::verify::amcheck::OPTIONS;
use crate::verify::server::{Copy, asked_in_vain};

/// An answer is at most this long, and what is shown of one that was not wanted.
const MAX_ANSWER: usize = 64 * 1024;
const MAX_SHOWN: usize = 150;
/// Besides the server's own bound on a statement, so that nothing hangs for ever.
const MARGIN: Duration = Duration::from_secs(30);

/// Asks all of them; what one finds keeps none of the others.
pub async fn run(work: &Work, copy: &Copy, superuser: &str, request: &VerifyRequest) -> Result<Vec<Finding>, Fault> {
    if request.assertions.is_empty() {
        return Ok(Vec::new());
    }
    let role = format!("muster_verify_{}", work.command);
    make_role(copy, superuser, &role, request).await?;
    let mut findings = Vec::new();
    for (number, assertion) in request.assertions.iter().enumerate() {
        work.tell(|progress| progress.phase = format!("assertion {} of {}: {}", number + 1, request.assertions.len(), assertion.name));
        let begun = Instant::now();
        let answer = tokio::select! {
            answer = ask(copy, &role, assertion, request.statement_timeout_seconds) => answer,
            () = work.cancel.cancelled() => return Err(cancelled()),
        };
        findings.push(judge(assertion, answer, begun.elapsed()));
    }
    Ok(findings)
}

fn judge(assertion: &Assertion, answer: Result<String, String>, took: Duration) -> Finding {
    let wanted = assertion.expect.trim_end_matches('\n');
    let wrong = |what: String| Finding::Wrong(vec![format!("assertion {} in {}: {what}", assertion.name, assertion.database)]);
    match answer {
        Ok(got) if got == wanted => Finding::Fine(VerifyCheck {
            name: format!("assertion {}", assertion.name),
            checked: Checked::Passed,
            detail: format!("{} answered {}", assertion.database, shown(&got)),
            seconds: took.as_secs_f64(),
        }),
        Ok(got) => wrong(format!("wanted {}, got {}", shown(wanted), shown(&got))),
        Err(why) => wrong(format!("wanted {}, got an error: {why}", shown(wanted))),
    }
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    if cut.len() < text.len() { format!("{cut:?}… ({} bytes)", text.len()) } else { format!("{cut:?}") }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn make_role(copy: &Copy, superuser: &str, role: &str, request: &VerifyRequest) -> Result<(), Fault> {
    let session = copy.connect(superuser, "template1", OPTIONS).await?;
    let mut sql = format!("CREATE ROLE {role} LOGIN BYPASSRLS; GRANT pg_read_all_data TO {role};");
    let databases: BTreeSet<&str> = request.assertions.iter().map(|assertion| assertion.database.as_str()).collect();
    let rows = session.client.query("SELECT datname::text FROM pg_catalog.pg_database", &[]).await;
    let rows = rows.map_err(|error| asked_in_vain("for its databases", &error))?;
    // One that is not there is told by its own assertion.
    for database in rows.iter().filter_map(|row| row.try_get::<_, String>(0).ok()).filter(|name| databases.contains(name.as_str())) {
        sql.push_str(&format!("GRANT CONNECT ON DATABASE {} TO {role};", quoted(&database)));
    }
    session.client.batch_execute(&sql).await.map_err(|error| asked_in_vain("to make the role for assertions", &error))
}

/// One answer as text: columns separated by a tab, rows by a line break.
async fn ask(copy: &Copy, role: &str, assertion: &Assertion, seconds: u64) -> Result<String, String> {
    let millis = seconds.saturating_mul(1_000);
    let options =
        format!("-c default_transaction_read_only=on -c statement_timeout={millis} -c lock_timeout=10000 -c client_min_messages=error");
    let bound = Duration::from_secs(seconds) + MARGIN;
    let asked = async {
        let session = copy.connect(role, &assertion.database, &options).await.map_err(|fault| fault.message)?;
        read(&session, assertion).await
    };
    tokio::time::timeout(bound, asked).await.unwrap_or_else(|_| Err(format!("no answer in {} s", bound.as_secs())))
}

async fn read(session: &Session, assertion: &Assertion) -> Result<String, String> {
    let said = |error: tokio_postgres::Error| tell(&error);
    // Prepared, it is one statement or refused.
    session.client.prepare(&assertion.sql).await.map_err(said)?;
    let rows = session.client.simple_query_raw(&assertion.sql).await.map_err(said)?;
    let mut rows = std::pin::pin!(rows);
    let mut text = String::new();
    let mut first = true;
    while let Some(message) = rows.next().await {
        let SimpleQueryMessage::Row(row) = message.map_err(said)? else { continue };
        if !std::mem::take(&mut first) {
            text.push('\n');
        }
        for column in 0..row.len() {
            if column > 0 {
                text.push('\t');
            }
            text.push_str(row.try_get(column).map_err(said)?.unwrap_or_default());
        }
        if text.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
        }
    }
    Ok(text)
}

/// Refuses what cannot be asked.
///
/// # Errors
/// Names the assertion.
pub fn check(request: &VerifyRequest) -> Result<(), Fault> {
    match request.assertions.iter().find(|assertion| assertion.sql.contains('\0') || assertion.database.contains('\0')) {
        Some(bad) => Err(Fault::refused(ErrorKind::InvalidArgument, format!("assertion {}: it has a NUL byte in it", bad.name))
            .hint("correct the component's spec and apply it again")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_tells_what_was_wanted_and_what_came() {
        let assertion = Assertion { name: "orders".into(), database: "shop".into(), sql: "select 1".into(), expect: "5\n".into() };
        assert!(matches!(judge(&assertion, Ok("5".into()), Duration::ZERO), Finding::Fine(_)));
        assert_eq!(
            judge(&assertion, Ok("4".into()), Duration::ZERO),
            Finding::Wrong(vec!["assertion orders in shop: wanted \"5\", got \"4\"".into()])
        );
        let Finding::Wrong(lines) = judge(&assertion, Err("relation \"o\" does not exist".into()), Duration::ZERO) else { panic!("fine") };
        assert!(lines.concat().contains("got an error: relation"), "{lines:?}");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
