//! Which controller, as whom: the operator's own context file, and the channel that a context opens.
//!
//! The file is `$MUSTER_CONTEXT_FILE`, else `$XDG_CONFIG_HOME/muster/contexts.yaml`, else `~/.config/muster/contexts.yaml`; its form is
//! `muster_identity::context`. What always holds: it is readable by its owner alone, changed whole or not at all, and two commands that
//! change it at once both take effect (a lock file beside it).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_common::fault::{ErrorKind, Fault};
use muster_common::name::Name;
use muster_identity::client::{self, ReloadableClient};
use muster_identity::context::{self, ContextError, Contexts, OperatorContext};
use muster_identity::credentials::Credentials;
use muster_identity::csr::Csr;
use muster_service::clock;
use muster_service::files::FileError;
use tonic::transport::Channel;

use crate::render::authority::short;

/// The variable that names the file.
pub const FILE_VARIABLE: &str = "MUSTER_CONTEXT_FILE";

/// What `muster context list` shows of one context; no keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: Name,
    /// Whether it is the current one.
    pub current: bool,
    /// Its controllers.
    pub endpoints: Vec<String>,
    /// `operator ayse`, or what is wrong with its certificate.
    pub identity: String,
    /// The end of its certificate, microseconds since 1970. `None` where the certificate is broken.
    pub certificate_until: Option<i64>,
}

/// A controller that can be called.
#[derive(Debug)]
pub struct Connection {
    /// The context's name.
    pub context: Name,
    /// Where it connects to, as an operator reads it.
    pub endpoints: Vec<String>,
    /// It connects at the first call.
    pub channel: Channel,
}

/// Where the operator's context file is.
///
/// # Errors
/// Where neither the variable nor a home folder is known.
pub fn file() -> Result<PathBuf, Fault> {
    context::default_path(|name| std::env::var_os(name)).ok_or_else(|| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("find the context file: neither {FILE_VARIABLE} nor HOME is set"))
            .hint(format!("set {FILE_VARIABLE} to a file that only you can read"))
    })
}

/// Takes the contexts of an operator's file into the operator's own, and makes its current one current. Gives the names under which they
/// are there: one that is taken by another operator or another CA is not replaced.
///
/// # Errors
/// Where the file is none, its key and certificate do not belong together, or the own file cannot be written.
pub fn import(own: &Path, handed_out: &Path) -> Result<Vec<Name>, Fault> {
    if !handed_out.exists() {
        return Err(Fault::refused(ErrorKind::NotFound, format!("import {}: there is no such file", handed_out.display()))
            .hint("`muster operator add NAME --role ROLE` makes one; `muster-controller admin-cert` on the controller's machine too"));
    }
    let new = Contexts::load(handed_out).map_err(|error| fault(&error))?;
    if new.contexts.is_empty() {
        return Err(Fault::refused(ErrorKind::InvalidArgument, format!("import {}: it has no contexts", handed_out.display()))
            .hint("give the file that `muster operator add` made"));
    }
    change(own, |contexts| contexts.import(new))
}

/// Makes a context current.
///
/// # Errors
/// Where there is none of that name.
pub fn use_context(own: &Path, name: &Name) -> Result<(), Fault> {
    change(own, |contexts| contexts.use_context(name))
}

/// A certificate request for the key of a context.
///
/// # Errors
/// Where there is no such context, or its key is broken.
pub fn request(own: &Path, name: &Name) -> Result<String, Fault> {
    let contexts = Contexts::load(own).map_err(|error| fault(&error))?;
    let credentials = contexts.find(Some(name)).and_then(OperatorContext::credentials).map_err(|error| fault(&error))?;
    Csr::request(credentials.key()).map_err(|error| Fault::refused(ErrorKind::Internal, format!("make a certificate request: {error}")))
}

/// Puts a renewed certificate, and the CAs that are trusted with it, into a context. Gives the beginnings of their fingerprints.
///
/// # Errors
/// Where they do not fit the context's key, or the file cannot be written: then it stays as it was.
pub fn renewed(own: &Path, name: &Name, certificate: String, authority: String) -> Result<Vec<String>, Fault> {
    change(own, |contexts| {
        let present = contexts.find(Some(name))?.clone();
        let renewed = OperatorContext { certificate, authority, ..present };
        let trusted = renewed.credentials()?.trusted().fingerprints();
        let current = contexts.current.clone();
        contexts.put(renewed);
        contexts.current = current;
        Ok(trusted.iter().map(|print| short(&print.to_string()).to_owned()).collect())
    })
}

