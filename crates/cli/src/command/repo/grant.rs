//! `muster repo grant`: a component's agents get its data key, wrapped to each by the holder of the passphrase.

use std::io::IsTerminal;

use clap::Args;
use muster_common::fault::{ErrorKind, Fault};
use muster_common::id::ComponentId;
use muster_repository::keys::Recipient;
use muster_wire::convert::id_from_proto;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{AgentStatus, ComponentSpec, ResourceKind};
use serde_json::json;

use super::Passphrase;
use crate::arguments::App;
use crate::command::{agents, get};
use crate::console::Output;
use crate::exit::Exit;
use crate::place::{self, Found, Place};
use crate::render::table;

/// The arguments of `muster repo grant`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  muster repo grant orders-db --passphrase-file passphrase\n  muster repo grant --folder /srv/muster --component-id 0123456789abcdef0123456789abcdef --recipient istanbul-db1=HEX --passphrase-file passphrase   # no controller"
)]
pub struct Arguments {
    /// The component, as the controller knows it: its id, its repository and its agents' keys are asked of the controller.
    #[arg(required_unless_present = "component_id", conflicts_with_all = ["component_id", "recipients"])]
    component: Option<String>,
    /// Without a controller: the component's id, 32 hexadecimal digits.
    #[arg(long, value_name = "ID", requires = "recipients")]
    component_id: Option<ComponentId>,
    /// Without a controller: an agent and its encryption key, 64 hexadecimal digits, as `muster agents -o json` told it while there was a controller.
    #[arg(long = "recipient", value_name = "NAME=KEY", value_parser = recipient, requires = "component_id")]
    recipients: Vec<Recipient>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    passphrase: Passphrase,
    /// On a terminal: do not ask whether the keys are the agents' own.
    #[arg(short, long)]
    yes: bool,
}

/// Whom to wrap what to, and where.
struct Grant {
    title: String,
    component: ComponentId,
    recipients: Vec<Recipient>,
    found: Found,
    /// Agents whose key is not known yet.
    missing: Vec<String>,
}

/// Wraps the key, stores it, and proves that the passphrase opens it.
///
/// # Errors
/// Where the passphrase is wrong, no agent's key is known, or the repository cannot be reached.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let passphrase = place::passphrase(&arguments.passphrase.passphrase_file)?;
    let grant = match (&arguments.component, arguments.component_id) {
        (Some(component), _) => from_controller(app, component, &arguments.place).await?,
        (None, Some(component)) => Grant {
            title: format!("component {component}"),
            component,
            recipients: arguments.recipients.clone(),
            found: arguments.place.required()?,
            missing: Vec::new(),
        },
        (None, None) => return Err(Fault::refused(ErrorKind::InvalidArgument, "which component?").hint("give its name, or --component-id")),
    };
    if grant.recipients.is_empty() {
        return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("grant {}: no agent's key is known yet", grant.title))
            .evidence(format!("not connected so far: {}", grant.missing.join(", ")))
            .hint("start the agents; `muster agents` shows when they are connected; then grant again"));
    }
    let question = format!(
        "The data key of {} will be wrapped to these agents, which can then read its recovery points:\n{}",
        grant.title,
        shown(&grant.recipients)
    );
    if std::io::stdin().is_terminal() {
        let typed = arguments.component.as_deref().unwrap_or("yes");
        app.console.consent(&question, typed, arguments.yes).await?;
    } else {
        // The passphrase is consent enough for a script: whoever has it reads everything anyway.
        app.console.note(&question);
    }
    let repository = grant.found.open().await?;
    let key = repository.grant(grant.component, &grant.recipients, &passphrase).await.map_err(|error| error.fault())?;
    if app.console.output == Output::Text {
        app.console.data(&format!("{} is granted: key {key}, opened once by the passphrase as proof\n", grant.title))?;
    } else {
        let names: Vec<&str> = grant.recipients.iter().map(|recipient| recipient.name.as_str()).collect();
        app.console.value(
            &json!({"componentId": grant.component.to_string(), "keyId": key.to_string(), "recipients": names, "missing": grant.missing}),
        )?;
    }
    if !grant.missing.is_empty() {
        app.console.say(&format!(
            "NOT granted, their keys are not known because they never connected: {}. Grant again when `muster agents` shows them\n",
            grant.missing.join(", ")
        ));
    }
    Ok(Exit::Ok)
}

