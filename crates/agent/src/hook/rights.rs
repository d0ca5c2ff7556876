//! Whether a hook's program may be run: nobody but root and the agent's user could have put it there, and its user can be taken on.
//!
//! It is asked when the agent looks at its instances, and again right before each run.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::hook::declared::Hook;

/// Who a program runs as, where that is not the agent's own user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Its group; it has no other ones.
    pub gid: u32,
}

/// Judges a hook, and finds its user.
///
/// # Errors
/// Why it may not be run, in words, with what would lift it.
pub fn judge(hook: &Hook) -> Result<Option<Account>, String> {
    let own = rustix::process::geteuid().as_raw();
    let account = hook.user.as_deref().map(|user| account(user, own)).transpose()?;
    trusted(&hook.program, own)?;
    Ok(account.filter(|account| account.uid != own))
}

fn account(user: &str, own: u32) -> Result<Account, String> {
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("read /etc/passwd for user {user}: {error}"))?;
    let found = in_passwd(&passwd, user).ok_or_else(|| format!("there is no user {user} in /etc/passwd; correct `user`"))?;
    if own != 0 && found.uid != own {
        return Err(format!("it is to run as {user}, and the agent is not root; leave `user` out, or run the agent as {user} or root"));
    }
    Ok(found)
}

fn in_passwd(passwd: &str, user: &str) -> Option<Account> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&user))?;
    Some(Account { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
}

/// The program and every folder above it, links followed.
fn trusted(program: &Path, own: u32) -> Result<(), String> {
    let real = program.canonicalize().map_err(|error| format!("program {}: {error}", program.display()))?;
    let shown = real.display();
    let found = std::fs::metadata(&real).map_err(|error| format!("program {shown}: {error}"))?;
    if !found.is_file() {
        return Err(format!("program {shown} is no file"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(format!("program {shown} is not executable; chmod +x {shown}"));
    }
    let owned = |uid: u32| uid == 0 || uid == own;
    if !owned(found.uid()) {
        return Err(format!("program {shown} belongs to user {}; only root's or the agent's own are run: chown root {shown}", found.uid()));
    }
    if found.permissions().mode() & 0o022 != 0 {
        return Err(format!("program {shown} can be written by others than its owner; chmod go-w {shown}"));
    }
    for folder in real.ancestors().skip(1) {
        let above = std::fs::metadata(folder).map_err(|error| format!("folder {}: {error}", folder.display()))?;
        // In a folder with the sticky bit nobody replaces what is another's.
        let open = above.mode() & 0o022 != 0 && above.mode() & 0o1000 == 0;
        if open || !owned(above.uid()) {
            let folder = folder.display();
            return Err(format!("folder {folder}, above program {shown}, can be changed by others than root and the agent's user"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::hook::declared::OnFailure;

    fn hook(program: &Path, user: Option<&str>) -> Hook {
        Hook {
            program: program.to_owned(),
            arguments: Vec::new(),
            timeout: std::time::Duration::from_secs(1),
            user: user.map(str::to_owned),
            idempotent: false,
            on_failure: OnFailure::Fail,
        }
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_program_that_others_could_have_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hook");
        assert!(judge(&hook(&path, None)).unwrap_err().contains("No such file"));
        fs::write(&path, "#!/bin/sh\n").unwrap();
        set(&path, 0o644);
        assert!(judge(&hook(&path, None)).unwrap_err().contains("chmod +x"));
        set(&path, 0o755);
        assert_eq!(judge(&hook(&path, None)), Ok(None));
        for mode in [0o775, 0o757] {
            set(&path, mode);
            assert!(judge(&hook(&path, None)).unwrap_err().contains("chmod go-w"), "{mode:o}");
        }
        set(&path, 0o755);
        set(folder.path(), 0o770);
        assert!(judge(&hook(&path, None)).unwrap_err().contains("above program"));
        set(folder.path(), 0o700);
        assert!(judge(&hook(folder.path(), None)).unwrap_err().contains("no file"));
    }

    #[test]
    fn a_user_is_found_in_passwd_and_only_root_takes_another_one_on() {
        let found = in_passwd("root:x:0:0::/:/bin/sh\napp:x:1001:1002::/:/bin/sh\n", "app");
        assert_eq!(found, Some(Account { uid: 1001, gid: 1002 }));
        assert!(account("root", 12_345).unwrap_err().contains("the agent is not root"));
        assert_eq!(account("root", 0).map(|account| account.uid), Ok(0));
        assert!(account("nobody-of-that-name", 0).unwrap_err().contains("correct `user`"));
    }
}