/// Takes a context, and with it the key in it, out of the file.
///
/// # Errors
/// Where there is none of that name.
pub fn remove(own: &Path, name: &Name) -> Result<(), Fault> {
    change(own, |contexts| contexts.remove(name))
}

/// Writes a context's CA, certificate and key as PEM files into a folder, for clients that want files. Gives their names.
///
/// # Errors
/// Where there is no such context, or a file cannot be written.
pub fn export(own: &Path, name: Option<&Name>, folder: &Path) -> Result<&'static str, Fault> {
    let contexts = Contexts::load(own).map_err(|error| fault(&error))?;
    let context = contexts.find(name).map_err(|error| fault(&error))?;
    let failed =
        |error: FileError| Fault::refused(ErrorKind::FailedPrecondition, error.to_string()).hint("give a folder that you may write");
    if !folder.exists() {
        muster_service::files::create_private_folder(folder).map_err(failed)?;
    }
    for (file, text, mode) in
        [("ca.pem", &context.authority, 0o644), ("cert.pem", &context.certificate, 0o644), ("key.pem", &context.key, 0o600)]
    {
        muster_service::files::write_atomically(&folder.join(file), text.as_bytes(), mode).map_err(failed)?;
    }
    Ok("ca.pem, cert.pem and key.pem")
}

/// All contexts, in the order of the file.
///
/// # Errors
/// Where the file cannot be read.
pub fn list(own: &Path) -> Result<Vec<Summary>, Fault> {
    let contexts = Contexts::load(own).map_err(|error| fault(&error))?;
    Ok(contexts.contexts.iter().map(|context| summary(context, contexts.current.as_ref())).collect())
}

fn summary(context: &OperatorContext, current: Option<&Name>) -> Summary {
    let credentials = context.credentials();
    Summary {
        name: context.name.clone(),
        current: current == Some(&context.name),
        endpoints: context.endpoints.iter().map(ToString::to_string).collect(),
        identity: match &credentials {
            Ok(credentials) => credentials.own().identity.to_string(),
            Err(error) => error.to_string(),
        },
        certificate_until: credentials.ok().map(|credentials| credentials.own().not_after.0),
    }
}

/// The named context, or the current one, ready to be called. Inside the runtime.
///
/// # Errors
/// Where there is none, or its certificate is broken or has run out.
pub fn connect(own: &Path, name: Option<&Name>) -> Result<Connection, Fault> {
    let contexts = Contexts::load(own).map_err(|error| fault(&error))?;
    let context = contexts.find(name).map_err(|error| fault(&error))?;
    let credentials = context.credentials().map_err(|error| fault(&error))?;
    refuse_expired(context, &credentials)?;
    let client = ReloadableClient::new(&credentials).map_err(|error| Fault::refused(ErrorKind::Internal, error.to_string()))?;
    Ok(Connection {
        context: context.name.clone(),
        endpoints: context.endpoints.iter().map(ToString::to_string).collect(),
        channel: client::channel(client, context.endpoints.clone()),
    })
}

fn refuse_expired(context: &OperatorContext, credentials: &Credentials) -> Result<(), Fault> {
    let own = credentials.own();
    let now = clock::now();
    if !own.is_expired(now) {
        return Ok(());
    }
    let ago = muster_common::duration::show(now.since(own.not_after));
    let operator = own.identity.to_string();
    let message = format!("context {}: the certificate of {operator} ran out {ago} ago", context.name);
    Err(Fault::refused(ErrorKind::Unauthenticated, message).hint(
        "an admin makes a new one: `muster operator add NAME --role ROLE`; locked out: `muster-controller admin-cert` on its machine",
    ))
}

