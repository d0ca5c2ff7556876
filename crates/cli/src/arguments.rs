//! The command line as a whole: what holds for every command, and the list of commands.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use muster_common::fault::Fault;
use muster_common::name::Name;

use crate::command;
use crate::console::{Console, Output};
use crate::controller::{Controller, request_id};
use crate::exit::{self, Exit};

/// Muster brings databases back: it backs them up, proves the backups good and restores them, at several sites, through one controller.
#[derive(Debug, Parser)]
#[command(name = "muster", version, max_term_width = 120, after_help = exit::table())]
#[command(after_long_help = format!("{}\nExamples:\n  muster status\n  muster backup orders-db\n  muster restore orders-db --dry-run\n\nGuide: docs/guides/cli.md", exit::table()))]
pub struct Arguments {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EVERYWHERE: &str = "For every command";

/// What holds for every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The context: which controller, as whom. Default: the current one (`muster context list`).
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "MUSTER_CONTEXT", value_name = "NAME")]
    pub context: Option<Name>,
    /// The form of what goes to standard output: text, json or yaml.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_enum, hide_possible_values = true, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
    /// No progress and no notices; failures and what will be lost are told all the same.
    #[arg(short, long, global = true, help_heading = EVERYWHERE)]
    pub quiet: bool,
    /// How long a controller that cannot be reached is tried again.
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "MUSTER_RETRY_FOR", value_name = "DURATION", default_value = "30s", value_parser = muster_common::duration::parse)]
    pub retry_for: Duration,
}

