//! The last status page of each context, kept beside the operator's other state: what is shown when the controller cannot be reached.
//!
//! What always holds: one bounded file a context, readable by its owner alone; one that cannot be read counts as none; a failure to keep it
//! never fails the command that asked for the page.

use std::path::{Path, PathBuf};

use muster_common::name::Name;
use muster_common::time::Timestamp;
use muster_service::files;
use muster_wire::proto::v1::StatusPage;
use prost::Message;

/// The first bytes of such a file; the version is in them.
const MAGIC: &[u8] = b"muster status page 1\n";
/// A larger page is not kept.
const MOST: usize = 8 << 20;

/// A page that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct LastPage {
    /// When it came, by this machine's clock.
    pub at: Timestamp,
    /// It.
    pub page: StatusPage,
}

/// The file of a context: below `$XDG_STATE_HOME`, else `~/.local/state`. `None`: neither is known.
#[must_use]
pub fn place(context: &Name, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("muster").join("status").join(format!("{context}.page")))
}

/// Keeps a page.
///
/// # Errors
/// Where the file cannot be written, or the page is too large.
pub fn keep(file: &Path, page: &StatusPage, now: Timestamp) -> Result<(), String> {
    let length = page.encoded_len();
    if length > MOST {
        return Err(format!("the page has {length} bytes; {MOST} is the bound"));
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.exists()) {
        files::create_private_folder(folder).map_err(|error| error.to_string())?;
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend(now.0.to_be_bytes());
    bytes.extend(page.encode_to_vec());
    files::write_atomically(file, &bytes, 0o600).map_err(|error| error.to_string())
}

/// The page that was kept last.
#[must_use]
pub fn read(file: &Path) -> Option<LastPage> {
    if std::fs::metadata(file).ok()?.len() > (MOST + MAGIC.len() + 8) as u64 {
        return None;
    }
    let bytes = std::fs::read(file).ok()?;
    let (at, page) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    Some(LastPage { at: Timestamp(i64::from_be_bytes(*at)), page: StatusPage::decode(page).ok()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use muster_wire::proto::v1::ControllerStatus;

    use super::*;

    #[test]
    fn a_page_comes_back_with_its_time_and_what_is_damaged_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().as_os_str().to_owned();
        let file = place(&"prod".parse().unwrap(), |name| (name == "HOME").then(|| home.clone())).unwrap();
        assert_eq!(read(&file), None);
        let page = StatusPage { controller: Some(ControllerStatus { term: 7, ..ControllerStatus::default() }), ..StatusPage::default() };
        keep(&file, &page, Timestamp(1_764_000_000_000_000)).unwrap();
        assert_eq!(read(&file), Some(LastPage { at: Timestamp(1_764_000_000_000_000), page }));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for damage in
            [&b""[..], b"muster status page 2\n........", b"muster status page 1\n....", b"muster status page 1\n........\xff\xff"]
        {
            std::fs::write(&file, damage).unwrap();
            assert_eq!(read(&file), None, "{damage:?}");
        }
        assert_eq!(place(&"prod".parse().unwrap(), |_| None), None);
    }
}
