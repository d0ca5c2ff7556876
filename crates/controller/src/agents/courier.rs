//! Who is connected, and the bounded mailbox of each session.
//!
//! It knows nothing of gRPC streams or of what a message means. What always holds: an agent has one session at most, the newest;
//! a message for an agent that is not connected is dropped, since commands are sent again when it connects; a mailbox that is full
//! ends its session, so that a slow agent costs bounded memory and loses nothing: it connects again and is sent what is unacknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use muster_common::name::Name;
use muster_wire::proto::agent::v1::SessionResponse;
use tokio::sync::{mpsc, watch};

/// Messages that may wait for one session.
pub const MAILBOX: usize = 256;

/// Why a session has to end, as its agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A newer session of the same agent is there.
    Replaced,
    /// Its certificate is revoked.
    Revoked,
    /// It did not take what was sent to it.
    Overflowed,
    /// The controller stops.
    Draining,
}

/// Carries messages to agents. Clones are the same courier.
#[derive(Clone, Debug, Default)]
pub struct Courier {
    shared: Arc<Mutex<Mailboxes>>,
}

#[derive(Debug, Default)]
struct Mailboxes {
    by_agent: BTreeMap<Name, Mailbox>,
    next: u64,
    draining: bool,
}

#[derive(Debug)]
struct Mailbox {
    session: u64,
    // Boxed: a channel keeps room for 32 of them, used or not.
    sender: mpsc::Sender<Box<SessionResponse>>,
    end: watch::Sender<Option<End>>,
}

/// One session's place. When it is dropped the agent counts as not connected, unless a newer session took its place.
#[derive(Debug)]
pub struct Place {
    courier: Courier,
    agent: Name,
    session: u64,
    mail: mpsc::Receiver<Box<SessionResponse>>,
    end: watch::Receiver<Option<End>>,
}

/// What a session has to do next.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once and never stored")]
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Send this.
    Send(SessionResponse),
    /// End.
    End(End),
}

impl Place {
    /// Waits for the next message, unless `only_end`, or until the session has to end. Nothing is lost when it is dropped while it waits.
    pub async fn next(&mut self, only_end: bool) -> Next {
        tokio::select! {
            biased;
            end = self.end.wait_for(Option::is_some) => match end {
                Ok(end) => Next::End(end.clone().unwrap_or(End::Replaced)),
                // The sender leaves only when the mailbox was taken away without a word.
                Err(_) => Next::End(End::Replaced),
            },
            Some(message) = self.mail.recv(), if !only_end => Next::Send(*message),
        }
    }

    /// The number of this session, which grows with each.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut mailboxes = self.courier.lock();
        if mailboxes.by_agent.get(&self.agent).is_some_and(|mailbox| mailbox.session == self.session) {
            mailboxes.by_agent.remove(&self.agent);
        }
    }
}

impl Courier {
    /// Takes the agent's place; an older session of it ends as [`End::Replaced`].
    #[must_use]
    pub fn connect(&self, agent: &Name) -> Place {
        let (sender, mail) = mpsc::channel(MAILBOX);
        let mut mailboxes = self.lock();
        let (end, ended) = watch::channel(mailboxes.draining.then_some(End::Draining));
        mailboxes.next += 1;
        let session = mailboxes.next;
        if let Some(older) = mailboxes.by_agent.insert(agent.clone(), Mailbox { session, sender, end }) {
            older.end.send_replace(Some(End::Replaced));
        }
        Place { courier: self.clone(), agent: agent.clone(), session, mail, end: ended }
    }

    /// Puts a message into the agent's mailbox; tells whether it lies there now.
    pub fn send(&self, agent: &Name, message: SessionResponse) -> bool {
        let mailboxes = self.lock();
        let Some(mailbox) = mailboxes.by_agent.get(agent) else { return false };
        match mailbox.sender.try_send(Box::new(message)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                mailbox.end.send_replace(Some(End::Overflowed));
                false
            }
            // The session is ending already.
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Whether the agent has a session now.
    #[must_use]
    pub fn is_connected(&self, agent: &Name) -> bool {
        self.lock().by_agent.contains_key(agent)
    }

    /// The agents that have a session now, by name.
    #[must_use]
    pub fn connected(&self) -> Vec<Name> {
        self.lock().by_agent.keys().cloned().collect()
    }

    /// Asks the agent's session, if there is one, to end.
    pub fn end(&self, agent: &Name, why: End) {
        if let Some(mailbox) = self.lock().by_agent.get(agent) {
            mailbox.end.send_replace(Some(why));
        }
    }

    /// Asks all sessions to end as [`End::Draining`], and those that come later too.
    pub fn drain(&self) {
        let mut mailboxes = self.lock();
        mailboxes.draining = true;
        for mailbox in mailboxes.by_agent.values() {
            mailbox.end.send_replace(Some(End::Draining));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mailboxes> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::agent::v1::{ControllerHeartbeat, session_response::Message};

    use super::*;

    fn beat(number: u64) -> SessionResponse {
        SessionResponse { message: Some(Message::Heartbeat(ControllerHeartbeat { number, now: None })) }
    }

    fn agent() -> Name {
        "istanbul-db1".parse().unwrap()
    }

    #[tokio::test]
    async fn messages_reach_the_session_in_order_and_are_dropped_without_one() {
        let courier = Courier::default();
        assert!(!courier.send(&agent(), beat(0)));
        let mut place = courier.connect(&agent());
        for n in 1..=3 {
            assert!(courier.send(&agent(), beat(n)));
        }
        for n in 1..=3 {
            assert_eq!(place.next(false).await, Next::Send(beat(n)));
        }
        drop(place);
        assert!(!courier.is_connected(&agent()));
    }

    #[tokio::test]
    async fn a_newer_session_replaces_the_older_and_outlives_its_end() {
        let courier = Courier::default();
        let mut older = courier.connect(&agent());
        let mut newer = courier.connect(&agent());
        assert!(newer.session() > older.session());
        assert_eq!(older.next(true).await, Next::End(End::Replaced));
        drop(older);
        assert!(courier.send(&agent(), beat(1)));
        assert_eq!(newer.next(false).await, Next::Send(beat(1)));
    }

    #[tokio::test]
    async fn a_mailbox_that_is_full_ends_its_session() {
        let courier = Courier::default();
        let mut place = courier.connect(&agent());
        for n in 0..MAILBOX as u64 {
            assert!(courier.send(&agent(), beat(n)));
        }
        assert!(!courier.send(&agent(), beat(0)));
        assert_eq!(place.next(true).await, Next::End(End::Overflowed));
    }

    #[tokio::test]
    async fn draining_ends_those_who_are_there_and_those_who_come() {
        let courier = Courier::default();
        let mut early = courier.connect(&agent());
        courier.drain();
        assert_eq!(early.next(true).await, Next::End(End::Draining));
        let mut late = courier.connect(&"ankara-db1".parse().unwrap());
        assert_eq!(late.next(true).await, Next::End(End::Draining));
    }
}
