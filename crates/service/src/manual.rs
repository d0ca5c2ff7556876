//! Manual pages, made from what a program's command line says of itself: a page a command, as `man` wants them.
//!
//! It knows no command. What always holds: the same command line gives the same bytes; hidden commands get no page.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[error("write the manual page {}: {source}; HINT: the folder must exist and be writable", path.display())]
pub struct Unwritten {
    /// The page.
    pub path: PathBuf,
    /// What the system said.
    source: io::Error,
}

/// Writes the pages of `command` and of all its subcommands into `folder`, as `muster-backup.1`. `section` is the manual's: 1 for
/// what users type, 8 for what administrators run. Gives how many were written.
///
/// # Errors
/// Where a page cannot be written.
pub fn write(command: Command, section: &'static str, folder: &Path) -> Result<usize, Unwritten> {
    let source = format!("{} {}", command.get_name(), env!("CARGO_PKG_VERSION"));
    let mut command = command.disable_help_subcommand(true);
    command.build();
    pages(&command, section, &source, folder)
}

fn pages(command: &Command, section: &'static str, source: &str, folder: &Path) -> Result<usize, Unwritten> {
    let page = Man::new(command.clone()).section(section).source(source).manual("Muster").date("");
    let path = folder.join(page.get_filename());
    let mut text = Vec::new();
    let written = page.render(&mut text).and_then(|()| std::fs::write(&path, text));
    written.map_err(|source| Unwritten { path, source })?;
    let mut count = 1;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        count += pages(inner, section, source, folder)?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_not_hidden_gets_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let repo = Command::new("repo").about("Repositories.").subcommand(Command::new("list").about("Lists."));
        let all = Command::new("muster").about("Brings back.").subcommand(repo).subcommand(Command::new("secret").hide(true));
        assert_eq!(write(all, "1", folder.path()).unwrap(), 3);
        let page = std::fs::read_to_string(folder.path().join("muster-repo-list.1")).unwrap();
        assert!(page.contains("Lists.") && page.contains(".TH"), "{page}");
        assert!(!folder.path().join("muster-secret.1").exists());
        assert!(write(Command::new("muster"), "1", &folder.path().join("absent")).is_err());
    }
}