async fn from_controller(app: &App, name: &str, place: &Place) -> Result<Grant, Fault> {
    let controller = app.controller()?;
    let resource = get::one(&controller, ResourceKind::Component, name).await?;
    let component = id_from_proto(&resource.id, "the component's id")?;
    let Some(Spec::Component(spec)) = resource.spec else {
        return Err(Fault::failed(ErrorKind::Internal, format!("{name} is no component")));
    };
    let found = match place.read()? {
        Some(found) => found,
        None if spec.repository.is_empty() => {
            return Err(Fault::refused(ErrorKind::FailedPrecondition, format!("{name} has no repository"))
                .hint("declare `repository: NAME` in its spec and `muster apply` it"));
        }
        None => {
            let repository = get::one(&controller, ResourceKind::Repository, &spec.repository).await?;
            let Some(Spec::Repository(spec)) = repository.spec else {
                return Err(Fault::failed(ErrorKind::Internal, format!("{} is no repository", repository.name)));
            };
            place.found(&spec)?
        }
    };
    let (recipients, missing) = recipients(&spec, &agents::all(&controller).await?)?;
    Ok(Grant { title: format!("{name} (id {component})"), component, recipients, found, missing })
}

/// The keys of the component's agents, and the agents whose key is not known. A revoked agent gets nothing.
fn recipients(spec: &ComponentSpec, agents: &[AgentStatus]) -> Result<(Vec<Recipient>, Vec<String>), Fault> {
    let mut wanted: Vec<&str> = spec.instances.iter().map(|instance| instance.agent.as_str()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let (mut known, mut missing) = (Vec::new(), Vec::new());
    for name in wanted {
        match agents.iter().find(|agent| agent.name == name && !agent.revoked && !agent.encryption_key.is_empty()) {
            Some(agent) => known
                .push(recipient(&format!("{name}={}", agent.encryption_key)).map_err(|error| Fault::failed(ErrorKind::Internal, error))?),
            None => missing.push(name.to_owned()),
        }
    }
    Ok((known, missing))
}

fn recipient(text: &str) -> Result<Recipient, String> {
    let read = || {
        let (name, key) = text.split_once('=')?;
        let mut x25519_public = [0; 32];
        hex::decode_to_slice(key, &mut x25519_public).ok()?;
        (!name.is_empty()).then(|| Recipient { name: name.to_owned(), x25519_public })
    };
    read().ok_or_else(|| "expected NAME=KEY with a key of 64 hexadecimal digits".to_owned())
}

/// The recipients with their keys in groups that can be read out over a telephone.
fn shown(recipients: &[Recipient]) -> String {
    let grouped = |key: &[u8; 32]| key.chunks(4).map(hex::encode).collect::<Vec<_>>().join(" ");
    let rows: Vec<_> = recipients.iter().map(|recipient| vec![recipient.name.clone(), grouped(&recipient.x25519_public)]).collect();
    table::table(&["AGENT", "ENCRYPTION KEY"], &rows, "  ")
}

#[cfg(test)]
mod tests {
    use muster_wire::proto::v1::InstanceSpec;

    use super::*;

    fn agent(name: &str, key: &str, revoked: bool) -> AgentStatus {
        AgentStatus { name: name.into(), encryption_key: key.into(), revoked, ..AgentStatus::default() }
    }

    #[test]
    fn only_the_components_own_agents_get_the_key_and_those_without_one_are_named() {
        let instance = |agent: &str| InstanceSpec { agent: agent.into(), ..InstanceSpec::default() };
        let spec = ComponentSpec { instances: ["a", "b", "c", "a"].map(instance).to_vec(), ..ComponentSpec::default() };
        let fleet = [
            agent("a", &"01".repeat(32), false),
            agent("b", "", false),
            agent("c", &"02".repeat(32), true),
            agent("z", &"03".repeat(32), false),
        ];
        let (known, missing) = recipients(&spec, &fleet).unwrap();
        assert_eq!(known, [Recipient { name: "a".into(), x25519_public: [1; 32] }]);
        assert_eq!(missing, ["b", "c"]);
    }

    #[test]
    fn a_recipient_is_a_name_and_a_key() {
        assert_eq!(recipient(&format!("a={}", "ff".repeat(32))).unwrap().x25519_public, [0xff; 32]);
        for text in ["", "a", "a=", "=ff", "a=zz", &format!("a={}", "ff".repeat(31))] {
            assert!(recipient(text).is_err(), "{text}");
        }
    }
}
