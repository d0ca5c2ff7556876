//! How the agent belongs: it joins once with a token, and renews its certificate for the same key when a third of its life has passed.
//!
//! What always holds: the token's secret is only sent to a controller whose CA has the token's fingerprint; the key never
//! leaves this machine and lives as long as the agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_common::backoff::Backoff;
use muster_identity::bootstrap;
use muster_identity::client;
use muster_identity::credentials::{CredentialFolder, Credentials, CredentialsError};
use muster_identity::csr::{Csr, CsrError};
use muster_identity::endpoint::Endpoint;
use muster_identity::key::KeyError;
use muster_identity::token::{InvalidToken, JoinToken};
use muster_service::clock;
use muster_service::files::{self, FileError};
use muster_service::tasks::TaskGate;
use muster_wire::proto::v1::enrollment_service_client::EnrollmentServiceClient;
use muster_wire::proto::v1::{EnrollRequest, RenewRequest};
use rand::RngExt;
use tokio_util::sync::CancellationToken;

use crate::belonging::Belonging;
use crate::durable::{self, DurableError, Format};

const JOINED: Format = Format { magic: "MUSTER-JOINED", version: 1 };

/// How long one call may take.
const CALL: Duration = Duration::from_secs(15);

/// How often it is looked whether the certificate is due, at the longest: clocks are set.
const LOOK: Duration = Duration::from_secs(30);

/// Why the agent does not belong.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// There is neither a certificate nor a token.
    #[error("this agent has no certificate in {} and no `tokenFile` in its configuration; HINT: `muster token create --site SITE --agent NAME > FILE` and name the file", identity.display())]
    NoToken {
        /// Where the certificate would be.
        identity: PathBuf,
    },
    /// The token's file.
    #[error("{0}; HINT: `muster token create --site SITE --agent NAME > FILE` makes one")]
    TokenFile(#[source] FileError),
    /// The token.
    #[error("{}: {source}; HINT: `muster token create` makes a new one", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidToken,
    },
    /// The controller refused.
    #[error("join: {0}")]
    Refused(String),
    /// The controller answered with another CA than it showed.
    #[error("join: the answer holds another CA than the token names; nothing of it is kept")]
    OtherAuthority,
    /// A credential file.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The request.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// What was kept of the join.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// An endpoint.
    #[error("{0:?} is no host:port of a controller")]
    Endpoint(String),
    /// The agent was asked to stop before it belonged.
    #[error("asked to stop before the agent had joined")]
    Stopped,
}

/// What is kept of the join besides the credentials.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Joined {
    /// The token's hash: the same token is not tried again, a new one is.
    token: String,
    /// The controllers that the token named.
    endpoints: Vec<String>,
}

/// The agent's credentials and where its controllers are.
#[derive(Clone, Debug)]
pub struct Member {
    /// The credentials' folder.
    pub folder: CredentialFolder,
    /// The credentials as they are now.
    pub credentials: Credentials,
    /// The controllers.
    pub controllers: Vec<Endpoint>,
}

/// The agent's credentials: those it has, or those that its token gets it. A token that was not used before is used.
///
/// # Errors
/// See [`MembershipError`]. A controller that cannot be reached is waited for.
pub async fn join(
    identity: &Path,
    token_file: Option<&Path>,
    configured: &[String],
    cancel: &CancellationToken,
) -> Result<Member, MembershipError> {
    let folder = CredentialFolder::at(identity);
    let joined_file = identity.join("joined");
    let mut joined: Option<Joined> = durable::read_json(&joined_file, JOINED)?;
    let token = token_file.map(read_token).transpose();
    let token = match token {
        // Once it was used a token's file may go.
        Err(MembershipError::TokenFile(error)) if error.is_not_found() && folder.is_enrolled() => None,
        other => other?,
    };
    let credentials = match token {
        Some(token) if joined.as_ref().is_none_or(|joined| joined.token != token.secret.hash().to_hex()) => {
            let credentials = enroll(&folder, &token, cancel).await?;
            let now = Joined { token: token.secret.hash().to_hex(), endpoints: token.endpoints.iter().map(ToString::to_string).collect() };
            durable::write_json(&joined_file, JOINED, &now)?;
            joined = Some(now);
            credentials
        }
        Some(_) | None if folder.is_enrolled() => folder.load()?,
        Some(_) | None => return Err(MembershipError::NoToken { identity: identity.to_owned() }),
    };
    let texts = if configured.is_empty() { joined.map(|joined| joined.endpoints).unwrap_or_default() } else { configured.to_vec() };
    let controllers =
        texts.iter().map(|text| text.parse().map_err(|_| MembershipError::Endpoint(text.clone()))).collect::<Result<_, _>>()?;
    Ok(Member { folder, credentials, controllers })
}