/// What every command takes that starts an operation.
#[derive(Debug, Args)]
pub struct Asking {
    /// Do not follow it: print the operation and end.
    #[arg(long)]
    pub no_wait: bool,
    /// The same id with the same content is the same operation, however often it is sent. Default: a new one.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

impl Asking {
    /// The id that was given, or a new one.
    #[must_use]
    pub fn request_id(&self) -> String {
        request_id(self.request_id.as_deref())
    }
}

/// Every command of `muster`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The one page: who writes where, how old the newest point is, what runs, what is wrong.
    Status(command::status::Arguments),
    /// What a person should know now: severity, since when, what was seen, what to type.
    Findings(command::findings::Arguments),
    /// What happened: operations, findings, changes of roles, newest first.
    History(command::history::Arguments),
    /// Declares sites, repositories, components and schedules from YAML files: all or none.
    Apply(command::apply::Arguments),
    /// Lists what is declared, or shows one as a document that `apply` takes back.
    Get(command::get::Arguments),
    /// All about one declared thing: its document, conditions, points, operations.
    Describe(command::describe::Arguments),
    /// Removes a declared thing. Its recovery points stay in their repository.
    Delete(command::delete::Arguments),
    /// Takes a recovery point.
    Backup(command::backup::Arguments),
    /// Takes a logical point by pg_dump: chosen databases, schemas or tables, roles, tablespaces.
    Dump(command::dump::Arguments),
    /// Lists recovery points, newest first.
    Points(command::points::Arguments),
    /// Brings a recovery point back.
    Restore(command::restore::Arguments),
    /// Proves a recovery point good: restores it to scratch, starts it there, checks it, removes it.
    Verify(command::verify::Arguments),
    /// Checks a component's part of its repository, by an agent.
    Check(command::check::Arguments),
    /// What is done by itself: when it ran last, when it runs next, and why not.
    Schedules(command::schedules::Arguments),
    /// Removes recovery points that the component's retention does not keep, and packs that none needs.
    Prune(command::prune::Arguments),
    /// Holds a recovery point: it stays whatever the rules say.
    Hold(command::hold::Arguments),
    /// Lets a held recovery point go.
    Release(command::release::Arguments),
    /// Runs programs that agents' own files declare.
    Hook(command::hook::Arguments),
    /// Keeps what runs from now on: who may write is decided by Muster then.
    Manage(command::manage::Arguments),
    /// After a controller was restored or made anew: believe the agents about who writes, where one of them is silent.
    Adopt(command::adopt::Arguments),
    /// What stands against a move of the writer now, with evidence and its age. Does nothing.
    Preflight(command::preflight::Arguments),
    /// Changes the writer, planned: nothing is lost, or it goes back.
    Switchover(command::switchover::Arguments),
    /// Changes the writer because the old one is gone.
    Failover(command::failover::Arguments),
    /// Stops an instance; it stays stopped until somebody lifts it.
    Fence(command::fence::Arguments),
    /// Lifts a fence: the writer starts again when it is confirmed.
    Unfence(command::unfence::Arguments),
    /// Lets what wrote before, or was left behind, follow the writer again.
    Rejoin(command::rejoin::Arguments),
    /// Gives a word, or accepts a loss, for an operation that waits for it.
    Approve(command::approve::Arguments),
    /// Refuses what an operation waits for: it goes back where it can.
    Reject(command::reject::Arguments),
    /// Lists operations, newest first.
    Ops(command::ops::Arguments),
    /// All that happened to one operation, and why it failed.
    Logs(command::logs::Arguments),
    /// Follows an operation to its end, or all operations.
    Watch(command::watch::Arguments),
    /// Waits until an operation has ended; the exit code tells how.
    Wait(command::wait::Arguments),
    /// Asks an operation to stop.
    Cancel(command::cancel::Arguments),
    /// Ends an operation whose outcome is unknown by your recorded word.
    Resolve(command::resolve::Arguments),
    /// Asks again for what an operation that failed or was cancelled was asked for.
    Retry(command::retry::Arguments),
    /// Switches automation and schedules off for a while.
    Pause(command::pause::Arguments),
    /// Ends a pause before its time.
    Resume(command::resume::Arguments),
    /// Removes the old directory that a restore in place kept aside.
    Discard(command::discard::Arguments),
    /// Lists agents; revokes one.
    Agents(command::agents::Arguments),
    /// Makes tokens with which agents join.
    Token(command::token::Arguments),
    /// Who asked for what that changes something; whether the log of it is as it was written.
    Audit(command::audit::Arguments),
    /// The CA: shows it, replaces it by a new one.
    Ca(command::ca::Arguments),
    /// Adds, lists and revokes operators.
    Operator(command::operator::Arguments),
    /// Which controller, as whom: list, use, import, show, renew, delete.
    Context(command::context::Arguments),
    /// Repositories themselves, on any machine that reaches them, with no controller.
    Repo(command::repo::Arguments),
    /// Names in the DNS: tries a provider of yours out.
    Route(command::route::Arguments),
    /// One archive for whoever helps, without secrets.
    SupportBundle(command::support_bundle::Arguments),
    /// The version of this command and of the controller.
    Version(command::version::Arguments),
    /// Prints a completion script for a shell.
    Completion(command::completion::Arguments),
    /// Writes the manual pages, for packages.
    #[command(hide = true)]
    Manual(command::manual::Arguments),
}

/// What commands are given.
#[derive(Clone, Debug)]
pub struct App {
    /// Where to write and ask.
    pub console: Console,
    context: Option<Name>,
    retry_for: Duration,
}

impl App {
    /// The context that was named on the command line.
    #[must_use]
    pub const fn context(&self) -> Option<&Name> {
        self.context.as_ref()
    }

    /// The controller of the context that was named.
    ///
    /// # Errors
    /// Where there is no context, or its certificate has run out.
    pub fn controller(&self) -> Result<Controller, Fault> {
        Controller::connect(self.context.as_ref(), self.retry_for, self.console)
    }
}

