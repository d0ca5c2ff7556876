//! `muster context`: which controller, as whom.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use muster_common::fault::Fault;
use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_service::clock;
use muster_wire::proto::v1::{RenewOperatorRequest, RenewOperatorResponse, WhoAmIRequest};
use serde_json::json;

use crate::arguments::App;
use crate::console::Output;
use crate::context::{self, Summary};
use crate::controller::Repeat;
use crate::exit::Exit;
use crate::render;
use crate::render::amount::NOTHING;

/// The arguments of `muster context`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do. Default: list them.
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists contexts; the current one is marked.
    #[command(after_help = "Examples:\n  muster context list")]
    List,
    /// Makes a context the current one.
    #[command(after_help = "Examples:\n  muster context use production")]
    Use {
        /// The context.
        name: Name,
    },
    /// Takes the contexts of an operator's file in, and makes its one current.
    #[command(after_help = "Examples:\n  muster context import ada.muster.yaml")]
    Import {
        /// The file that `muster operator add`, `muster-controller admin-cert` or `dev` made.
        file: PathBuf,
    },
    /// Asks the controller who the caller is, and until when.
    #[command(after_help = "Examples:\n  muster context show\n  muster context show --context production")]
    Show,
    /// Asks the controller for a new certificate for the same key, and takes the CAs that are trusted now: while a CA is being replaced, and
    /// before a certificate ends.
    #[command(after_help = "Examples:\n  muster context renew\n  muster context renew --context production")]
    Renew,
    /// Writes ca.pem, cert.pem and key.pem (0600) for clients that want files: grpcurl, Python, Go.
    #[command(
        after_help = "Examples:\n  muster context export tls && grpcurl -cacert tls/ca.pem -cert tls/cert.pem -key tls/key.pem 127.0.0.1:7400 list"
    )]
    Export {
        /// The folder; it is made where it is missing.
        folder: PathBuf,
        /// The context. Default: the one that is named by --context, or the current one.
        name: Option<Name>,
    },
    /// Forgets a context and the key in it.
    #[command(after_help = "Examples:\n  muster context delete test")]
    Delete {
        /// The context.
        name: Name,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Shows or changes the operator's contexts.
///
/// # Errors
/// Where there is no such context, or the file cannot be read or written.
pub async fn run(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let own = context::file()?;
    match arguments.action.unwrap_or(Action::List) {
        Action::List => list(app, &context::list(&own)?)?,
        Action::Use { name } => {
            context::use_context(&own, &name)?;
            app.console.note(&format!("context {name} is current"));
        }
        Action::Import { file } => {
            let names = context::import(&own, &file)?;
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            app.console.note(&format!("imported {} into {}. Try: `muster status`", names.join(", "), own.display()));
        }
        Action::Show => show(app).await?,
        Action::Renew => renew(app, &own).await?,
        Action::Export { folder, name } => {
            let files = context::export(&own, name.as_ref().or(app.context()), &folder)?;
            app.console.note(&format!("wrote {files} to {}; key.pem lets whoever reads it in as you", folder.display()));
        }
        Action::Delete { name, yes } => {
            let lost =
                format!("Context {name} and the key in it will be forgotten; without another copy only an admin lets you in again.\n");
            app.console.consent(&lost, name.as_str(), yes).await?;
            context::remove(&own, &name)?;
            app.console.note(&format!("context {name} is forgotten"));
        }
    }
    Ok(Exit::Ok)
}

async fn show(app: &App) -> Result<(), Fault> {
    let controller = app.controller()?;
    let who = controller
        .call(Repeat::Read, &WhoAmIRequest {}, |request| {
            let mut client = controller.status();
            async move { client.who_am_i(request).await }
        })
        .await?;
    app.console.show(&who, "muster.v1.WhoAmIResponse", || {
        format!("context {} at {}: {}", controller.context, controller.place, render::status::who(&who, clock::now()))
    })
}

async fn renew(app: &App, own: &std::path::Path) -> Result<(), Fault> {
    let controller = app.controller()?;
    let request = RenewOperatorRequest { csr_pem: context::request(own, &controller.context)? };
    // One that was made and whose answer was lost hurts nobody: it is for the same key.
    let answer: RenewOperatorResponse = controller
        .call(Repeat::Safe, &request, |request| {
            let mut client = controller.fleet();
            async move { client.renew_operator(request).await }
        })
        .await?;
    let ends = render::amount::age(answer.expires_at.as_ref(), clock::now());
    let trusted = context::renewed(own, &controller.context, answer.certificate_pem, answer.ca_pem)?;
    app.console.note(&format!("context {}: the new certificate ends {ends}; trusted: {}", controller.context, trusted.join(", ")));
    Ok(())
}

fn list(app: &App, contexts: &[Summary]) -> Result<(), Fault> {
    if app.console.output == Output::Text {
        return app.console.data(&listed(contexts, clock::now()));
    }
    let all: Vec<_> = contexts
        .iter()
        .map(|one| json!({"name": one.name.as_str(), "current": one.current, "endpoints": one.endpoints, "identity": one.identity}))
        .collect();
    app.console.value(&json!({ "contexts": all }))
}

fn listed(contexts: &[Summary], now: Timestamp) -> String {
    if contexts.is_empty() {
        return "no contexts\nHINT: `muster context import FILE`; FILE is made by `muster operator add` or `muster-controller dev`\n"
            .to_owned();
    }
    let row = |one: &Summary| {
        let mark = if one.current { "*" } else { "" };
        let ends = one.certificate_until.map_or_else(
            || NOTHING.to_owned(),
            |until| {
                let until = prost_types::Timestamp { seconds: until.div_euclid(1_000_000), nanos: 0 };
                render::amount::age(Some(&until), now)
            },
        );
        vec![mark.to_owned(), one.name.to_string(), one.endpoints.join(", "), one.identity.clone(), ends]
    };
    let rows: Vec<_> = contexts.iter().map(row).collect();
    render::table::table(&["", "CONTEXT", "CONTROLLERS", "AS", "CERTIFICATE ENDS"], &rows, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_listed_and_the_current_one_is_marked() {
        let context = |name: &str, current| Summary {
            name: name.parse().unwrap(),
            current,
            endpoints: vec!["10.1.0.1:7400".into()],
            identity: "operator ada".into(),
            certificate_until: Some(86_400_000_000),
        };
        assert_eq!(
            listed(&[context("production", true), context("test", false)], Timestamp(0)),
            "   CONTEXT     CONTROLLERS    AS            CERTIFICATE ENDS\n\
             *  production  10.1.0.1:7400  operator ada  in 1d\n   test        10.1.0.1:7400  operator ada  in 1d\n"
        );
        assert!(listed(&[], Timestamp(0)).contains("muster context import FILE"));
    }
}
