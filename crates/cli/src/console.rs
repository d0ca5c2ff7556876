//! The terminal: data to standard output in the form that was asked for, words to standard error, a question where something is lost.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::ValueEnum;
use muster_common::fault::{ErrorKind, Fault};
use muster_wire::json;
use prost::Message;

use crate::render;

/// The form of what goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// Protobuf's canonical JSON of the answer.
    Json,
    /// The same as YAML; resources as documents that `muster apply` takes back.
    Yaml,
}

/// Where a command writes and asks.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    /// The form of data.
    pub output: Output,
    /// Whether progress and notices are left out.
    pub quiet: bool,
}

impl Console {
    /// Whether standard error is a terminal on which bars can move.
    #[must_use]
    pub fn has_live_terminal(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Data, in the form that was asked for. `full_name` is the message's protobuf name.
    ///
    /// # Errors
    /// Where it cannot be shown or written.
    pub fn show<M: Message>(&self, message: &M, full_name: &str, text: impl FnOnce() -> String) -> Result<(), Fault> {
        match self.output {
            Output::Text => self.data(&text()),
            Output::Json | Output::Yaml => {
                let value = json::to_value(message, full_name).map_err(|error| unshown(&error))?;
                self.value(&value)
            }
        }
    }

    /// A value of our own where a machine reads, the text where a person does.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn value_or(&self, value: &serde_json::Value, text: &str) -> Result<(), Fault> {
        match self.output {
            Output::Text => self.data(text),
            Output::Json | Output::Yaml => self.value(value),
        }
    }

    /// A value of our own, in the form that was asked for.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn value(&self, value: &serde_json::Value) -> Result<(), Fault> {
        let text = match self.output {
            Output::Yaml => serde_saphyr::to_string(value).map_err(|error| unshown(&error))?,
            Output::Json | Output::Text => format!("{value:#}\n"),
        };
        self.data(&text)
    }

    /// Text for standard output. A reader that has left (`| head`) has what it wanted.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn data(&self, text: &str) -> Result<(), Fault> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Fault::failed(ErrorKind::Internal, format!("write to standard output: {error}"))
                    .hint("is the disk full that it goes to?"))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A notice for people; nothing where quiet was asked for.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.say(&format!("{}\n", text.trim_end_matches('\n')));
        }
    }

    /// What a person must see, quiet or not: what will be lost, a failure.
    pub fn say(&self, text: &str) {
        // Where standard error is closed nobody is left to be told.
        drop(io::stderr().lock().write_all(text.as_bytes()));
    }

    /// A failure, for people or as `muster.v1.Fault`.
    pub fn fault(&self, fault: &Fault) {
        let machine = match self.output {
            Output::Text => None,
            Output::Json | Output::Yaml => json::to_value(&muster_wire::convert::fault_to_proto(fault), "muster.v1.Fault").ok(),
        };
        match machine {
            Some(value) => self.say(&format!("{value:#}\n")),
            None => self.say(&render::fault::fault(fault)),
        }
    }

    /// Asks for `name` before something is lost. `lost` says what, whatever the answer; `yes` is the answer in advance.
    ///
    /// # Errors
    /// Where another answer is given, or nobody can be asked.
    pub async fn consent(&self, lost: &str, name: &str, yes: bool) -> Result<(), Fault> {
        self.say(lost);
        if yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("consent was not given for {name}"))
                .evidence("standard input is no terminal, so nobody can be asked")
                .hint("read what will be lost above, then give --yes"));
        }
        self.say(&format!("Type {name} to go on: "));
        let answer = tokio::task::spawn_blocking(read_line).await.map_err(|error| unread(&error))?.map_err(|error| unread(&error))?;
        if is_consent(&answer, name) {
            return Ok(());
        }
        Err(Fault::refused(ErrorKind::FailedPrecondition, format!("consent was not given: {name} was not typed")).hint("nothing was done"))
    }
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}

/// Whether an answer is the name, and nothing else.
fn is_consent(answer: &str, name: &str) -> bool {
    answer.trim_end_matches(['\n', '\r']) == name && !name.is_empty()
}

fn unread(error: &dyn std::fmt::Display) -> Fault {
    Fault::refused(ErrorKind::Internal, format!("read the answer: {error}")).hint("give --yes")
}

fn unshown(error: &dyn std::fmt::Display) -> Fault {
    Fault::failed(ErrorKind::Internal, format!("show the answer: {error}")).effect(muster_common::fault::Effect::Done).hint("try -o text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_name_is_consent() {
        assert!(is_consent("orders-db\n", "orders-db"));
        for answer in ["", "\n", "y\n", "yes\n", "orders\n", "orders-db2\n", " orders-db\n", "ORDERS-DB\n"] {
            assert!(!is_consent(answer, "orders-db"), "{answer:?}");
        }
        assert!(!is_consent("\n", ""));
    }

    #[tokio::test]
    async fn nobody_is_asked_where_there_is_no_terminal() {
        // Under `cargo test` standard input may be a terminal: then the answer in advance is all that can be tested.
        let console = Console { output: Output::Text, quiet: true };
        assert_eq!(console.consent("", "orders-db", true).await, Ok(()));
        if !io::stdin().is_terminal() {
            let refused = console.consent("", "orders-db", false).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::FailedPrecondition);
            assert!(refused.hint.contains("--yes"));
        }
    }
}
