//! Orders of a controller, carried out to their answer. Each round looks and decides anew, so that an order that is resumed after a crash
//! is judged by what is true then.

use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::Nonce;
use muster_engine::keep::Keep;
use muster_engine::work::Work;
use muster_failover::command::{Command, Order, admit};
use muster_failover::control::{Control, Role};
use muster_failover::directive::{Answer, Directive, Errand};
use muster_failover::here::Limit;
use muster_failover::instance::{Told, confirmed, obey, vouch};
use muster_failover::look::Server;
use muster_failover::permit::Confirmation;
use muster_failover::refusal::{Check, Refusal};
use muster_failover::reign::Mark;
use tokio_util::sync::CancellationToken;

use crate::assignment::force::Instance;
use crate::keeper::carry::{Hand, Went};
use crate::keeper::kept::Keepers;
use crate::keeper::look::MOST_ROUNDS;
use crate::keeper::receipt::{self, Signers};
use crate::keeper::record::Record;
use crate::keeper::word::Spoken;
use crate::local::act::order_here;

/// The acts of an instance that can be kept.
fn acts_of(instance: &Instance) -> Result<&dyn Keep, Fault> {
    instance.engine.keep().ok_or_else(|| {
        Fault::refused(ErrorKind::NotAvailable, format!("{}: instances of its kind have no writer that could move", instance.name))
            .hint("only PostgreSQL is kept")
    })
}

impl Keepers {
    /// Carries a directive out.
    ///
    /// # Errors
    /// The refusal, or the act that failed.
    pub async fn obey(&self, instance: &Instance, work: &Work, directive: &Directive, limit: Option<Limit>) -> Result<Answer, Fault> {
        let keeper = self.of(&instance.name);
        let keep = acts_of(instance)?;
        let mut state = keeper.state.lock().await;
        let mut hand = Hand { keepers: self, keeper: &keeper, instance, keep, state: &mut state };
        hand.find().await?;
        let answer = hand.run(work, directive, limit).await;
        // What became of it is told with the next report too, and at once.
        if let (Ok(here), Ok(look)) = (self.here().await, keep.look().await) {
            hand.tell(&here, Some(&look));
        }
        answer
    }
}

impl Keepers {
    /// Stops the writer because somebody on this machine says so.
    ///
    /// # Errors
    /// The refusal, or the act that failed.
    pub async fn stop_here(&self, instance: &Instance) -> Result<Answer, Fault> {
        self.act_here(instance, &OnTheSpot::Stop).await
    }

    /// Opens a reign of the instance because somebody on this machine states that all others are off.
    ///
    /// # Errors
    /// The refusal, or the act that failed.
    pub async fn word_here(&self, instance: &Instance, spoken: &Spoken, starts: bool) -> Result<Answer, Fault> {
        self.act_here(instance, &OnTheSpot::Word { spoken, starts }).await
    }

    async fn act_here(&self, instance: &Instance, what: &OnTheSpot<'_>) -> Result<Answer, Fault> {
        let keeper = self.of(&instance.name);
        let keep = acts_of(instance)?;
        let mut state = keeper.state.lock().await;
        let mut hand = Hand { keepers: self, keeper: &keeper, instance, keep, state: &mut state };
        hand.find().await?;
        let here = self.here().await?;
        if hand.control()?.boot != here.boot {
            hand.settle().await?;
        }
        let done = match what {
            OnTheSpot::Stop => {
                let command = order_here(&hand.control()?, Order::Stop { for_operation: None });
                hand.order(&CancellationToken::new(), &command).await
            }
            OnTheSpot::Word { spoken, starts } => hand.by_word(spoken, *starts).await,
        };
        if let (Ok(here), Ok(look)) = (self.here().await, keep.look().await) {
            hand.tell(&here, Some(&look));
        }
        done
    }
}

/// What is asked on the spot.
enum OnTheSpot<'a> {
    Stop,
    Word { spoken: &'a Spoken, starts: bool },
}

