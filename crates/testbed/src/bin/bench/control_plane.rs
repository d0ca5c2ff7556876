//! The controller alone, under crowds of simulated agents in another process: memory for each, dispatch at 100 commands a second, progress,
//! journal, the return of all after a kill, and the processor at rest. `AGENTS=1000,5000,10000` sets the sizes; the slope between the
//! smallest and the largest is told, since it must be linear.
//!
//! Each size has a world of its own. Figures depend on what else the machine does: the load average stands beside them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::controller::Controller;
use muster_testbed::eventually::eventually;
use muster_testbed::failpoints::Failpoints;
use muster_testbed::process::Process;
use muster_testbed::simulated::administrator;
use muster_testbed::simulated::live::{FLOOD, FLOODS_OF};
use muster_testbed::usage;
use muster_testbed::world::World;
use muster_wire::proto::v1::inventory_service_client::InventoryServiceClient;
use muster_wire::proto::v1::operation_service_client::OperationServiceClient;
use muster_wire::proto::v1::repository_service_client::RepositoryServiceClient;
use muster_wire::proto::v1::{ApplyRequest, CheckRequest, Operation, WaitRequest};
use muster_wire::yaml;
use serde_json::Value;
use tonic::transport::Channel;

use crate::figures::{Figure, publish};
use crate::setting::setting;

/// Where nothing is asked for.
const SIZES: &str = "1000,5000,10000";
/// Commands are dispatched at this rate where `RATE` says nothing else.
const RATE: u64 = 100;
/// How long each part is measured where `SECONDS` says nothing else: dispatch, journal, rest.
const SECONDS: u64 = 10;
/// The journal is driven by so many at once.
const WRITERS: usize = 16;
/// So many agents tell progress at once.
const FLOODING: usize = 8;
/// Resources that are applied at once.
const BATCH: usize = 500;
const LONG: Duration = Duration::from_secs(240);

/// One crowd's world.
struct Crowd {
    world: World,
    controller: Controller,
    channel: Channel,
    agents: usize,
    rate: u64,
    seconds: u64,
}

/// Commands at a steady rate, in milliseconds from issue to receipt.
struct Dispatched {
    p50: f64,
    p99: f64,
    refused: u64,
}

/// What one size showed.
struct Measured {
    agents: usize,
    bytes_each: f64,
    figures: Vec<Figure>,
}

pub async fn run() -> Result<()> {
    let sizes = std::env::var("AGENTS").unwrap_or_else(|_| SIZES.to_owned());
    let sizes: Vec<usize> =
        sizes.split(',').map(|size| size.trim().parse().with_context(|| format!("AGENTS={sizes}"))).collect::<Result<_>>()?;
    let mut all = Vec::new();
    for &agents in &sizes {
        let world = World::new()?;
        let measured = measure(&world, agents).await.inspect_err(|_| eprintln!("{}", world.tails()))?;
        all.push(measured);
    }
    let mut figures = Vec::new();
    if let (Some(least), Some(most)) = (all.iter().min_by_key(|one| one.agents), all.iter().max_by_key(|one| one.agents))
        && most.agents > least.agents
    {
        let bytes = |one: &Measured| one.bytes_each * one.agents as f64;
        let slope = (bytes(most) - bytes(least)) / (most.agents - least.agents) as f64;
        figures.push(figure(format!("memory for one agent more, {} to {}", least.agents, most.agents), "KiB", slope / 1024.0, Some(64.0)));
    }
    all.into_iter().for_each(|one| figures.extend(one.figures));
    publish("control-plane", &figures)
}

fn figure(what: String, unit: &'static str, value: f64, goal: Option<f64>) -> Figure {
    Figure { what, unit, muster: value, peer: None, goal, lower_is_better: true }
}

