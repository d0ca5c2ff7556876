//! What the agent shows of itself and trusts while it runs: its credentials on disk, in memory and in TLS, changed in one place.
//!
//! It does not know when a certificate is due. What always holds: what is in force in TLS is on disk; two changes never mix; a CA is only
//! trusted because a controller of one that was trusted before told so.

use std::sync::{Arc, Mutex, PoisonError};

use muster_identity::client::ReloadableClient;
use muster_identity::credentials::{CredentialFolder, Credentials, CredentialsError};
use muster_identity::fingerprint::Fingerprint;
use tokio::sync::Notify;

use crate::task::perform::blocking;

/// The agent's credentials. One for the whole process.
#[derive(Debug)]
pub struct Belonging {
    folder: CredentialFolder,
    client: Arc<ReloadableClient>,
    credentials: Mutex<Credentials>,
    changing: tokio::sync::Mutex<()>,
    /// Told when another certificate is in force: the link connects again with it.
    pub renewed: Notify,
    /// Told when a certificate of another CA is to be asked for now.
    pub wanted: Notify,
}

impl Belonging {
    /// With what was read at start.
    ///
    /// # Errors
    /// Where TLS refuses it.
    pub fn new(folder: CredentialFolder, credentials: Credentials) -> Result<Arc<Self>, CredentialsError> {
        let client = ReloadableClient::new(&credentials)?;
        let (changing, renewed, wanted) = (tokio::sync::Mutex::default(), Notify::new(), Notify::new());
        Ok(Arc::new(Self { folder, client, credentials: Mutex::new(credentials), changing, renewed, wanted }))
    }

    /// As they are now.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client's side of TLS.
    #[must_use]
    pub fn client(&self) -> Arc<ReloadableClient> {
        self.client.clone()
    }

    /// Where they are on disk.
    #[must_use]
    pub fn folder(&self) -> &CredentialFolder {
        &self.folder
    }

    /// The CAs that are trusted, as they are told.
    #[must_use]
    pub fn trusted(&self) -> Vec<String> {
        self.credentials().trusted().fingerprints().iter().map(ToString::to_string).collect()
    }

    /// Trusts these CAs from now on, over restarts; asks for a new certificate where another CA signs now.
    ///
    /// # Errors
    /// Where they have nothing to do with those that are trusted, or cannot be kept: then nothing is changed.
    pub async fn trust(&self, authorities: String, signs: &str) -> Result<(), String> {
        self.change(move |folder| folder.trust(&authorities)).await?;
        let own = self.credentials().own().authority.map(|print: Fingerprint| print.to_string());
        if own.is_none_or(|own| own != signs) {
            self.wanted.notify_one();
        }
        Ok(())
    }

    /// Takes a renewed certificate, and connects again with it.
    ///
    /// # Errors
    /// As [`Belonging::trust`].
    pub async fn renew(&self, authorities: String, chain: String) -> Result<(), String> {
        self.change(move |folder| folder.renew(&authorities, &chain)).await?;
        self.renewed.notify_one();
        Ok(())
    }

    /// Reads them anew, and connects again with them.
    ///
    /// # Errors
    /// Where they cannot be read; then nothing is changed.
    pub async fn reload(&self) -> Result<(), String> {
        self.change(CredentialFolder::load).await?;
        self.renewed.notify_one();
        Ok(())
    }

    async fn change(
        &self,
        change: impl FnOnce(&CredentialFolder) -> Result<Credentials, CredentialsError> + Send + 'static,
    ) -> Result<(), String> {
        let changing = self.changing.lock().await;
        let folder = self.folder.clone();
        let changed = blocking(move || change(&folder)).await.map_err(|fault| fault.message)?;
        let changed = changed.map_err(|error| error.to_string())?;
        self.client.reload(&changed).map_err(|error| error.to_string())?;
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = changed;
        drop(changing);
        Ok(())
    }
}
