//! What `muster … -o json` prints is what `docs/reference/muster.schema.json` promises, command by command.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::TwoSites;
use muster_tests::reference::commands::COMMANDS;
use muster_tests::reference::protocol::Protocol;
use muster_tests::reference::{schema, validate};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn every_command_stands_in_the_table_of_json() {
    scenario(async |world| {
        let folder = world.folder("man", RunAs::Caller)?;
        let program = world.program("muster")?.display().to_string();
        world.run(RunAs::Caller, &program, &["manual", &folder.display().to_string()], SOON).await?.success()?;
        let mut pages = BTreeSet::new();
        for entry in std::fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            pages.extend(name.strip_prefix("muster-").and_then(|name| name.strip_suffix(".1")).map(str::to_owned));
        }
        let rows: BTreeSet<_> = COMMANDS.iter().map(|row| row.command.replace(' ', "-")).collect();
        // Groups such as `repo` and `operator` have a page and print nothing themselves.
        let group = |page: &String| rows.iter().any(|row| row.starts_with(&format!("{page}-")));
        let missing: Vec<_> = pages.iter().filter(|page| !rows.contains(*page) && !group(page)).collect();
        ensure!(missing.is_empty(), "not in tests/src/reference/commands.rs: {missing:?}");
        let gone: Vec<_> = rows.iter().filter(|row| !pages.contains(*row)).collect();
        ensure!(gone.is_empty(), "in tests/src/reference/commands.rs, but no command: {gone:?}");
        Ok(())
    });
}

#[test]
fn what_commands_print_as_json_is_what_the_schema_promises() {
    scenario(async |world| {
        let sites = TwoSites::start(&world).await?;
        let repository = sites.folder_repository().await?.display().to_string();
        let data = world.folder("files", RunAs::Postgres)?;
        world.file("files/one", "one", RunAs::Postgres, 0o600)?;
        sites.files_component("papers", &data).await?;
        let document = schema::document(&Protocol::of_this_build());
        let passphrase = sites.passphrase().display().to_string();
        let apply = world.file("site.yaml", "kind: Site\nname: izmir\nspec: {description: A third}\n", RunAs::Caller, 0o600)?;
        let apply = apply.display().to_string();
        let open = ["--folder", &repository, "--passphrase-file", &passphrase];
        let judge = async |command: &str, more: &[&str], operator: &muster_testbed::operator::Operator| -> Result<serde_json::Value> {
            let mut arguments: Vec<&str> = command.split(' ').collect();
            arguments.extend(more);
            let value = operator.reads(&arguments).await?;
            let schema = document["commands"].get(format!("muster {command}")).with_context(|| format!("{command} has no schema"))?;
            let problems = validate::problems(&document, schema, &value);
            ensure!(problems.is_empty(), "muster {command}: {problems:#?}\n{value:#}");
            Ok(value)
        };
        let operator = &sites.operator;
        let backup = judge("backup", &["papers", "-q"], operator).await?;
        let id = backup["id"].as_str().context("an operation has an id")?.to_owned();
        for (command, more) in [
            ("agents", vec![]),
            ("apply", vec!["--dry-run", "-f", &apply]),
            ("check", vec!["papers", "-q"]),
            ("verify", vec!["papers", "-q"]),
            ("restore", vec!["papers", "--instance", "istanbul", "--in-place", "--dry-run", "-q"]),
            ("context list", vec![]),
            ("context show", vec![]),
            ("describe", vec!["component", "papers"]),
            ("findings", vec![]),
            ("get", vec![]),
            ("history", vec![]),
            ("operator list", vec![]),
            ("ops", vec![]),
            ("pause", vec!["papers", "--for", "1h", "--reason", "a test"]),
            ("status", vec![]),
            ("resume", vec!["papers"]),
            ("points", vec!["papers"]),
            ("repo check", open.to_vec()),
            ("repo list", open.to_vec()),
            ("schedules", vec![]),
            ("token create", vec!["--site", "ankara", "--agent", "another"]),
            ("version", vec![]),
            ("wait", vec![&id]),
            ("logs", vec![&id]),
        ] {
            judge(command, &more, operator).await?;
        }
        Ok(())
    });
}
