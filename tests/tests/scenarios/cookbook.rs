//! The grpcurl cookbook of the book (`docs/guides/grpcurl.md`), every command of it: by grpcurl where Go is there, by `buf curl` where npm is.
//!
//! A block's words tell what it is: `install` and `address` are done here in their stead, `refused` has to be refused, `buf` needs npm.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::postgres::server::{Options, Postgres};
use muster_testbed::process::Output;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_testbed::world::World;

const SOON: Duration = Duration::from_secs(120);
/// A cold cache of Go modules has to be filled and compiled.
const INSTALLED: Duration = Duration::from_secs(540);

struct Block {
    words: Vec<String>,
    text: String,
}

impl Block {
    fn is(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }
}

/// The blocks of shell, in order.
fn blocks() -> Result<Vec<Block>> {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/grpcurl.md"))?;
    let mut found = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let Some(words) = line.strip_prefix("```sh") else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        found.push(Block { words: words.split(',').map(str::to_owned).collect(), text: text.join("\n") + "\n" });
    }
    ensure!(found.len() > 8, "the guide has {} blocks", found.len());
    Ok(found)
}

/// Runs the guide's blocks that `which` takes as one script; those that must be refused turn its exit code round.
async fn play(world: &World, sites: &TwoSites, name: &str, which: impl Fn(&Block) -> bool, path: &str) -> Result<Output> {
    let mut script = format!("set -euo pipefail\ncd {}\nat={}\n", world.root().display(), sites.controller.address());
    for block in blocks()?.iter().filter(|block| which(block)) {
        if block.is("refused") {
            script += &format!("if {{\n{}}} >refusal 2>&1; then echo 'was not refused'; exit 1; fi\ncat refusal\n", block.text);
        } else {
            script += &block.text;
        }
    }
    let file = world.file(&format!("{name}.sh"), &script, RunAs::Caller, 0o600)?;
    // npm keeps what it fetched below the caller's own home.
    let mut launch = world.launch(name, "/bin/bash", RunAs::Caller).inheriting(&["HOME"]);
    launch.environment.insert("PATH".to_owned(), path.to_owned());
    launch.arguments = vec!["-x".to_owned(), file.display().to_string()];
    launch.run(SOON).await
}

async fn has(world: &World, program: &str) -> Result<bool> {
    let mut launch = world.launch("has", "/bin/sh", RunAs::Caller).inheriting(&["PATH"]);
    launch.arguments = vec!["-c".to_owned(), format!("command -v {program}")];
    Ok(launch.run(SOON).await?.status.success())
}

/// Puts grpcurl, as the guide's first block does, into Cargo's folder for tests, where the next run finds it. `None`: this machine cannot
/// have it, which is told; a registry that is away is no fault of the API.
async fn install_grpcurl(world: &World) -> Result<Option<String>> {
    if !has(world, "go").await? {
        println!("NOT RUN: grpcurl's half of the cookbook: Go is not on this machine (Debian: apt-get install golang)");
        return Ok(None);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpcurl").display().to_string();
    let blocks = blocks()?;
    let install = blocks.iter().find(|block| block.is("install")).context("the guide says how to install")?;
    let mut launch = world.launch("install", "/bin/bash", RunAs::Caller).inheriting(&["HOME", "PATH"]);
    launch.environment.insert("GOBIN".to_owned(), folder.clone());
    launch.arguments = vec!["-c".to_owned(), format!("test -x {folder}/grpcurl || {}", install.text)];
    match launch.run(INSTALLED).await?.success() {
        Ok(_) => Ok(Some(folder)),
        Err(error) => {
            println!("NOT RUN: grpcurl's half of the cookbook: it could not be installed: {error:#}");
            Ok(None)
        }
    }
}

#[test]
fn every_command_of_the_grpcurl_cookbook_does_what_it_says() {
    scenario(async |world| {
        let path = std::env::var("PATH")?;
        let (grpcurl, npx) = (install_grpcurl(&world).await?, has(&world, "npx").await?);
        if !npx {
            println!("NOT RUN: buf curl's half of the cookbook: npm is not on this machine (Debian: apt-get install npm)");
        }
        if grpcurl.is_none() && !npx {
            return Ok(());
        }
        let options = Options::default();
        let (sites, server) = tokio::try_join!(TwoSites::start(&world), Postgres::start(&world, "pg", &options))?;
        sites.folder_repository().await?;
        sites.postgres_component("orders-db", &server).await?;
        sites.operator.says(&["context", "export", &world.path("tls").display().to_string()]).await?;
        let ours = |block: &Block| !block.is("install") && !block.is("address");
        let mut points = 0;
        if let Some(folder) = grpcurl {
            let path = format!("{folder}:{path}");
            let told = play(&world, &sites, "grpcurl", |block| ours(block) && !block.is("buf"), &path).await?.success()?;
            points += 1;
            for wanted in ["muster.v1.RecoveryService", "OPERATION_STATE_SUCCEEDED", "there is no component", "SERVING"] {
                ensure!(told.contains(wanted), "grpcurl did not tell {wanted}: {told}");
            }
        }
        if npx {
            let told = play(&world, &sites, "buf", |block| ours(block) && block.is("buf"), &path).await?.success()?;
            points += 1;
            for wanted in ["operator/admin", "OPERATION_STATE_SUCCEEDED", "there is no component"] {
                ensure!(told.contains(wanted), "buf curl did not tell {wanted}: {told}");
            }
        }
        let taken = sites.points("orders-db").await?.len();
        ensure!(taken == points, "{taken} points after {points} backups");
        Ok(())
    });
}
