//! What proves that an instance writes no more: its receipt, an external fence, an operator's word, a lease that ran out.
//!
//! A proof speaks of one possible writer in one reign, for one successor. Bytes that are signed are canonical: a fixed opening,
//! then every field, each of a fixed length or after its own length (docs/formats/receipt.md).

use std::time::Duration;

use muster_common::id::Nonce;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::loss::Loss;
use crate::position::Position;
use crate::reign::Mark;

/// A proof about one possible writer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "snake_case")]
pub enum Proof {
    /// Signed by the agent that kept the instance.
    Receipt(SignedReceipt),
    /// What the site's owner configured has cut it off.
    External(External),
    /// An operator states it.
    Word(Word),
    /// Its lease has provably run out. Only in mode automatic.
    ExpiredLease(ExpiredLease),
}

impl Proof {
    /// What it is called in texts.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Receipt(_) => "receipt",
            Self::External(_) => "external fence",
            Self::Word(_) => "word",
            Self::ExpiredLease(_) => "expired lease",
        }
    }
}

/// How an instance was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// It ended by itself within the bound.
    Clean,
    /// It was killed.
    Killed,
    /// It never ran in that reign: it only stood ready to.
    NeverStarted,
}

/// What the keeper of an instance signs: in `reign` and in `next` it writes never again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// The component.
    pub component: Name,
    /// The instance that is spoken for.
    pub instance: Name,
    /// The reign that it wrote in, or could have.
    pub reign: Mark,
    /// Who comes after.
    pub successor: Name,
    /// In which reign.
    pub next: Mark,
    /// Of the successor's candidacy.
    pub nonce: Nonce,
    /// How it was stopped.
    pub method: Method,
    /// How far it was at the end.
    pub position: Position,
}

impl Receipt {
    /// What is signed.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = b"muster receipt 1\0".to_vec();
        let mut put = |field: &[u8]| {
            bytes.extend((field.len() as u64).to_be_bytes());
            bytes.extend(field);
        };
        put(self.component.as_str().as_bytes());
        put(self.instance.as_str().as_bytes());
        put(&self.reign.epoch.0.to_be_bytes());
        put(self.reign.id.as_bytes());
        put(self.successor.as_str().as_bytes());
        put(&self.next.epoch.0.to_be_bytes());
        put(self.next.id.as_bytes());
        put(self.nonce.as_bytes());
        put(match self.method {
            Method::Clean => b"clean",
            Method::Killed => b"killed",
            Method::NeverStarted => b"never started",
        });
        put(&self.position.canonical());
        bytes
    }
}

/// A receipt and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// What is said.
    pub receipt: Receipt,
    /// Over [`Receipt::canonical`], by the agent's identity key.
    pub signature: Vec<u8>,
    /// The signer's certificates, leaf first, DER; judged as of the signing.
    pub chain: Vec<Vec<u8>>,
}

/// A run of the external fence that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct External {
    /// The instance that was cut off.
    pub instance: Name,
    /// For which reign.
    pub next: Mark,
    /// The nonce of the successor's candidacy: the run came after it. A run before the move proves nothing.
    pub nonce: Nonce,
    /// The hook.
    pub hook: String,
    /// The end of what it said.
    pub output: String,
}

/// What an operator states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// The machine is off. That the database is down is no such statement: it may be started again.
    MachineOff,
    /// The agent's own fence was run there and said that it holds.
    FencedThere,
}

/// An operator's recorded word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Word {
    /// Who gives it.
    pub operator: Name,
    /// About whom.
    pub instance: Name,
    /// For which reign: a word is for one move.
    pub next: Mark,
    /// What is stated.
    pub states: Statement,
    /// What may be lost at most: shown before, and typed.
    pub ceiling: Loss,
    /// When, by the operator's clock; for the record only.
    pub at: Timestamp,
    /// By the operator's own key over the same fields, where the client can.
    pub signature: Vec<u8>,
}

/// A lease that ran out. Its place is here; the rules that accept it come with mode automatic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExpiredLease {
    /// Who held it.
    pub instance: Name,
    /// In which reign.
    pub reign: Mark,
    /// The longest time to live that was given in that reign.
    pub longest: Duration,
    /// How long ago the last renewal was answered.
    pub since: Duration,
}