async fn measure(world: &World, agents: usize) -> Result<Measured> {
    println!("{agents} agents, load average {:.2}", usage::load_average()?);
    let load = usage::load_average()?;
    let controller = Controller::start(world).await?;
    let crowd = Crowd {
        world: world.clone(),
        channel: administrator(world)?,
        controller,
        agents,
        rate: setting("RATE", RATE)?,
        seconds: setting("SECONDS", SECONDS)?,
    };
    crowd.declare().await?;
    let before = usage::resident(crowd.pid()?)?;
    let began = Instant::now();
    let simulated = crowd.start()?;
    crowd.all_there(&simulated).await?;
    let joined = began.elapsed();
    let (at_rest, bytes_each) = crowd.rest(before).await?;
    let dispatched = crowd.dispatch(&simulated).await?;
    let (transitions, operations) = crowd.write().await?;
    let progress = crowd.flood(&simulated).await?;
    let (back, refused) = crowd.kill(&simulated).await?;
    let of = |what: &str| format!("{agents} agents: {what}");
    let more = |what: &str, unit, value| Figure { lower_is_better: false, ..figure(of(what), unit, value, None) };
    let figures = vec![
        figure(of("load average when it began"), "", load, None),
        figure(of("memory of the controller for each"), "KiB", bytes_each / 1024.0, Some(64.0)),
        figure(of("until all were connected at first"), "s", joined.as_secs_f64(), None),
        figure(of("processor at rest"), "% of one", at_rest * 100.0, None),
        figure(of(&format!("dispatch until received, p50, {}/s", crowd.rate)), "ms", dispatched.p50, None),
        figure(of(&format!("dispatch until received, p99, {}/s", crowd.rate)), "ms", dispatched.p99, Some(20.0)),
        figure(of(&format!("calls refused at {}/s", crowd.rate)), "", dispatched.refused as f64, Some(0.0)),
        more("journal transitions", "1/s", transitions),
        more("operations from asked to ended", "1/s", operations),
        more("progress events taken", "1/s", progress),
        figure(of("all back after kill -9"), "s", back, Some(15.0)),
        figure(of("handshakes refused meanwhile"), "", refused, Some(0.0)),
    ];
    Ok(Measured { agents, bytes_each, figures })
}

impl Crowd {
    fn pid(&self) -> Result<i32> {
        self.controller.pid()?.context("the controller runs")
    }

    /// A site, a repository that nobody opens, and a folder for each agent.
    async fn declare(&self) -> Result<()> {
        let (id, key) = ("ab".repeat(16), "cd".repeat(32));
        self.apply(&format!(
            "kind: Site\nname: istanbul\nspec: {{}}\n---\nkind: Repository\nname: primary\nspec: {{repositoryId: {id}, publicKey: {key}, folder: {{path: /nowhere}}}}\n"
        ))
        .await?;
        let numbers: Vec<usize> = (0..self.agents).collect();
        for batch in numbers.chunks(BATCH) {
            let documents: Vec<String> = batch
                .iter()
                .map(|n| format!("kind: Component\nname: c{n:05}\nspec: {{repository: primary, instances: [{{site: istanbul, agent: a{n:05}, files: {{path: /srv}}}}]}}\n"))
                .collect();
            self.apply(&documents.join("---\n")).await?;
        }
        Ok(())
    }

    async fn apply(&self, text: &str) -> Result<()> {
        let resources = yaml::parse(text, "bench.yaml")?;
        InventoryServiceClient::new(self.channel.clone()).apply(ApplyRequest { resources, ..ApplyRequest::default() }).await?;
        Ok(())
    }

    fn start(&self) -> Result<Process> {
        let (address, state) = (self.controller.address(), self.controller.state().display().to_string());
        let program = self.world.program("simulated-agents")?;
        self.world.start("crowd", RunAs::Caller, program, &[&address, &state, "istanbul", &self.agents.to_string()])
    }

    /// Waits until the crowd says that all are welcomed.
    async fn all_there(&self, simulated: &Process) -> Result<Value> {
        eventually("all agents to be connected", LONG, async || {
            let counts = lines(simulated)?.into_iter().rfind(|line| line.get("connected").is_some());
            ensure!(simulated.status()?.is_none(), "the crowd has ended: {}", simulated.written()?);
            Ok(counts.filter(|counts| number(counts, "connected") == self.agents as f64))
        })
        .await
    }

    /// The processor at rest, of one, and the memory that each agent takes.
    async fn rest(&self, before: u64) -> Result<(f64, f64)> {
        let (pid, began) = (self.pid()?, Instant::now());
        let used = usage::processor_seconds(pid)?;
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let share = (usage::processor_seconds(pid)? - used) / began.elapsed().as_secs_f64();
        Ok((share, usage::resident(pid)?.saturating_sub(before) as f64 / self.agents as f64))
    }

    fn component(&self, number: usize) -> String {
        format!("c{:05}", number % self.agents)
    }

    /// Commands at a steady rate, by one machine's clock. A call that the controller refuses counts and is not asked again.
    async fn dispatch(&self, simulated: &Process) -> Result<Dispatched> {
        let mut clock = tokio::time::interval(Duration::from_secs(1) / u32::try_from(self.rate)?);
        let mut asked = tokio::task::JoinSet::new();
        let known = received(simulated)?.len();
        for number in 0..self.rate * self.seconds {
            clock.tick().await;
            let (component, channel) = (self.component(usize::try_from(number)? * 7), self.channel.clone());
            asked.spawn(async move { check(channel, component, 0, 0).await });
        }
        let (mut taken, mut refused) = (Vec::new(), 0);
        while let Some(done) = asked.join_next().await {
            match done? {
                Ok(operation) => taken.push(operation),
                Err(error) => {
                    refused += 1;
                    if refused == 1 {
                        println!("a call was refused: {error:#}");
                    }
                }
            }
        }
        let mut times = eventually("all commands to be received", LONG, async || {
            let times = received(simulated)?.split_off(known);
            Ok((times.len() >= taken.len()).then_some(times))
        })
        .await?;
        for operation in taken {
            ended(&self.channel, operation).await?;
        }
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times.get((times.len().max(1) - 1) * percent / 100).copied().unwrap_or_default() / 1e3;
        Ok(Dispatched { p50: at(50), p99: at(99), refused })
    }

