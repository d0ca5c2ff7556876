//! `admin-cert`: an admin's certificate, made by whoever holds the CA's key. The first one, and the way back in after a lock-out.

use std::path::PathBuf;

use anyhow::{Context, Result};
use muster_common::name::Name;
use muster_identity::caller::Role;
use muster_identity::context::{Contexts, OperatorContext};

use super::operator_file;
use crate::ca::folder::CaFolder;
use crate::config::{self, Flags};

/// What `admin-cert` takes.
#[derive(Debug, clap::Args)]
pub struct AdminCert {
    #[command(flatten)]
    flags: Flags,
    /// The operator's name. One that exists gets a further certificate and becomes an admin (again).
    #[arg(long, default_value = "admin")]
    name: Name,
    /// What the operator will call this controller.
    #[arg(long, default_value = "muster")]
    context: Name,
    /// Where the file for `muster context import` goes. It holds the key: mode 0600.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl AdminCert {
    /// Makes it.
    ///
    /// # Errors
    /// Where there is no CA, or a file cannot be written.
    pub fn run(self) -> Result<()> {
        let config = config::load(&self.flags)?;
        let authority = CaFolder::of(&config).load().context("load the CA; HINT: `muster-controller init` makes one")?;
        anyhow::ensure!(!self.out.exists(), "{} exists; HINT: name another file", self.out.display());
        let life = config.operator_certificate_life;
        let context = operator_file::make(&config, authority.signs(), &self.name, Role::Admin, &self.context, life)?;
        let context = OperatorContext { authority: authority.pem(), ..context };
        Contexts::single(context).store(&self.out).context("write the operator's file")?;
        println!("made {} for {}, an admin; a running controller knows it within 2 seconds", self.out.display(), self.name);
        println!("next: muster context import {}", self.out.display());
        Ok(())
    }
}
