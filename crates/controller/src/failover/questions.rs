//! Lets a stopped writer start again that asks by itself, after its machine restarted for example: an unfence that no operator typed.
//!
//! What always holds: it is begun for the recorded writer of a shard that nobody moves, in the reign that it asks for, where every other
//! agent of the component is connected; a pause keeps it from being begun. Whether the writer may start is the operation's to find out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_common::fault::Fault;
use muster_common::id::Nonce;
use muster_common::name::{InstanceName, Name};
use muster_failover::directive::Question;
use muster_failover::shard::ShardRecord;

use crate::agents::link::Agents;
use crate::operation::asked::{Asked, AskedMove, Move, What};
use crate::operation::moves::task::Approval;
use crate::store::shards;

/// How often the questions are looked at.
const TICK: Duration = Duration::from_secs(1);
/// A question that is still open is answered anew after so long, growing to the second.
const AGAIN: Duration = Duration::from_secs(15);
/// See [`AGAIN`].
const AGAIN_AT_MOST: Duration = Duration::from_secs(300);

/// When a question is answered anew.
#[derive(Debug)]
struct Tried {
    asked: Nonce,
    at: Instant,
    pause: Duration,
}

/// Runs until the controller stops.
pub async fn run(agents: Agents) {
    let token = agents.gate.token().clone();
    let mut tried: BTreeMap<InstanceName, Tried> = BTreeMap::new();
    loop {
        let asking = agents.observations.asking();
        tried.retain(|instance, _| asking.contains_key(instance));
        for (instance, question) in asking {
            if tried.get(&instance).is_some_and(|tried| tried.asked == question.asked && Instant::now() < tried.at) {
                continue;
            }
            match answer(&agents, &instance, &question).await {
                Ok(true) => {
                    let before = tried.get(&instance).filter(|tried| tried.asked == question.asked);
                    let pause = before.map_or(AGAIN, |tried| (tried.pause * 2).min(AGAIN_AT_MOST));
                    tried.insert(instance, Tried { asked: question.asked, at: Instant::now() + pause, pause });
                }
                Ok(false) => {}
                Err(_) if token.is_cancelled() => return,
                Err(fault) => tracing::info!(%instance, %fault, "a writer asks whether it may start again, and nothing can be begun yet"),
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// Begins the operation where it can come to anything; tells whether it did.
async fn answer(agents: &Agents, instance: &InstanceName, question: &Question) -> Result<bool, Fault> {
    let declared = agents.assigner.declared();
    let Some(agent) = declared.instances_of(&instance.component).find(|other| other.name == *instance).map(|own| own.agent) else {
        return Ok(false);
    };
    let all_connected = declared.instances_of(&instance.component).all(|instance| agents.courier.is_connected(&instance.agent));
    if !all_connected || agents.pauses.of(&instance.component, agents.clock.now()).is_some() {
        return Ok(false);
    }
    let mut read = agents.store.read().await?;
    let record = shards::get(&mut read, &instance.component).await?.record;
    drop(read);
    if !record.is_some_and(|record| is_of(&record, &instance.instance, question)) {
        return Ok(false);
    }
    let operation = agents.operations.start(asked(instance, &agent)).await?;
    tracing::warn!(%instance, operation = operation.id, "a writer asks whether it may start again");
    Ok(true)
}

/// Whether it is the question of the recorded writer in the present reign, which nobody is about to change.
fn is_of(record: &ShardRecord, instance: &Name, question: &Question) -> bool {
    record.reign.writer == *instance && record.reign.mark() == question.reign && record.is_steady() && record.candidate.is_none()
}

fn asked(instance: &InstanceName, agent: &Name) -> Asked {
    let caller = format!("agent/{agent}");
    Asked {
        cause: caller.clone(),
        caller,
        request_id: None,
        digest: String::new(),
        parent: None,
        stall_limit: None,
        traceparent: String::new(),
        run: None,
        what: What::Move(AskedMove {
            component: instance.component.clone(),
            what: Move::Unfence { instance: Some(instance.instance.clone()), by_itself: true },
            approval: Approval::default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use muster_common::counter::Epoch;
    use muster_common::id::{OperationId, ReignId};
    use muster_failover::reign::Mark;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_recorded_writer_of_the_present_reign_is_answered_while_nobody_moves_it() {
        let record = ShardRecord::first(name("istanbul"), ReignId::from_bytes([1; 16]));
        let question = Question { asked: Nonce::from_bytes([7; 16]), reign: record.reign.mark() };
        assert!(is_of(&record, &name("istanbul"), &question));
        assert!(!is_of(&record, &name("ankara"), &question));
        let earlier = Question { reign: Mark { epoch: Epoch(9), id: ReignId::from_bytes([2; 16]) }, ..question };
        assert!(!is_of(&record, &name("istanbul"), &earlier));
        let moved = record.begin(OperationId::from_bytes([3; 16]), &name("ankara")).unwrap();
        assert!(!is_of(&moved, &name("istanbul"), &question));
    }
}
