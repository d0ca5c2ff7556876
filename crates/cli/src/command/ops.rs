//! `muster ops`: operations, newest first.

use clap::{Args, ValueEnum};
use muster_common::fault::Fault;
use muster_service::clock;
use muster_wire::proto::v1::{OperationServiceListRequest, OperationServiceListResponse, OperationState};

use crate::arguments::App;
use crate::controller::{Controller, Repeat};
use crate::exit::Exit;
use crate::render;

/// The most operations that `--all` lists.
const MOST: usize = 10_000;

/// The arguments of `muster ops`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster ops\n  muster ops --running\n  muster ops --component orders-db --state failed")]
pub struct Arguments {
    /// Only of this component.
    #[arg(short, long, value_name = "NAME")]
    component: Option<String>,
    /// Only in this state.
    #[arg(short, long, value_enum, value_name = "STATE")]
    state: Option<State>,
    /// Only those that have not ended.
    #[arg(short, long)]
    running: bool,
    /// All, up to 10,000. Default: the newest 50.
    #[arg(long)]
    all: bool,
}

/// A state as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Pending,
    Running,
    Cancelling,
    Unknown,
    Suspended,
    Succeeded,
    Failed,
    Cancelled,
}

impl From<State> for OperationState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Running => Self::Running,
            State::Cancelling => Self::Cancelling,
            State::Unknown => Self::Unknown,
            State::Suspended => Self::Suspended,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

/// Which operations.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this component; empty: of all.
    pub component: String,
    /// In this state; unspecified: in all.
    pub state: OperationState,
    /// Only those that have not ended.
    pub running: bool,
}

/// Lists them.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let controller = app.controller()?;
    let filter = Filter {
        component: arguments.component.unwrap_or_default(),
        state: arguments.state.map_or(OperationState::Unspecified, Into::into),
        running: arguments.running,
    };
    let mut answer = page(&controller, filter.clone(), if arguments.all { 500 } else { 50 }, String::new()).await?;
    while arguments.all && !answer.next_page_token.is_empty() && answer.operations.len() < MOST {
        let more = page(&controller, filter.clone(), 500, answer.next_page_token).await?;
        answer.operations.extend(more.operations);
        answer.next_page_token = more.next_page_token;
    }
    app.console.show(&answer, "muster.v1.OperationServiceListResponse", || render::operation::list(&answer.operations, clock::now()))?;
    if !answer.next_page_token.is_empty() {
        app.console.note("there are older ones: --all lists them");
    }
    Ok(Exit::Ok)
}

/// One page of operations.
///
/// # Errors
/// Where the controller cannot be reached.
pub async fn page(
    controller: &Controller,
    filter: Filter,
    page_size: u32,
    page_token: String,
) -> Result<OperationServiceListResponse, Fault> {
    let request = OperationServiceListRequest {
        component: filter.component,
        state: filter.state.into(),
        running: filter.running,
        page_size,
        page_token,
    };
    controller
        .call(Repeat::Read, &request, |request| {
            let mut client = controller.operation();
            async move { client.list(request).await }
        })
        .await
}