impl Hand<'_> {
    async fn run(&mut self, work: &Work, directive: &Directive, limit: Option<Limit>) -> Result<Answer, Fault> {
        let command = directive.command(limit);
        match &directive.errand {
            Errand::Order(_) => {
                self.adopt_others(directive, &command).await?;
                self.order(&work.cancel, &command).await
            }
            Errand::Vouch { instance, reign, asked: _, lasts } => {
                self.adopt_others(directive, &command).await?;
                self.vouch(directive, instance, *reign, *lasts).await
            }
            Errand::Confirm(confirmation) => {
                self.adopt_others(directive, &command).await?;
                self.confirm(confirmation).await
            }
            Errand::Manage { role } => self.manage(directive, &command, *role).await,
            Errand::Unmanage => Err(Fault::refused(ErrorKind::NotAvailable, format!("let go of {}: not built yet", self.keeper.name))
                .hint("nothing was changed; the server needs its permit after each boot, which the agent gives")),
            Errand::Rejoin => {
                self.adopt_others(directive, &command).await?;
                self.rejoin(work, directive, &command).await
            }
        }
    }

    /// Judges a directive, brings the control file into this boot, and takes the list of the others and the upstream from it.
    ///
    /// # Errors
    /// Where it is not to be obeyed.
    pub async fn adopt_others(&mut self, directive: &Directive, command: &Command) -> Result<(), Fault> {
        let here = self.keepers.here().await?;
        if self.control()?.boot != here.boot {
            self.settle().await?;
        }
        let control = self.control()?;
        admit(&control, &here, command).map_err(|refusal| self.refused(directive.errand.name(), &refusal))?;
        let others = directive.others.iter().filter(|other| **other != control.instance).cloned().collect();
        let sole = control.sole && directive.others.is_empty();
        let next = Control { others, sole, ..control };
        let upstream = directive.upstream.clone().filter(|upstream| upstream.instance != next.instance);
        let upstream = upstream.or_else(|| self.record().and_then(|record| record.upstream.clone()));
        let next = Record { control: next, upstream };
        if self.record() != Some(&next) {
            self.keeper.keep(self.state, next).await?;
        }
        Ok(())
    }

    /// An order of the pure core.
    ///
    /// # Errors
    /// The refusal, or the act that failed.
    pub async fn order(&mut self, cancel: &CancellationToken, command: &Command) -> Result<Answer, Fault> {
        for _ in 0..MOST_ROUNDS {
            if cancel.is_cancelled() {
                return Err(Fault::refused(ErrorKind::Cancelled, format!("{} {}: asked to stop", command.order.name(), self.keeper.name)));
            }
            let here = self.keepers.here().await?;
            if self.control()?.boot != here.boot {
                self.settle().await?;
            }
            let look = self.keep.look().await?;
            let fresh = Nonce::from_bytes(rand::random());
            let acts = {
                let credentials = self.keepers.belonging.credentials();
                let revoked = self.keepers.memory.get().revoked;
                let signers = Signers {
                    own: &self.keeper.name.instance,
                    credentials: &credentials,
                    peers: &self.instance.assigned.peers,
                    revoked: &revoked,
                };
                obey(&self.control()?, &here, &look, command, fresh, &|instance, signed| signers.verify(instance, signed))
            };
            let acts = acts.map_err(|refusal| self.refused(command.order.name(), &refusal))?;
            match self.carry_out(acts).await? {
                Went::Again => {}
                Went::Done(Some(told)) => return self.answer(told, look.position.clone()),
                Went::Done(None) => break,
            }
        }
        Err(Fault::failed(ErrorKind::Internal, format!("{} {}: it does not end", command.order.name(), self.keeper.name))
            .hint("look at the instance's conditions; please report this with the agent's log"))
    }

    fn answer(&mut self, told: Told, position: Option<muster_failover::position::Position>) -> Result<Answer, Fault> {
        Ok(match told {
            Told::Stopped(position) => Answer::Stopped(position),
            // The question is opened by the next look, and reported.
            Told::Asking => Answer::Asking(self.state.question),
            Told::Pledged(nonce) => Answer::Pledged { nonce, position },
            Told::Ceded(receipt) => {
                let signed = receipt::sign(&self.keepers.belonging.credentials(), receipt).map_err(|why| {
                    Fault::failed(ErrorKind::Internal, format!("sign the receipt of {}: {why}", self.keeper.name))
                        .hint("ask again: who ceded signs again")
                })?;
                Answer::Ceded(Box::new(signed))
            }
            Told::Promoted(reign) => Answer::Promoted { reign, position },
            Told::Follows => Answer::Follows,
        })
    }

    async fn vouch(
        &mut self,
        directive: &Directive,
        instance: &muster_common::name::Name,
        reign: Mark,
        lasts: std::time::Duration,
    ) -> Result<Answer, Fault> {
        let here = self.keepers.here().await?;
        let look = self.keep.look().await?;
        let control = self.control()?;
        if control.writer != *instance {
            let refusal = Refusal::new(
                Check::Reign,
                format!("{} is the writer that is known here, not {instance}", control.writer),
                format!("rejoining {instance} as a follower"),
            );
            return Err(self.refused("vouch", &refusal));
        }
        let bound = vouch(&control, &here, &look, reign, lasts).map_err(|refusal| self.refused("vouch", &refusal))?;
        let bound = Control { rule: Some(directive.rule), sequence: directive.sequence, ..bound };
        self.carry_out(vec![muster_failover::instance::Act::Keep(Box::new(bound))]).await?;
        Ok(Answer::Vouched(look.position))
    }

    async fn confirm(&mut self, confirmation: &Confirmation) -> Result<Answer, Fault> {
        let here = self.keepers.here().await?;
        let look = self.keep.look().await?;
        let control = self.control()?;
        if control.role == (Role::Writer { reign: confirmation.reign }) && look.permit && look.server == Server::ReadWrite {
            return Ok(Answer::Started(confirmation.reign));
        }
        let asked = self.state.question.map(|question| question.asked).ok_or_else(|| {
            let refusal = Refusal::new(Check::Pledge, format!("{} asks nothing now", control.instance), "its next report");
            self.refused("confirm", &refusal)
        })?;
        // Which reign the repository records is not read: nothing is recorded there yet.
        let acts = confirmed(&control, &here, &look, confirmation, asked, None).map_err(|refusal| self.refused("confirm", &refusal))?;
        self.carry_out(acts).await?;
        self.state.question = None;
        Ok(Answer::Started(confirmation.reign))
    }

    /// A refusal as a fault: nothing of the order was done by this round.
    #[must_use]
    pub fn refused(&self, what: &str, refusal: &Refusal) -> Fault {
        let kind = match refusal.check {
            Check::Rule | Check::Reign | Check::Conflict | Check::Sequence => ErrorKind::Conflict,
            Check::Limit
            | Check::Phase
            | Check::Role
            | Check::Pledge
            | Check::Custody
            | Check::Proof
            | Check::Position
            | Check::Loss
            | Check::Adopting
            | Check::Mode
            | Check::Server => ErrorKind::FailedPrecondition,
        };
        let mut fault = Fault::refused(kind, format!("{what} {}: {}", self.keeper.name, refusal.evidence))
            .evidence(format!("check: {:?}", refusal.check))
            .hint(format!("lifted by: {}", refusal.lifted_by));
        fault.effect = Effect::None;
        fault
    }
}
