//! `muster logs`: all that is journaled of one operation, and why it failed, with what the agent's programs said.

use clap::Args;
use muster_common::fault::Fault;
use muster_wire::json;
use muster_wire::proto::v1::operation_service_watch_response::Update;
use muster_wire::proto::v1::{Operation, OperationEvent, OperationServiceWatchRequest};
use muster_wire::status;
use serde_json::json;

use crate::arguments::App;
use crate::console::Output;
use crate::controller::Controller;
use crate::exit::Exit;
use crate::{follow, render};

/// The arguments of `muster logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster logs 3f2a91c0\n  muster logs 3f2a91c0 -o json | jq -r '.events[].text'")]
pub struct Arguments {
    /// The operation: its id, or the first 6 or more digits.
    operation: String,
}

/// Shows them.
///
/// # Errors
/// Where there is no such operation, or the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let operation = follow::get(&controller, &arguments.operation).await?;
    let events = events(&controller, &operation).await?;
    if app.console.output == Output::Text {
        app.console.data(&render::logs::logs(&operation, &events))?;
    } else {
        app.console.value(&value(&operation, &events)?)?;
    }
    Ok(Exit::Ok)
}

/// The operation and its transitions as one value.
///
/// # Errors
/// Where one of them has no JSON form.
pub fn value(operation: &Operation, events: &[OperationEvent]) -> Result<serde_json::Value, Fault> {
    let unshown = |error: json::JsonError| Fault::refused(muster_common::fault::ErrorKind::Internal, error.to_string()).hint("try -o text");
    let operation = json::to_value(operation, "muster.v1.Operation").map_err(unshown)?;
    let events: Result<Vec<_>, _> = events
        .iter()
        .map(|event| {
            // The operation after each transition would drown what happened.
            json::to_value(&OperationEvent { operation: None, ..event.clone() }, "muster.v1.OperationEvent")
        })
        .collect();
    Ok(json!({ "operation": operation, "events": events.map_err(unshown)? }))
}

/// The transitions of an operation up to now.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn events(controller: &Controller, operation: &Operation) -> Result<Vec<OperationEvent>, Fault> {
    let request = OperationServiceWatchRequest { id: operation.id.clone(), after_event: 0 };
    let told = |status: tonic::Status| controller.explained(status::fault(&status));
    let mut stream = controller.operation().watch(request).await.map_err(told)?.into_inner();
    let mut events = Vec::new();
    while let Some(answer) = stream.message().await.map_err(told)? {
        if let Some(Update::Event(event)) = answer.update {
            let last = event.number >= operation.last_event;
            events.push(event);
            if last {
                break;
            }
        }
    }
    Ok(events)
}
