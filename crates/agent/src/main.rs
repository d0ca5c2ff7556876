//! `muster-agent`: stands beside the data and does what the controller asks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use muster_agent::config::Config;
use muster_agent::keeper::word::Spoken;
use muster_agent::local::act::Request;
use muster_agent::local::ask::ask;
use muster_agent::{rights, run};
use muster_common::name::{InstanceName, Name};
use muster_service::manual;

/// The agent of Muster: stands beside the data and does what the controller asks.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM; join first where the agent has no certificate yet.
    Run {
        #[command(flatten)]
        file: File,
        /// Only judge the configuration.
        #[arg(long)]
        check_config: bool,
    },
    /// Join with the token that the configuration names, and end.
    Enroll {
        #[command(flatten)]
        file: File,
    },
    /// Print the SQL that gives the agent's database roles what they lack.
    MissingRights {
        #[command(flatten)]
        file: File,
    },
    /// What is kept on this machine: role, reign, position, and what to type. Needs no controller.
    Status {
        #[command(flatten)]
        file: File,
    },
    /// Stop a writer on this machine and prove it gone, until somebody lets it start again. Needs no controller.
    Fence {
        #[command(flatten)]
        file: File,
        /// COMPONENT/INSTANCE.
        instance: InstanceName,
    },
    /// Make a follower on this machine the writer, by your word that every other machine is off. Needs no controller.
    Promote {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        word: Word,
    },
    /// Start a stopped writer on this machine again, in a new reign, by your word that every other machine is off. Needs no controller.
    Start {
        #[command(flatten)]
        file: File,
        #[command(flatten)]
        word: Word,
    },
    /// Hand a restored server its log; called by that server.
    #[command(hide = true)]
    WalGet {
        /// Folder, name, destination.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Hold the lock of a stopped server; called by the agent, and outlives it.
    #[command(hide = true)]
    Hold {
        /// The server's data directory.
        data: PathBuf,
    },
    /// Become the server of an order file; called by the unit that servers are started in.
    #[command(hide = true)]
    ExecServer {
        /// The order, which the agent wrote.
        order: PathBuf,
    },
    /// Stand between the agent and a hook; called by the agent.
    #[command(hide = true)]
    RunHook {
        /// The run's folder.
        folder: PathBuf,
    },
    /// Print the version.
    Version,
    /// Write the manual pages, for packages.
    #[command(hide = true)]
    Manual {
        /// The folder, which must exist.
        folder: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Word {
    /// COMPONENT/INSTANCE.
    instance: InstanceName,
    /// What you state, in your words; it is kept.
    #[arg(long)]
    word: String,
    /// An instance whose machine is off. Every other instance of the component has to be named.
    #[arg(long)]
    off: Vec<Name>,
    /// Who you are.
    #[arg(long)]
    operator: Name,
    /// What may be lost at most. How much it is cannot be told here: type `unknown`.
    #[arg(long, value_name = "unknown", value_parser = ["unknown"])]
    lose_at_most: String,
}

impl Word {
    fn request(self, starts: bool) -> Request {
        let spoken = Spoken { operator: self.operator, text: self.word, off: self.off.into_iter().collect() };
        Request::Word { instance: self.instance, spoken, starts }
    }
}

#[derive(Debug, clap::Args)]
struct File {
    /// The agent's configuration file.
    #[arg(long, env = "MUSTER_AGENT_CONFIG", default_value = "/etc/muster/agent.yaml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::WalGet { arguments } = &arguments.command {
        return muster_engine_postgres::wal_get::run(arguments);
    }
    if let Command::Hold { data } = &arguments.command {
        return muster_engine_postgres::keep::lock::hold(data).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if let Command::ExecServer { order } = &arguments.command {
        let Err(error) = muster_engine_postgres::control::unit::launch(order);
        eprintln!("muster-agent: become the server of {}: {error}", order.display());
        return ExitCode::FAILURE;
    }
    if let Command::RunHook { folder } = &arguments.command {
        return match muster_agent::hook::supervisor::supervise(folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("muster-agent: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    match act(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> anyhow::Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    match command {
        Command::Run { file, check_config } => {
            let config = Config::load(&file.config)?;
            if check_config {
                println!("{}: good", file.config.display());
                return Ok(());
            }
            runtime()?.block_on(run::run(config, &file.config))
        }
        Command::Enroll { file } => runtime()?.block_on(run::enroll(Config::load(&file.config)?)),
        Command::MissingRights { file } => runtime()?.block_on(rights::print_missing(&Config::load(&file.config)?)),
        Command::Status { file } => runtime()?.block_on(ask(&Config::load(&file.config)?, &Request::Status)),
        Command::Fence { file, instance } => runtime()?.block_on(ask(&Config::load(&file.config)?, &Request::Fence { instance })),
        Command::Promote { file, word } => runtime()?.block_on(ask(&Config::load(&file.config)?, &word.request(false))),
        Command::Start { file, word } => runtime()?.block_on(ask(&Config::load(&file.config)?, &word.request(true))),
        // Handled before anything else is set up.
        Command::WalGet { .. } | Command::Hold { .. } | Command::ExecServer { .. } | Command::RunHook { .. } => Ok(()),
        Command::Version => {
            println!("muster-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Manual { folder } => {
            manual::write(Arguments::command(), "8", &folder)?;
            Ok(())
        }
    }
}

/// A held failpoint blocks a worker; with four the others go on.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(4, usize::from).clamp(4, 16)
}
