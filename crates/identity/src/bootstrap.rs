//! How an agent that has nothing but a join token reaches the controller for Enroll.
//!
//! It shows no certificate and accepts exactly a server whose chain leads to the CA that the token pins, and which is the controller
//! under that CA. A handshake that fails ends before a byte of the request, and so of the secret, was sent.

use std::sync::Arc;

use tonic::transport::Channel;

use crate::client::{self, Connector, Source};
use crate::credentials::CredentialsError;
use crate::identity::Identity;
use crate::token::JoinToken;
use crate::verifier::{ServerVerifier, Trust};

/// A channel to the token's controllers, good for Enroll and health. What Enroll answers must be checked to hold the CA that the token
/// pins: [`is_pinned`].
///
/// # Errors
/// Where TLS cannot be set up.
pub fn channel(token: &JoinToken) -> Result<Channel, CredentialsError> {
    let verifier = ServerVerifier::new(Trust::Pinned(token.authority), Identity::Controller)?;
    let config = client::finish(client::client_builder(verifier)?.with_no_client_auth());
    Ok(client::connect_lazy(Connector::new(Source::Fixed(Arc::new(config)), token.endpoints.clone())))
}

/// Whether the CAs, in PEM, hold the one that the token pins. The others are believed because that one's controller told them.
#[must_use]
pub fn is_pinned(token: &JoinToken, authority: &str) -> bool {
    crate::trust::Trusted::from_pem(authority).is_ok_and(|trusted| trusted.contains(&token.authority))
}
