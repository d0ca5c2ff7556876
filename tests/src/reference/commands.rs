//! Which command prints what with `-o json`: the table of `docs/reference/json.md`, and what the schema of each command is.

/// A command and what it prints.
pub struct Row {
    /// As typed behind `muster`.
    pub command: &'static str,
    /// A message of the protocol, or a definition of `own.json`. None: nothing on standard output, or no JSON.
    pub prints: Option<&'static str>,
    /// What more there is to say.
    pub note: &'static str,
}

const OPERATION: &str = "muster.v1.Operation";

const fn row(command: &'static str, prints: &'static str, note: &'static str) -> Row {
    Row { command, prints: Some(prints), note }
}

const fn nothing(command: &'static str, note: &'static str) -> Row {
    Row { command, prints: None, note }
}

/// Every command that is not hidden, in the alphabet's order.
pub const COMMANDS: &[Row] = &[
    row("adopt", "muster.v1.AdoptResponse", ""),
    row("agents", "muster.v1.ListAgentsResponse", ""),
    nothing("agents revoke", ""),
    row("apply", "muster.v1.ApplyResponse", "also with --dry-run"),
    row("approve", OPERATION, ""),
    row("audit list", "muster.v1.AuditServiceListResponse", ""),
    row("audit verify", "muster.v1.AuditServiceVerifyResponse", "exit code 11: it is not as it was written"),
    row("backup", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("ca retire", "muster.v1.RetireAuthorityResponse", ""),
    row("ca rotate", "muster.v1.RotateAuthorityResponse", ""),
    row("ca status", "muster.v1.GetAuthoritiesResponse", ""),
    row("cancel", OPERATION, ""),
    row("check", OPERATION, "as it ended"),
    nothing("completion", "a script"),
    nothing("context delete", ""),
    nothing("context export", "files"),
    nothing("context import", ""),
    row("context list", "own.Contexts", ""),
    nothing("context renew", ""),
    row("context show", "muster.v1.WhoAmIResponse", ""),
    nothing("context use", ""),
    nothing("delete", ""),
    row("describe", "muster.v1.Resource", ""),
    row("discard", OPERATION, "as it ended"),
    row("dump", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("failover", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("fence", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("findings", "muster.v1.ListFindingsResponse", "with --watch: a muster.v1.FindingEvent each"),
    row("get", "muster.v1.InventoryServiceListResponse", "with KIND NAME: a muster.v1.Resource"),
    row("history", "muster.v1.ListHistoryResponse", ""),
    row("hold", OPERATION, "as it ended"),
    row("hook run", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("logs", "own.Logs", "events without the operation after each"),
    row("manage", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    nothing("operator add", "a context's file (YAML)"),
    row("operator list", "muster.v1.ListOperatorsResponse", ""),
    nothing("operator revoke", ""),
    row("ops", "muster.v1.OperationServiceListResponse", ""),
    row("pause", "muster.v1.PauseResponse", ""),
    row("points", "muster.v1.ListPointsResponse", ""),
    row("preflight", "muster.v1.PreflightResponse", ""),
    row("prune", OPERATION, "as it ended"),
    row("reject", OPERATION, ""),
    row("rejoin", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("release", OPERATION, "as it ended"),
    row("repo check", "own.RepositoryCheck", ""),
    row("repo grant", "own.RepositoryGrant", ""),
    row("repo hold", "own.Hold", ""),
    row("repo init", "muster.v1.Resource", ""),
    row("repo list", "own.RepositoryPoints", ""),
    row("repo prune", "own.Prune", "also with --dry-run"),
    row("repo release", "own.Release", ""),
    row("repo restore", "own.RepositoryRestore", ""),
    row("resolve", OPERATION, ""),
    row("restore", OPERATION, "as it ended; with --dry-run its result is the plan"),
    row("resume", "muster.v1.ResumeResponse", ""),
    row("retry", OPERATION, "as it ended"),
    row("route adopt", "muster.v1.AdoptRouteResponse", ""),
    nothing("route conform", "a line for each check"),
    row("route point", "muster.v1.PointRouteResponse", ""),
    row("route show", "muster.v1.ShowRouteResponse", "exit code 3: it does not point at the writer's site everywhere"),
    row("schedules", "muster.v1.ListSchedulesResponse", ""),
    row("status", "muster.v1.StatusPage", "with --watch: one each time that it changes"),
    row("support-bundle", "own.SupportBundle", ""),
    row("switchover", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("token create", "muster.v1.CreateJoinTokenResponse", ""),
    row("unfence", OPERATION, "as it ended; with --no-wait: as it was accepted"),
    row("verify", OPERATION, "as it ended"),
    row("version", "own.Version", "controller is null with --client, and where it cannot be reached"),
    row("wait", OPERATION, ""),
    row("watch", "muster.v1.OperationEvent", "a document each; with an operation: a muster.v1.Operation, as it ended"),
];

const HEAD: &str = "# JSON of the commands

<!-- Made by `make reference` from tests/src/reference/commands.rs. -->

With `-o json` a command prints one JSON document on standard output (those that watch: one after the other), and a failure on standard error is a
`muster.v1.Fault` as JSON. [muster.schema.json](muster.schema.json) is the JSON Schema of all of them: `commands` has one entry a command, as
`\"muster backup\"`, and `$defs` what it leads to. A test runs the commands and judges their output by it.

What is stable: names and types of fields, values of enums, exit codes ([The command line](../guides/cli.md)). Fields and values may be added:
read what you know and pass over the rest. It is protobuf's canonical JSON, so 64-bit numbers are texts, instants RFC 3339, durations as `3.5s`, and
**absent, empty, zero and false fields are left out**: in jq write `.components[]? | .lag // \"0s\"`. What `muster repo` and `version` print are
documents of their own, in which numbers are numbers and instants as `2026-01-31 02:00:00Z`.

The messages are described in [The API](api.md).

| command | prints | besides |
|---|---|---|
";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for row in COMMANDS {
        let prints = match row.prints {
            Some(name) if name.starts_with("muster.") => format!("[{name}](api.md#{})", name.to_lowercase().replace('.', "")),
            Some(name) => format!("`{name}` in the schema"),
            None => "no JSON".to_owned(),
        };
        page.push_str(&format!("| `muster {}` | {prints} | {} |\n", row.command, row.note));
    }
    page
}
