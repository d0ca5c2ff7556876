//! The SQL that gives the agent's database roles what they lack, for a person to run.

use anyhow::Context;
use muster_engine::observation::{Depth, Observation};

use crate::assignment::force::stored;
use crate::assignment::parse::parse;
use crate::config::Config;
use crate::engines;

/// Prints it for every instance of the stored assignment, as SQL with comments.
///
/// # Errors
/// Where nothing is assigned yet.
pub async fn print_missing(config: &Config) -> anyhow::Result<()> {
    let assignment = parse(&stored(&config.state_directory.join("assignment")).context("read the stored assignment")?);
    anyhow::ensure!(
        !assignment.instances.is_empty(),
        "nothing is assigned to this agent yet; HINT: `muster apply` a component that names it"
    );
    for (name, assigned) in &assignment.instances {
        println!("-- {name}");
        match engines::build(name, assigned, &engines::Own::unused()) {
            Ok(engine) => println!("{}", in_sql(&engine.observe(Depth::Full).await)),
            Err(fault) => println!("-- {fault}"),
        }
    }
    Ok(())
}

/// What a look tells of rights, as SQL.
fn in_sql(observation: &Observation) -> String {
    let bad = |name: &str| observation.conditions.iter().find(|condition| condition.name == name && !condition.ok);
    match (bad("BackupRights"), bad("ServerReachable")) {
        (Some(rights), _) => rights.hint.strip_prefix("as a superuser: ").unwrap_or(&rights.hint).replace("; ", ";\n"),
        (None, Some(server)) => format!("-- the server could not be asked: {}", server.message),
        (None, None) => "-- nothing is missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use muster_engine::observation::Condition;

    use super::*;

    fn look(name: &str, ok: bool, hint: &str) -> String {
        let condition = Condition { name: name.into(), ok, blocking: true, message: "refused".into(), hint: hint.into() };
        in_sql(&Observation { conditions: vec![condition], ..Observation::default() })
    }

    #[test]
    fn what_is_missing_is_printed_as_statements() {
        assert_eq!(
            look("BackupRights", false, "as a superuser: ALTER ROLE m REPLICATION; GRANT x TO m;"),
            "ALTER ROLE m REPLICATION;\nGRANT x TO m;"
        );
        assert_eq!(look("BackupRights", true, ""), "-- nothing is missing");
        assert!(look("ServerReachable", false, "").contains("could not be asked: refused"));
    }
}