/// Reads, changes and writes the file under its lock.
fn change<T>(own: &Path, change: impl FnOnce(&mut Contexts) -> Result<T, ContextError>) -> Result<T, Fault> {
    let _lock = lock(own)?;
    let mut contexts = Contexts::load(own).map_err(|error| fault(&error))?;
    let answer = change(&mut contexts).map_err(|error| fault(&error))?;
    contexts.store(own).map_err(|error| fault(&error))?;
    Ok(answer)
}

/// Held until the returned file is closed.
fn lock(own: &Path) -> Result<File, Fault> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Fault::refused(ErrorKind::FailedPrecondition, format!("{what}: {error}"))
            .hint(format!("set {FILE_VARIABLE} to a file that you may write"))
    };
    if let Some(folder) = own.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        muster_service::files::create_private_folder(folder).map_err(|error| failed("context file", &error))?;
    }
    let path = own.with_extension("lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let locked =
        opened.and_then(|file| rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map(|()| file).map_err(Into::into));
    locked.map_err(|error| failed(&format!("lock {}", path.display()), &error))
}

/// What is wrong with the context file, as an operator reads it.
fn fault(error: &ContextError) -> Fault {
    let (kind, hint) = match error {
        ContextError::File(_) => (ErrorKind::FailedPrecondition, format!("set {FILE_VARIABLE} to a file that you may read and write")),
        ContextError::Content(_) | ContextError::Twice(_) | ContextError::Credentials { .. } => {
            (ErrorKind::InvalidArgument, "import the operator's file again: `muster context import FILE`".to_owned())
        }
        ContextError::Readable { path, .. } => (ErrorKind::FailedPrecondition, format!("chmod 600 {}", path.display())),
        ContextError::Version(_) => (ErrorKind::Incompatible, "upgrade muster".to_owned()),
        ContextError::Unknown { known, .. } if known.is_empty() => (ErrorKind::NotFound, "`muster context import FILE`".to_owned()),
        ContextError::Unknown { .. } => (ErrorKind::NotFound, "`muster context list` shows all".to_owned()),
        ContextError::NoneCurrent => (
            ErrorKind::FailedPrecondition,
            "`muster context import FILE`, then `muster context use NAME`; FILE is made by `muster operator add` or `muster-controller dev`".to_owned(),
        ),
        ContextError::Encode(_) => (ErrorKind::Internal, "report this".to_owned()),
    };
    // The library's own hint is told as ours.
    let told = error.to_string();
    let message = told.split(". HINT: ").next().unwrap_or(&told);
    Fault::refused(kind, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use muster_common::time::Timestamp;
    use muster_identity::authority::{Authority, OPERATOR_LIFE};
    use muster_identity::csr::Csr;
    use muster_identity::identity::TrustDomain;
    use muster_identity::key::KeyPair;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// An operator's file as `muster operator add ayse` makes it, its certificate issued at `now`.
    fn handed_out(folder: &Path, called: &str, now: Timestamp) -> PathBuf {
        let place = folder.join(format!("ca-{called}"));
        let authority = Authority::create(&place, &TrustDomain::default(), now).unwrap();
        let key = KeyPair::generate().unwrap();
        let csr = Csr::parse(&Csr::request(&key).unwrap()).unwrap();
        let issued = authority.issue_operator(&csr, &name("ayse"), now, OPERATOR_LIFE).unwrap();
        let context = OperatorContext {
            name: name(called),
            endpoints: vec!["controller.example.org".parse().unwrap()],
            authority: authority.pem().to_owned(),
            certificate: issued.pem,
            key: key.to_pem(),
        };
        let path = folder.join(format!("{called}.yaml"));
        Contexts::single(context).store(&path).unwrap();
        path
    }

    #[test]
    fn an_imported_context_is_current_listed_without_keys_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("deep/er/contexts.yaml");
        let now = clock::now();
        assert_eq!(import(&own, &handed_out(folder.path(), "prod", now)).unwrap(), [name("prod")]);
        import(&own, &handed_out(folder.path(), "test", now)).unwrap();
        use_context(&own, &name("prod")).unwrap();
        let listed = list(&own).unwrap();
        let seen: Vec<_> = listed.iter().map(|s| (s.name.as_str(), s.current, s.identity.as_str())).collect();
        assert_eq!(seen, [("prod", true, "operator ayse"), ("test", false, "operator ayse")]);
        assert_eq!(listed[0].endpoints, ["controller.example.org:7400"]);
        assert!(listed[0].certificate_until.unwrap() > now.plus(Duration::from_secs(89 * 86_400)).0);
        assert!(!format!("{listed:?}").contains("PRIVATE"));
        assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&own, &name("prod")).unwrap();
        assert!(!std::fs::read_to_string(&own).unwrap().contains("name: prod"));
    }

    #[test]
    fn refusals_say_what_is_wrong_and_what_lifts_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("contexts.yaml");
        let none = list(&own).unwrap();
        assert!(none.is_empty());
        let refused = connect(&own, None).unwrap_err();
        assert!(refused.kind == ErrorKind::FailedPrecondition && refused.hint.contains("muster context import"), "{refused}");
        let missing = import(&own, &folder.path().join("nowhere.yaml")).unwrap_err();
        assert!(missing.kind == ErrorKind::NotFound && missing.hint.contains("operator add"), "{missing}");
        import(&own, &handed_out(folder.path(), "prod", clock::now())).unwrap();
        let unknown = use_context(&own, &name("prd")).unwrap_err();
        assert!(unknown.kind == ErrorKind::NotFound && unknown.message.contains("prod"), "{unknown}");
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o644)).unwrap();
        let readable = list(&own).unwrap_err();
        assert!(readable.hint.starts_with("chmod 600"), "{readable}");
    }

    #[test]
    fn a_broken_operators_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("contexts.yaml");
        let good = handed_out(folder.path(), "prod", clock::now());
        import(&own, &good).unwrap();
        let before = std::fs::read(&own).unwrap();
        let mut mixed = Contexts::load(&good).unwrap();
        mixed.contexts[0].key = KeyPair::generate().unwrap().to_pem();
        let broken = folder.path().join("broken.yaml");
        mixed.store(&broken).unwrap();
        assert_eq!(import(&own, &broken).unwrap_err().kind, ErrorKind::InvalidArgument);
        muster_service::files::write_atomically(&broken, b"version: 1\ncontexts: []\n", 0o600).unwrap();
        assert_eq!(import(&own, &broken).unwrap_err().kind, ErrorKind::InvalidArgument);
        assert_eq!(std::fs::read(&own).unwrap(), before);
    }

    #[tokio::test]
    async fn a_certificate_that_ran_out_is_said_before_anything_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("contexts.yaml");
        let long_ago = Timestamp(clock::now().0 - 91 * 86_400_000_000);
        import(&own, &handed_out(folder.path(), "old", long_ago)).unwrap();
        let refused = connect(&own, None).unwrap_err();
        assert!(refused.kind == ErrorKind::Unauthenticated && refused.message.contains("ran out"), "{refused}");
        import(&own, &handed_out(folder.path(), "new", clock::now())).unwrap();
        let connection = connect(&own, None).unwrap();
        assert_eq!((connection.context, connection.endpoints), (name("new"), vec!["controller.example.org:7400".to_owned()]));
    }

    #[test]
    fn an_exported_context_is_three_files_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("contexts.yaml");
        import(&own, &handed_out(folder.path(), "prod", clock::now())).unwrap();
        let to = folder.path().join("tls");
        export(&own, None, &to).unwrap();
        assert!(std::fs::read_to_string(to.join("ca.pem")).unwrap().contains("BEGIN CERTIFICATE"));
        assert!(std::fs::read_to_string(to.join("cert.pem")).unwrap().contains("BEGIN CERTIFICATE"));
        assert!(std::fs::read_to_string(to.join("key.pem")).unwrap().contains("PRIVATE KEY"));
        assert_eq!(std::fs::metadata(to.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(export(&own, Some(&name("nowhere")), &to).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[test]
    fn imports_at_once_all_take_effect() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("contexts.yaml");
        let files: Vec<PathBuf> = (0..8).map(|n| handed_out(folder.path(), &format!("c{n}"), clock::now())).collect();
        std::thread::scope(|scope| {
            for file in &files {
                scope.spawn(|| import(&own, file).unwrap());
            }
        });
        assert_eq!(list(&own).unwrap().len(), 8);
    }
}
