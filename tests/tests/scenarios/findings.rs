//! What operators are told: findings of a real server that went down, the last page of a controller that is gone, and nothing secret anywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use muster_testbed::account::RunAs;
use muster_testbed::eventually::{eventually, until};
use muster_testbed::postgres::server::{Options, Postgres, Stop};
use muster_testbed::postgres::template::AGENT_PASSWORD;
use muster_testbed::s3::server::SECRET_KEY;
use muster_testbed::scenario::scenario;
use muster_testbed::two_sites::{PASSPHRASE, TwoSites};
use muster_testbed::world::World;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// A password that is wrong, so that the server and the agent have something to say about it.
const WRONG_PASSWORD: &str = "planted-and-wrong-4711";

async fn orders(world: &World) -> Result<(TwoSites, Postgres)> {
    let options = Options::default();
    let (sites, server) = tokio::try_join!(TwoSites::start(world), Postgres::start(world, "pg", &options))?;
    sites.folder_repository().await?;
    sites.postgres_component("orders-db", &server).await?;
    sites.operator.says(&["backup", "orders-db"]).await?;
    Ok((sites, server))
}

/// The finding of this rule about this subject, if it stands.
async fn finding(sites: &TwoSites, rule: &str, subject: &str) -> Result<Option<Value>> {
    let answer = sites.operator.reads(&["findings"]).await?;
    let all = answer.get("findings").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(all.into_iter().find(|finding| finding.get("name") == Some(&rule.into()) && finding.get("subject") == Some(&subject.into())))
}

#[test]
fn a_server_that_goes_down_is_a_finding_and_a_line_of_history_and_the_last_page_outlives_the_controller() {
    scenario(async |world| {
        let (sites, server) = orders(&world).await?;
        server.stop(Stop::Fast).await?;
        let subject = "instance/orders-db/istanbul";
        let down = eventually("the finding", SOON, async || finding(&sites, "ServerDown", subject).await).await?;
        ensure!(down.get("severity") == Some(&"SEVERITY_CRITICAL".into()), "{down}");
        ensure!(down.get("hint").and_then(Value::as_str).is_some_and(|hint| hint.contains("start the server")), "{down}");
        let history = sites.operator.says(&["history", "orders-db"]).await?;
        for line in ["was read-write, is down", "ServerDown", "succeeded in"] {
            ensure!(history.contains(line), "the history lacks {line:?}:\n{history}");
        }
        let page = sites.operator.says(&["status"]).await?;
        ensure!(page.contains("! CRITICAL  ServerDown of orders-db/istanbul"), "{page}");
        let scraped = sites.controller.scrape("/metrics").await?;
        let (_, metrics) = scraped.split_once("\r\n\r\n").context("an answer has a head")?;
        documented(metrics)?;
        ensure!(metrics.contains("muster_component_rpo_objective_seconds{component=\"orders-db\""), "{metrics}");
        let subject_label = format!("subject=\"{subject}\"");
        ensure!(metrics.lines().any(|line| line.starts_with("muster_finding{") && line.contains(&subject_label)), "{metrics}");

        sites.controller.kill()?;
        let gone = sites.operator.runs(&["status"]).await?;
        ensure!(gone.status.code() == Some(6), "{gone:?}");
        for line in
            ["CANNOT BE REACHED", "This is its last page, as of", "systemctl status muster-controller", "ServerDown of orders-db/istanbul"]
        {
            ensure!(gone.stdout.contains(line), "the last page lacks {line:?}:\n{}", gone.stdout);
        }
        let machine = sites.operator.runs(&["status", "-o", "json", "--retry-for", "1s"]).await?;
        ensure!(
            machine.status.code() == Some(6) && machine.stdout.is_empty(),
            "a script takes the last page for the present one: {machine:?}"
        );

        sites.controller.start_again(&muster_testbed::failpoints::Failpoints::none()).await?;
        let stands =
            finding(&sites, "ServerDown", subject).await?.context("it stands after the restart, though no agent has told anything yet")?;
        ensure!(stands.get("since") == down.get("since"), "{stands} began anew");
        Ok(())
    });
}

