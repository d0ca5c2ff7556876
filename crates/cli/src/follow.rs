//! Following an operation to its end: transitions as lines, progress as a bar or as lines, through restarts of the controller.
//!
//! What always holds: the operation does not depend on its follower; whoever stops following is told how to go on.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_common::fault::{ErrorKind, Fault};
use muster_wire::proto::v1::operation_service_watch_response::Update;
use muster_wire::proto::v1::{
    Operation, OperationServiceGetRequest, OperationServiceWatchRequest, OperationServiceWatchResponse, Progress,
};
use muster_wire::{convert, status};
use rand::RngExt;
use tonic::Streaming;

use crate::console::Console;
use crate::controller::{Controller, Patience, Repeat, Seldom, cause};
use crate::exit::{Exit, has_ended};
use crate::progress::{Meter, told};
use crate::render;

/// A controller that is away for longer than this is no longer waited for; the operation goes on.
const AWAY: Duration = Duration::from_secs(600);

/// On what is no terminal, progress is told so often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// And when nothing is heard for so long, that is told.
const SILENCE: Duration = Duration::from_secs(30);

/// How following ended.
#[derive(Debug)]
pub enum Followed {
    /// The operation ended, or waits for a person's word.
    Ended(Operation),
    /// Ctrl-C: the operation goes on.
    Interrupted(Operation),
}

/// Follows an operation to its end, shows what came of it and gives the exit code. With `no_wait` it is only shown.
///
/// # Errors
/// Where the controller cannot be reached for ten minutes, or the operation is gone.
pub async fn to_the_end(controller: &Controller, console: &Console, operation: Operation, no_wait: bool) -> Result<Exit, Fault> {
    if no_wait {
        show(console, &operation)?;
        return Ok(Exit::Ok);
    }
    console.note(&format!("{}: accepted", render::operation::title(&operation)));
    match follow(controller, console, operation).await? {
        Followed::Ended(operation) => {
            show(console, &operation)?;
            Ok(Exit::of_operation(&operation))
        }
        Followed::Interrupted(operation) => {
            let id = render::amount::short(&operation.id);
            console.say(&format!(
                "\n{} goes on. `muster watch {id}` follows it again, `muster cancel {id}` stops it\n",
                render::operation::title(&operation)
            ));
            Ok(Exit::Interrupted)
        }
    }
}

/// The same with what a call that starts an operation was answered.
///
/// # Errors
/// Where it was refused: with the id by which it can be asked for again. As [`to_the_end`].
pub async fn accepted(
    controller: &Controller,
    console: &Console,
    answer: Result<Option<Operation>, Fault>,
    request_id: &str,
    no_wait: bool,
) -> Result<Exit, Fault> {
    let operation = answer.map_err(|fault| fault_with_id(fault, request_id))?;
    to_the_end(controller, console, convert::required(operation, "operation")?, no_wait).await
}

/// Where it is not known whether a call was done, its id finds out without doing it twice.
pub fn fault_with_id(fault: Fault, request_id: &str) -> Fault {
    if Exit::of_fault(&fault) == Exit::Unknown {
        return fault.evidence(format!("the same command with --request-id {request_id} finds out, and does it once at most"));
    }
    fault
}

/// The operation as data: its outcome for people, or the message.
///
/// # Errors
/// Where it cannot be written.
pub fn show(console: &Console, operation: &Operation) -> Result<(), Fault> {
    console.show(operation, "muster.v1.Operation", || render::operation::outcome(operation, muster_service::clock::now()))
}

/// The operation of that id, or of the first digits of it.
///
/// # Errors
/// Where there is none, or more than one.
pub async fn get(controller: &Controller, id: &str) -> Result<Operation, Fault> {
    let request = OperationServiceGetRequest { id: id.to_owned() };
    let answer = controller
        .call(Repeat::Read, &request, |request| {
            let mut client = controller.operation();
            async move { client.get(request).await }
        })
        .await?;
    convert::required(answer.operation, "operation")
}

/// Follows an operation until it ends, waits for a person's word, or Ctrl-C.
///
/// # Errors
/// Where the controller cannot be reached for ten minutes, or the operation is gone.
pub async fn follow(controller: &Controller, console: &Console, operation: Operation) -> Result<Followed, Fault> {
    let mut followed = Following { view: View::new(console), console: *console, operation };
    let mut patience = Patience::new(AWAY, Instant::now());
    let mut seldom = Seldom::default();
    // Created once: a Ctrl-C between two waits is not lost.
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let step = tokio::select! {
            step = followed.once(controller, &mut patience) => step,
            _ = &mut interrupt => {
                followed.view.clear();
                return Ok(Followed::Interrupted(followed.operation));
            }
        };
        match step {
            Ok(()) if has_ended(&followed.operation) => {
                followed.view.clear();
                return Ok(Followed::Ended(followed.operation));
            }
            // The stream ended early, for example because the controller shuts down: it is opened again, not at once.
            Ok(()) => tokio::time::sleep(Duration::from_millis(500)).await,
            Err(fault) if fault.kind == ErrorKind::Unavailable => {
                let Some((wait, left)) = patience.next(Instant::now(), rand::rng().random()) else {
                    followed.view.clear();
                    let id = render::amount::short(&followed.operation.id).to_owned();
                    return Err(controller.explained(fault).evidence(format!("the operation goes on; later: `muster watch {id}`")));
                };
                if seldom.now(Instant::now()) {
                    followed.view.line(console, &away(controller, &fault, left));
                }
                tokio::time::sleep(wait).await;
            }
            Err(fault) => {
                followed.view.clear();
                return Err(fault);
            }
        }
    }
}

