//! A new reign by an operator's word on the spot, with no controller: a follower is promoted, or a stopped writer starts again.
//!
//! The word says of *every* other listed instance that its machine is off: with no controller nobody here knows who else was to write. The
//! pure core checks the claim as it checks a controller's. What always holds: the word is durable before it is used; it is refused while
//! the writer that is known here can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::ReignId;
use muster_common::name::Name;
use muster_failover::command::{Command, Order};
use muster_failover::control::{Control, Role};
use muster_failover::custody::Ask;
use muster_failover::directive::Answer;
use muster_failover::grant::Claim;
use muster_failover::here::Limit;
use muster_failover::loss::Loss;
use muster_failover::proof::{Proof, Statement, Word};
use muster_failover::reign::{Mark, Reign};
use muster_service::clock;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::durable::{self, Format};
use crate::keeper::carry::{Hand, pass};
use crate::local::act::order_here;
use crate::task::perform::blocking;

const FORMAT: Format = Format { magic: "MUSTER-WORD", version: 1 };
/// How long the claim may be carried out.
const LASTS: Duration = Duration::from_secs(120);
/// How long the writer that is known here is tried.
const TRY: Duration = Duration::from_secs(3);

/// What an operator states on the spot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Who.
    pub operator: Name,
    /// In their own words; kept.
    pub text: String,
    /// Whose machines are off.
    pub off: BTreeSet<Name>,
}

/// The word as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptWord {
    spoken: Spoken,
    reign: Reign,
    at: muster_common::time::Timestamp,
}

impl Hand<'_> {
    /// Opens a reign of this instance by word.
    ///
    /// # Errors
    /// What stands against it.
    pub async fn by_word(&mut self, spoken: &Spoken, starts: bool) -> Result<Answer, Fault> {
        self.settle().await?;
        let control = self.control()?;
        let own = match (&control.role, starts) {
            (Role::Stopped { reign, .. }, true) => Some(*reign),
            (Role::Follower { .. }, false) => None,
            (role, _) => {
                let verb = if starts { "start" } else { "promote" };
                return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{verb} {}: it is {role:?}", self.keeper.name))
                    .hint("`start` is for a stopped writer, `promote` for a follower: muster-agent status"));
            }
        };
        if let Some(silent) = control.others.iter().find(|other| !spoken.off.contains(*other)) {
            return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{}: {silent} may write", self.keeper.name))
                .hint(format!("switch its machine off, then say so: --off {silent}")));
        }
        self.nobody_answers(&control).await?;
        let cancel = CancellationToken::new();
        let Answer::Pledged { nonce, .. } = self.order(&cancel, &order_here(&control, Order::Pledge { lasts: LASTS })).await? else {
            return Err(self.strange());
        };
        let control = self.control()?;
        let last = control.line.last();
        let epoch = last.epoch.next().ok_or_else(|| self.strange())?;
        let id = ReignId::from_bytes(rand::random());
        let reign = Reign { epoch, id, writer: control.instance.clone(), parent: Some(last.id) };
        let line = control.line.then(reign.mark());
        self.keep_word(spoken, &reign).await?;
        let mut proofs: BTreeMap<Name, Proof> = BTreeMap::new();
        let mut possible: BTreeMap<Name, Mark> = control.others.iter().map(|other| (other.clone(), last)).collect();
        for other in possible.keys() {
            proofs.insert(other.clone(), Proof::Word(word(spoken, other, reign.mark())));
        }
        let mut order = order_here(&control, Order::Ask);
        order.line = line.clone();
        order.writer = reign.writer.clone();
        if let Some(own) = own {
            // It gives itself up in its own reign, as it would for anybody else.
            let ask = Ask { reign: own, next: reign.clone(), line: line.clone(), nonce };
            let cede = Command { order: Order::Cede(ask), ..order.clone() };
            let Answer::Ceded(signed) = self.order(&cancel, &cede).await? else { return Err(self.strange()) };
            possible.insert(control.instance.clone(), own);
            proofs.insert(control.instance.clone(), Proof::Receipt(*signed));
        }
        let (loss, ceiling) = (Loss::UNKNOWN, Loss::UNKNOWN);
        let claim = Claim { reign, line, nonce, possible, proofs, held: BTreeMap::new(), loss, ceiling };
        let limit = Some(Limit::after(&self.keepers.here().await?, LASTS));
        self.order(&cancel, &Command { order: Order::Promote(claim), limit, ..order }).await
    }

    /// One that can still see the writer vetoes the word.
    async fn nobody_answers(&self, control: &Control) -> Result<(), Fault> {
        let Some(upstream) = self.record().and_then(|record| record.upstream.clone()) else { return Ok(()) };
        let connecting = tokio::time::timeout(TRY, TcpStream::connect((upstream.host.as_str(), upstream.port))).await;
        if upstream.instance != control.instance && matches!(connecting, Ok(Ok(_))) {
            let message = format!("{}: {} is not off: {}:{} answers", self.keeper.name, upstream.instance, upstream.host, upstream.port);
            return Err(Fault::refused(ErrorKind::FailedPrecondition, message)
                .hint("switch that machine off, or fence it there: muster-agent fence COMPONENT/INSTANCE"));
        }
        Ok(())
    }

    /// Words are kept, one after the other.
    async fn keep_word(&self, spoken: &Spoken, reign: &Reign) -> Result<(), Fault> {
        pass("agent.keeper.word")?;
        let path =
            self.keeper.path.with_file_name(format!("{}.{}.word-{}", self.keeper.name.component, self.keeper.name.instance, reign.epoch.0));
        let word = KeptWord { spoken: spoken.clone(), reign: reign.clone(), at: clock::now() };
        tracing::warn!(instance = %self.keeper.name, operator = %spoken.operator, text = %spoken.text, reign = %reign.mark(), "a reign is opened by word");
        blocking(move || durable::write_json(&path, FORMAT, &word)).await?.map_err(|error| self.keeper.refused(&error))
    }

    fn strange(&self) -> Fault {
        Fault::failed(ErrorKind::Internal, format!("{}: an answer that does not fit", self.keeper.name))
            .hint("please report this with the agent's log")
    }
}

fn word(spoken: &Spoken, about: &Name, next: Mark) -> Word {
    Word {
        operator: spoken.operator.clone(),
        instance: about.clone(),
        next,
        states: Statement::MachineOff,
        ceiling: Loss::UNKNOWN,
        at: clock::now(),
        signature: Vec::new(),
    }
}
