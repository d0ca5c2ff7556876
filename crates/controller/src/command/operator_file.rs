//! The making of an operator on the controller's machine: a key, a certificate by the CA, the file that the controller takes in.

use std::time::Duration;

use anyhow::{Context, Result};
use muster_common::name::Name;
use muster_identity::authority::Authority;
use muster_identity::caller::Role;
use muster_identity::context::OperatorContext;
use muster_identity::csr::Csr;
use muster_identity::key::KeyPair;
use muster_service::clock;

use crate::admin_file::AdminFile;
use crate::config::Config;

/// Makes an operator with this role and leaves the role for the controller; gives what `muster` needs, the key in it.
///
/// # Errors
/// Where the CA does not sign or a file cannot be written.
pub fn make(
    config: &Config,
    authority: &Authority,
    operator: &Name,
    role: Role,
    context: &Name,
    life: Duration,
) -> Result<OperatorContext> {
    let key = KeyPair::generate().context("make a key")?;
    let csr = Csr::parse(&Csr::request(&key).context("ask for a certificate")?).context("ask for a certificate")?;
    let issued = authority.issue_operator(&csr, operator, clock::now(), life).context("sign the certificate")?;
    AdminFile::new(operator.clone(), role, &issued).leave(&config.state_directory).context("leave the role for the controller")?;
    Ok(OperatorContext {
        name: context.clone(),
        endpoints: config.endpoints.clone(),
        authority: authority.pem().to_owned(),
        certificate: issued.pem,
        key: key.to_pem(),
    })
}