fn away(controller: &Controller, fault: &Fault, left: Duration) -> String {
    let seen = cause(fault);
    format!("controller {} is away ({seen}); the agent goes on; trying again for {}", controller.place, render::amount::rounded(left))
}

/// An operation and how it is shown.
struct Following {
    view: View,
    console: Console,
    operation: Operation,
}

impl Following {
    /// One stream, from the newest known transition until it ends.
    async fn once(&mut self, controller: &Controller, patience: &mut Patience) -> Result<(), Fault> {
        let request = OperationServiceWatchRequest { id: self.operation.id.clone(), after_event: self.operation.last_event };
        let opened = tokio::time::timeout(Duration::from_secs(20), controller.operation().watch(request)).await;
        let stream = match opened {
            Ok(Ok(stream)) => stream.into_inner(),
            Ok(Err(status)) => return self.judge(controller, status::fault(&status)).await,
            Err(_) => return Err(Fault::refused(ErrorKind::Unavailable, "no answer within 20 s")),
        };
        match self.read(stream, patience).await {
            Ok(()) => {
                // The last transition may have come while no stream was open.
                self.operation = get(controller, &self.operation.id).await?;
                Ok(())
            }
            Err(fault) => self.judge(controller, fault).await,
        }
    }

    /// Transitions that are gone are no loss: the operation itself tells where it stands.
    async fn judge(&mut self, controller: &Controller, fault: Fault) -> Result<(), Fault> {
        if fault.kind != ErrorKind::OutOfRange {
            return Err(fault);
        }
        self.operation = get(controller, &self.operation.id).await?;
        Ok(())
    }

    async fn read(&mut self, mut stream: Streaming<OperationServiceWatchResponse>, patience: &mut Patience) -> Result<(), Fault> {
        let mut heard = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        *patience = Patience::new(AWAY, heard);
                        self.hear(message);
                    }
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(status::fault(&status)),
                },
                _ = tick.tick() => {
                    if heard.elapsed() >= SILENCE {
                        let text = format!("nothing was heard for {}{}", render::amount::rounded(heard.elapsed()), waits(&self.operation));
                        self.view.silence(&self.console, &text);
                    }
                }
            }
        }
    }

    fn hear(&mut self, message: OperationServiceWatchResponse) {
        match message.update {
            Some(Update::Event(event)) => {
                self.view.line(&self.console, &render::operation::event(&event));
                if let Some(operation) = event.operation {
                    if !operation.waiting_for.is_empty() && operation.waiting_for != self.operation.waiting_for {
                        self.view.line(&self.console, &format!("waits for {}", operation.waiting_for));
                    }
                    self.operation = operation;
                }
                self.operation.last_event = self.operation.last_event.max(event.number);
            }
            Some(Update::Progress(update)) => {
                if let Some(progress) = update.progress {
                    self.view.progress(&self.console, &progress);
                }
            }
            // A newer controller's.
            None => {}
        }
    }
}

fn waits(operation: &Operation) -> String {
    if operation.waiting_for.is_empty() { String::new() } else { format!("; it waits for {}", operation.waiting_for) }
}

/// How progress is shown.
pub enum View {
    /// On a terminal.
    Bar {
        /// The bar.
        bar: ProgressBar,
        /// What tells the rate.
        meter: Meter,
    },
    /// Elsewhere.
    Lines {
        /// What tells the rate.
        meter: Meter,
        /// The phase that was told last.
        phase: String,
        /// When something was told last.
        last: Option<Instant>,
    },
}

impl View {
    /// A bar where standard error is a terminal, lines elsewhere.
    #[must_use]
    pub fn new(console: &Console) -> Self {
        if !console.has_live_terminal() {
            return Self::Lines { meter: Meter::default(), phase: String::new(), last: None };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::Bar { bar, meter: Meter::default() }
    }

    /// Shows newer progress; as lines every five seconds at most.
    pub fn progress(&mut self, console: &Console, progress: &Progress) {
        match self {
            Self::Bar { bar, meter } => {
                meter.hear(progress);
                bar.set_length(progress.bytes_total.max(1));
                bar.set_position(progress.bytes_done);
                bar.set_message(told(progress, meter.read(progress)));
            }
            Self::Lines { meter, phase, last } => {
                meter.hear(progress);
                if *phase != progress.phase || last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                    phase.clone_from(&progress.phase);
                    *last = Some(Instant::now());
                    console.note(&format!("{} {}", now_clock(), told(progress, meter.read(progress))));
                }
            }
        }
    }

    fn silence(&mut self, console: &Console, text: &str) {
        match self {
            Self::Bar { bar, .. } => bar.set_message(text.to_owned()),
            Self::Lines { last, .. } => {
                if last.is_none_or(|last| last.elapsed() >= SILENCE) {
                    *last = Some(Instant::now());
                    console.note(&format!("{} {text}", now_clock()));
                }
            }
        }
    }

    /// Shows a line that stays.
    pub fn line(&self, console: &Console, text: &str) {
        match self {
            Self::Bar { bar, .. } => bar.println(text),
            Self::Lines { .. } => console.note(text),
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        match self {
            Self::Bar { bar, .. } => bar.finish_and_clear(),
            Self::Lines { .. } => {}
        }
    }
}

fn now_clock() -> String {
    render::operation::clock(muster_service::clock::now())
}