fn read_token(path: &Path) -> Result<JoinToken, MembershipError> {
    let text = files::read_text(path, 64 << 10).map_err(MembershipError::TokenFile)?;
    text.trim().parse().map_err(|source| MembershipError::Token { path: path.to_owned(), source })
}

async fn enroll(folder: &CredentialFolder, token: &JoinToken, cancel: &CancellationToken) -> Result<Credentials, MembershipError> {
    let csr_pem = Csr::request(&folder.key()?)?;
    let mut tries = 0;
    loop {
        let mut client = EnrollmentServiceClient::new(bootstrap::channel(token)?);
        let request = EnrollRequest { secret: token.secret.reveal(), csr_pem: csr_pem.clone() };
        let answer = tokio::select! {
            answer = tokio::time::timeout(CALL, client.enroll(request)) => answer,
            () = cancel.cancelled() => return Err(MembershipError::Stopped),
        };
        let why = match answer {
            Ok(Ok(response)) => {
                let response = response.into_inner();
                if !bootstrap::is_pinned(token, &response.ca_pem) {
                    return Err(MembershipError::OtherAuthority);
                }
                tracing::info!(agent = %response.agent, site = %response.site, "joined");
                return Ok(folder.store(&response.ca_pem, &response.certificate_pem)?);
            }
            Ok(Err(status)) if is_passing(&status) => client::explain(&status),
            Ok(Err(status)) => return Err(MembershipError::Refused(muster_wire::status::fault(&status).to_string())),
            Err(_) => format!("no answer within {} s", CALL.as_secs()),
        };
        tries += 1;
        tracing::warn!(tries, "not joined yet: {why}");
        tokio::select! {
            () = tokio::time::sleep(pause(tries)) => {}
            () = cancel.cancelled() => return Err(MembershipError::Stopped),
        }
    }
}

/// Whether a try later can help: nobody was reached.
fn is_passing(status: &tonic::Status) -> bool {
    let transport = std::error::Error::source(status).is_some();
    matches!(status.code(), tonic::Code::Unavailable) || (status.code() == tonic::Code::Unknown && transport)
}

fn pause(tries: u32) -> Duration {
    let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    backoff.map_or(Duration::from_secs(5), |backoff| backoff.delay(tries, rand::rng().random()))
}

/// Renews the certificate whenever it is due or another CA signs, until the gate closes.
pub async fn keep_renewed(belonging: Arc<Belonging>, controllers: Vec<Endpoint>, gate: TaskGate) {
    let mut failed = 0;
    let mut asked = false;
    loop {
        let due = belonging.credentials().own().renew_at();
        let now = clock::now();
        let wait = if failed > 0 { pause(failed).min(LOOK) } else { due.since(now).min(LOOK) };
        if failed > 0 || now < due && !asked {
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_millis(100))) => {}
                () = belonging.wanted.notified() => asked = true,
                () = gate.token().cancelled() => return,
            }
        }
        if clock::now() < due && !asked {
            continue;
        }
        let got = tokio::select! {
            got = renew(&belonging, &controllers) => got,
            () = gate.token().cancelled() => return,
        };
        match got {
            Ok(()) => {
                (failed, asked) = (0, false);
                tracing::info!(serial = belonging.credentials().own().serial.as_str(), "certificate renewed");
            }
            Err(why) => {
                failed += 1;
                let left = belonging.credentials().own().not_after.since(clock::now());
                tracing::warn!(failed, left_seconds = left.as_secs(), "the certificate is not renewed yet: {why}");
            }
        }
    }
}

async fn renew(belonging: &Belonging, controllers: &[Endpoint]) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let csr_pem = Csr::request(&belonging.folder().key().map_err(|error| told(&error))?).map_err(|error| told(&error))?;
    let mut service = EnrollmentServiceClient::new(client::channel(belonging.client(), controllers.to_vec()));
    let answer = tokio::time::timeout(CALL, service.renew(RenewRequest { csr_pem })).await;
    let response = answer.map_err(|_| format!("no answer within {} s", CALL.as_secs()))?.map_err(|status| client::explain(&status))?;
    let response = response.into_inner();
    belonging.renew(response.ca_pem, response.certificate_pem).await
}
