//! One controller at a time on a PostgreSQL store: an advisory lock of a session of its own, looked at every second.
//!
//! What always holds: while the session is not known to hold the lock, nothing is begun; when another controller began a term meanwhile,
//! this process's writing is over for good. The term, which each write compares, is what keeps the data right; the lock keeps a second
//! controller from starting.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection};
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::error::StoreError;
use crate::store::postgres::timed_out;

/// The lock's number: `muster` and the version of what it stands for.
const KEY: i64 = 0x6d75_7374_6572_0001;
/// How often the session is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the lock is waited for at a start: the session of a process that was just killed ends a moment after it.
const START: Duration = Duration::from_secs(2);

/// What is known of the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    Held,
    /// The server cannot be reached, or the lock is not ours: why.
    Away(String),
    /// It is over: why.
    Ended(String),
}

/// The lock's keeper. When the last clone is dropped, the session ends.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    hold: Arc<watch::Sender<Hold>>,
    release: mpsc::Sender<oneshot::Sender<()>>,
    shown: String,
}

impl Guard {
    /// Takes the lock in this session, and keeps it.
    pub(super) async fn take(mut session: PgConnection, options: PgConnectOptions, shown: String) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { place: shown.clone(), source };
        let began = tokio::time::Instant::now();
        while !lock(&mut session).await.map_err(failed)? {
            if began.elapsed() > START {
                let holder = holder(&mut session).await.map_err(failed)?;
                return Err(StoreError::Locked { place: shown, holder });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let hold = Arc::new(watch::channel(Hold::Held).0);
        let (release, released) = mpsc::channel(1);
        let keeper = Keeper { hold: Arc::downgrade(&hold), options };
        tokio::spawn(keeper.run(session, released));
        Ok(Self { hold, release, shown })
    }

    /// Whether the server can be reached.
    pub(super) fn reachable(&self) -> Result<(), StoreError> {
        match &*self.hold.borrow() {
            Hold::Held | Hold::Ended(_) => Ok(()),
            Hold::Away(why) => Err(StoreError::Away { place: self.shown.clone(), why: why.clone() }),
        }
    }

    /// Whether this process may write.
    pub(super) fn may_write(&self) -> Result<(), StoreError> {
        match &*self.hold.borrow() {
            Hold::Held => Ok(()),
            Hold::Away(why) => Err(StoreError::Away { place: self.shown.clone(), why: why.clone() }),
            Hold::Ended(why) => Err(StoreError::Ended { why: why.clone() }),
        }
    }

    /// Ends this process's writing for good.
    pub(super) fn end(&self, why: String) {
        self.hold.send_replace(Hold::Ended(why));
    }

    /// Waits until writing is over for good; tells why.
    pub(super) async fn ended(&self) -> String {
        let mut hold = self.hold.subscribe();
        loop {
            if let Hold::Ended(why) = &*hold.borrow_and_update() {
                return why.clone();
            }
            if hold.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Lets go of the lock.
    pub(super) async fn release(&self) {
        let (done, told) = oneshot::channel();
        if self.release.send(done).await.is_ok() {
            // An error says that the keeper has ended, and with it the session.
            drop(told.await);
        }
    }
}

struct Keeper {
    hold: std::sync::Weak<watch::Sender<Hold>>,
    options: PgConnectOptions,
}

impl Keeper {
    async fn run(self, session: PgConnection, mut released: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut session = Some(session);
        loop {
            tokio::select! {
                asked = released.recv() => {
                    if let Some(session) = session.take()
                        && let Ok(Err(error)) = tokio::time::timeout(ANSWER, session.close()).await
                    {
                        tracing::debug!(%error, "end the session of the store's lock");
                    }
                    if let Some(done) = asked {
                        // Whoever asked may have gone: then nobody is to be told.
                        done.send(()).unwrap_or(());
                    }
                    return;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            let Some(hold) = self.hold.upgrade() else { return };
            if matches!(*hold.borrow(), Hold::Ended(_)) {
                continue;
            }
            let looked = match session.take() {
                Some(held) => look(held).await,
                None => self.again().await,
            };
            match looked {
                Ok(held) => {
                    if matches!(*hold.borrow(), Hold::Away(_)) {
                        tracing::info!("the store's server is back, and its lock is held");
                        hold.send_if_modified(|now| replace(now, Hold::Held));
                    }
                    session = Some(held);
                }
                Err(error) => {
                    if matches!(*hold.borrow(), Hold::Held) {
                        tracing::error!(%error, "the store's lock is not held any more: nothing is written until it is again");
                    }
                    hold.send_if_modified(|now| replace(now, Hold::Away(error.to_string())));
                }
            }
        }
    }

    /// A new session that holds the lock. Whether another began a term meanwhile is seen by the next write.
    async fn again(&self) -> Result<PgConnection, sqlx::Error> {
        let mut session = tokio::time::timeout(ANSWER, self.options.connect()).await.map_err(|_| timed_out())??;
        if lock(&mut session).await? {
            return Ok(session);
        }
        let holder = holder(&mut session).await?;
        Err(sqlx::Error::Protocol(format!("the store's lock is held by {holder}")))
    }
}

/// What has ended stays so.
fn replace(now: &mut Hold, next: Hold) -> bool {
    let changes = !matches!(now, Hold::Ended(_)) && *now != next;
    if changes {
        *now = next;
    }
    changes
}

async fn look(mut session: PgConnection) -> Result<PgConnection, sqlx::Error> {
    tokio::time::timeout(ANSWER, session.ping()).await.map_err(|_| timed_out())??;
    Ok(session)
}

async fn lock(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(KEY).fetch_one(session);
    tokio::time::timeout(ANSWER, asked).await.map_err(|_| timed_out())?
}

/// Who holds the lock, in words.
async fn holder(session: &mut PgConnection) -> Result<String, sqlx::Error> {
    let asked = "SELECT coalesce(a.application_name, '') || ' from ' || coalesce(host(a.client_addr), 'its own machine') || ', since ' || \
                 coalesce(to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC', 'some time') \
                 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND (CAST(l.classid AS BIGINT) << 32) + CAST(l.objid AS BIGINT) = $1";
    let found: Option<String> = sqlx::query_scalar(asked).bind(KEY).fetch_optional(session).await?;
    Ok(found.unwrap_or_else(|| "a session that has just ended; try again".to_owned()))
}