    /// Operations one after the other by many at once: journaled transitions and ended operations a second.
    async fn write(&self) -> Result<(f64, f64)> {
        let first = ended(&self.channel, check(self.channel.clone(), self.component(0), 0, 0).await?).await?.last_event;
        let began = Instant::now();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let channel = self.channel.clone();
            let (agents, until) = (self.agents, began + Duration::from_secs(self.seconds));
            writers.spawn(async move {
                let (mut done, mut last) = (0_u64, 0);
                while Instant::now() < until {
                    let component = format!("c{:05}", (writer * 31 + usize::try_from(done)?) % agents);
                    last = ended(&channel, check(channel.clone(), component, 0, 0).await?).await?.last_event;
                    done += 1;
                }
                Ok::<_, anyhow::Error>((done, last))
            });
        }
        let (mut done, mut last) = (0, first);
        while let Some(writer) = writers.join_next().await {
            let (its, event) = writer??;
            done += its;
            last = last.max(event);
        }
        let seconds = began.elapsed().as_secs_f64();
        Ok(((last - first) as f64 / seconds, done as f64 / seconds))
    }

    /// Some agents tell progress as fast as it is taken.
    async fn flood(&self, simulated: &Process) -> Result<f64> {
        let told = |line: &Value| line.get("progress_told").is_some();
        let before = lines(simulated)?.iter().filter(|line| told(line)).count();
        let floods = FLOODING.min(self.agents);
        let (mut asked, began) = (Vec::new(), Instant::now());
        for number in 0..floods {
            asked.push(check(self.channel.clone(), self.component(number), 1, FLOODS_OF).await?);
        }
        // An outcome is heard behind the progress before it: all of it was taken by then.
        for operation in asked {
            ended(&self.channel, operation).await?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let told = eventually("the floods to be told", FLOOD, async || {
            let all: Vec<Value> = lines(simulated)?.into_iter().filter(told).skip(before).collect();
            Ok((all.len() >= floods).then_some(all))
        })
        .await?;
        Ok(told.iter().map(|line| number(line, "progress_told")).sum::<f64>() / seconds)
    }

    /// Seconds from the kill until all are back, the controller's own start included; and the handshakes that were refused on the way.
    async fn kill(&self, simulated: &Process) -> Result<(f64, f64)> {
        let refusals = |text: &str| text.matches("connection refused").count();
        let (before, began) = (refusals(&self.controller.written()?), Instant::now());
        self.controller.kill()?;
        eventually("the agents to notice", LONG, async || {
            Ok(lines(simulated)?.into_iter().rfind(|line| line.get("connected").is_some()).filter(|line| number(line, "connected") == 0.0))
        })
        .await?;
        self.controller.start_again(&Failpoints::none()).await?;
        self.all_there(simulated).await?;
        Ok((began.elapsed().as_secs_f64(), (refusals(&self.controller.written()?) - before) as f64))
    }
}

async fn check(channel: Channel, component: String, read_data_part: u32, read_data_of: u32) -> Result<Operation> {
    let request = CheckRequest { component, read_data_part, read_data_of, ..CheckRequest::default() };
    let answer = RepositoryServiceClient::new(channel).check(request).await?.into_inner();
    answer.operation.context("an operation")
}

async fn ended(channel: &Channel, operation: Operation) -> Result<Operation> {
    let answer = OperationServiceClient::new(channel.clone()).wait(WaitRequest { id: operation.id, timeout: None }).await?.into_inner();
    ensure!(answer.ended, "an operation did not end");
    answer.operation.context("an operation")
}

/// What the crowd told so far.
fn lines(simulated: &Process) -> Result<Vec<Value>> {
    Ok(simulated.written()?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Microseconds that each command was under way, so far.
fn received(simulated: &Process) -> Result<Vec<f64>> {
    Ok(lines(simulated)?.iter().filter_map(|line| line.get("received_us")?.as_f64()).collect())
}

fn number(line: &Value, field: &str) -> f64 {
    line.get(field).and_then(Value::as_f64).unwrap_or_default()
}