/// Runs a command line.
///
/// # Errors
/// What failed, with what to do next.
pub async fn run(arguments: Arguments) -> Result<Exit, Fault> {
    let global = arguments.global;
    let app = App { console: Console { output: global.output, quiet: global.quiet }, context: global.context, retry_for: global.retry_for };
    match arguments.command {
        Command::Status(arguments) => command::status::run(&app, arguments).await,
        Command::Findings(arguments) => command::findings::run(&app, arguments).await,
        Command::History(arguments) => command::history::run(&app, arguments).await,
        Command::Apply(arguments) => command::apply::run(&app, arguments).await,
        Command::Get(arguments) => command::get::run(&app, arguments).await,
        Command::Describe(arguments) => command::describe::run(&app, arguments).await,
        Command::Delete(arguments) => command::delete::run(&app, arguments).await,
        Command::Backup(arguments) => command::backup::run(&app, arguments).await,
        Command::Dump(arguments) => command::dump::run(&app, arguments).await,
        Command::Points(arguments) => command::points::run(&app, arguments).await,
        Command::Restore(arguments) => command::restore::run(&app, arguments).await,
        Command::Verify(arguments) => command::verify::run(&app, arguments).await,
        Command::Check(arguments) => command::check::run(&app, arguments).await,
        Command::Schedules(arguments) => command::schedules::run(&app, arguments).await,
        Command::Prune(arguments) => command::prune::run(&app, arguments).await,
        Command::Hold(arguments) => command::hold::run(&app, arguments).await,
        Command::Release(arguments) => command::release::run(&app, arguments).await,
        Command::Hook(arguments) => command::hook::run(&app, arguments).await,
        Command::Manage(arguments) => command::manage::run(&app, arguments).await,
        Command::Adopt(arguments) => command::adopt::run(&app, arguments).await,
        Command::Preflight(arguments) => command::preflight::run(&app, arguments).await,
        Command::Switchover(arguments) => command::switchover::run(&app, arguments).await,
        Command::Failover(arguments) => command::failover::run(&app, arguments).await,
        Command::Fence(arguments) => command::fence::run(&app, arguments).await,
        Command::Unfence(arguments) => command::unfence::run(&app, arguments).await,
        Command::Rejoin(arguments) => command::rejoin::run(&app, arguments).await,
        Command::Approve(arguments) => command::approve::run(&app, arguments).await,
        Command::Reject(arguments) => command::reject::run(&app, arguments).await,
        Command::Ops(arguments) => command::ops::run(&app, arguments).await,
        Command::Logs(arguments) => command::logs::run(&app, arguments).await,
        Command::Watch(arguments) => command::watch::run(&app, arguments).await,
        Command::Wait(arguments) => command::wait::run(&app, arguments).await,
        Command::Cancel(arguments) => command::cancel::run(&app, arguments).await,
        Command::Resolve(arguments) => command::resolve::run(&app, arguments).await,
        Command::Retry(arguments) => command::retry::run(&app, arguments).await,
        Command::Pause(arguments) => command::pause::run(&app, arguments).await,
        Command::Resume(arguments) => command::resume::run(&app, arguments).await,
        Command::Discard(arguments) => command::discard::run(&app, arguments).await,
        Command::Agents(arguments) => command::agents::run(&app, arguments).await,
        Command::Token(arguments) => command::token::run(&app, arguments).await,
        Command::Audit(arguments) => command::audit::run(&app, arguments).await,
        Command::Ca(arguments) => command::ca::run(&app, arguments).await,
        Command::Operator(arguments) => command::operator::run(&app, arguments).await,
        Command::Context(arguments) => command::context::run(&app, arguments).await,
        Command::Repo(arguments) => command::repo::run(&app, arguments).await,
        Command::Route(arguments) => command::route::run(&app, arguments).await,
        Command::SupportBundle(arguments) => command::support_bundle::run(&app, arguments).await,
        Command::Version(arguments) => command::version::run(&app, arguments).await,
        Command::Completion(arguments) => command::completion::run(&app, &arguments),
        Command::Manual(arguments) => command::manual::run(&app, &arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help_text_with_an_example() {
        fn walk(command: &clap::Command, path: &str, without: &mut Vec<String>) {
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set()) {
                let path = format!("{path} {}", inner.get_name());
                let example = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
                if inner.get_about().is_none() || (inner.get_subcommands().next().is_none() && !example.contains(&format!("  {path}"))) {
                    without.push(path.clone());
                }
                walk(inner, &path, without);
            }
        }
        let mut without = Vec::new();
        walk(&Arguments::command(), "muster", &mut without);
        assert!(without.is_empty(), "without help or an example that can be typed: {without:?}");
    }
}
