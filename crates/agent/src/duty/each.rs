//! What begins for each assigned instance, once: and again where the instance is assigned anew after it had ended.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use muster_common::name::InstanceName;
use muster_service::tasks::TaskGate;

use crate::agent::Agent;
use crate::assignment::force::Instance;

/// Held for as long as what was begun goes on; it may begin again when this goes.
pub struct Begun {
    name: InstanceName,
    all: Arc<Mutex<BTreeSet<InstanceName>>>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Begins it for each instance that is `wanted`, until the gate closes.
pub async fn each(agent: &Agent, gate: &TaskGate, wanted: impl Fn(&Instance) -> bool, begin: impl Fn(InstanceName, Begun)) {
    let mut assignments = agent.assignments.watch();
    let all: Arc<Mutex<BTreeSet<InstanceName>>> = Arc::default();
    loop {
        let names: Vec<InstanceName> = {
            let in_force = assignments.borrow_and_update();
            in_force.instances.values().filter(|instance| wanted(instance)).map(|instance| instance.name.clone()).collect()
        };
        for name in names {
            if all.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
                begin(name.clone(), Begun { name, all: all.clone() });
            }
        }
        tokio::select! {
            changed = assignments.changed() => if changed.is_err() { return },
            () = gate.token().cancelled() => return,
        }
    }
}