/// Every line of a scrape is one of Prometheus' text format, and every metric of ours stands in the book.
fn documented(metrics: &str) -> Result<()> {
    let book = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/metrics.md"))?;
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("{line:?} has no value"))?;
        value.parse::<f64>().with_context(|| format!("{line:?} ends with no number"))?;
        let name = series.split('{').next().unwrap_or_default();
        ensure!(!name.starts_with("muster_") || book.contains(&format!("| `{name}` |")), "docs/guides/metrics.md lacks {name}");
    }
    Ok(())
}

/// Texts that must not be found, by what they are.
fn planted(world: &World, token: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut secrets = BTreeMap::new();
    for (what, secret) in [
        ("the database's password", AGENT_PASSWORD),
        ("a wrong password", WRONG_PASSWORD),
        ("the recovery passphrase", PASSPHRASE),
        ("the bucket's secret", SECRET_KEY),
        ("a join token", token),
    ] {
        secrets.insert(what.to_owned(), secret.as_bytes().to_vec());
    }
    for file in files(world.root())? {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let Some((_, key)) = text.split_once("PRIVATE KEY-----") else { continue };
        let line = key.lines().map(str::trim).find(|line| line.len() > 40).context("a key has a line")?;
        secrets.insert(format!("the key in {}", file.display()), line.as_bytes().to_vec());
    }
    ensure!(secrets.len() >= 9, "keys of the CA, the controller, the operator and two agents are there: {:?}", secrets.keys());
    Ok(secrets)
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // A server's own folders come and go, and hold none of ours.
            if !["pg", "repository", "bin"].contains(&entry.file_name().to_string_lossy().as_ref()) {
                all.extend(files(&entry.path())?);
            }
        } else if kind.is_file() {
            all.push(entry.path());
        }
    }
    Ok(all)
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

#[test]
fn secrets_that_are_planted_everywhere_are_in_no_bundle_no_log_no_error_and_no_journal() {
    scenario(async |world| {
        let (sites, _server) = orders(&world).await?;
        let token = sites.operator.says(&["token", "create", "--site", "ankara", "--agent", "spare"]).await?.trim().to_owned();
        // A failure about each: the database's password, the token, the passphrase.
        world.file(&format!("{}/password", sites.istanbul.name()), WRONG_PASSWORD, RunAs::Postgres, 0o600)?;
        let mut said = Vec::new();
        said.push(sites.operator.runs(&["backup", "orders-db"]).await?);
        said.push(sites.operator.runs(&["resolve", "abcdef12", "--succeeded", "--word", "nothing"]).await?);
        let wrong = world.file("wrong-passphrase", "planted-and-wrong-4711", RunAs::Caller, 0o600)?.display().to_string();
        let repository = world.path("repository/primary").display().to_string();
        said.push(sites.operator.runs(&["repo", "list", "--folder", &repository, "--passphrase-file", &wrong]).await?);
        ensure!(said.iter().all(|output| !output.status.success()), "{said:?}");
        until("the operation to end", SOON, async || {
            let running = sites.operator.reads(&["ops", "--running"]).await?;
            Ok(running.get("operations").and_then(Value::as_array).is_none_or(Vec::is_empty))
        })
        .await?;

        let bundle = world.path("bundle.tar");
        sites.operator.says(&["support-bundle", "--file", &bundle.display().to_string()]).await?;
        let archive = std::fs::read(&bundle)?;
        for name in
            ["status.txt", "findings.json", "operations.json", "declared.yaml", "controller/configuration.txt", "controller/metrics.txt"]
        {
            ensure!(holds(&archive, format!("muster-support/{name}").as_bytes()), "the bundle lacks {name}");
        }
        ensure!(holds(&archive, b"muster-support/journal/"), "the bundle lacks the journal");
        let mut searched = BTreeMap::from([("the bundle".to_owned(), archive)]);
        for (number, output) in said.iter().enumerate() {
            searched.insert(format!("answer {number}"), format!("{}{}", output.stdout, output.stderr).into_bytes());
        }
        let logs = files(&world.path("log"))?;
        let stores = files(sites.controller.state())?.into_iter().filter(|file| file.to_string_lossy().contains(".db"));
        for file in logs.into_iter().chain(stores) {
            searched.insert(file.display().to_string(), std::fs::read(&file)?);
        }
        ensure!(searched.len() > 6, "{:?}", searched.keys());
        for (what, secret) in planted(&world, &token)? {
            for (place, bytes) in &searched {
                ensure!(!holds(bytes, &secret), "{what} is in {place}");
            }
        }
        Ok(())
    });
}
