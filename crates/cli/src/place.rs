//! Where a repository is, as a Repository document, flags or the controller say it, and the passphrase that opens it.
//!
//! A document pins the repository's id and key: then another one in its place is refused. Flags alone cannot pin.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use muster_common::fault::{Effect, ErrorKind, Fault};
use muster_common::id::RepositoryId;
use muster_repository::error::Error;
use muster_repository::location::{Credentials, Location, Pin, S3Location};
use muster_repository::repository::Repository;
use muster_repository::secret::Secret;
use muster_wire::convert::id_from_proto;
use muster_wire::proto::v1::resource::Spec;
use muster_wire::proto::v1::{self, RepositorySpec, repository_spec};
use muster_wire::yaml;

/// The longest passphrase file, in bytes.
const MAX_PASSPHRASE: u64 = 4_096;

/// A shorter passphrase is not taken for a new repository: it is all that keeps a stolen bucket shut.
const MIN_PASSPHRASE: usize = 12;

/// Where a repository is.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// A YAML file with the Repository document, as `muster repo init` printed it. It pins the repository.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["folder", "bucket"])]
    pub file: Option<PathBuf>,
    /// A folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "bucket")]
    pub folder: Option<PathBuf>,
    /// A bucket of an S3-compatible store.
    #[arg(long, value_name = "NAME")]
    pub bucket: Option<String>,
    /// With --bucket: put before every object's name.
    #[arg(long, value_name = "TEXT", requires = "bucket")]
    pub prefix: Option<String>,
    /// With --bucket: the region. Default: us-east-1.
    #[arg(long, value_name = "NAME", requires = "bucket")]
    pub region: Option<String>,
    /// With --bucket: the endpoint's URL. Default: AWS's own for the region.
    #[arg(long, value_name = "URL", requires = "bucket")]
    pub endpoint: Option<String>,
    /// With --bucket: the bucket stands in the path and not in the host's name.
    #[arg(long, requires = "bucket")]
    pub path_style: bool,
    /// A PEM file with the certificates of the endpoint's CA.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// A file with the access key id and the secret, a line each. Default: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[arg(long, value_name = "FILE")]
    pub credentials_file: Option<PathBuf>,
}

/// A repository's place, and who it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The place.
    pub location: Location,
    /// Who it has to be; `None` where nobody said.
    pub pin: Option<Pin>,
}

impl Place {
    /// What the flags or the document say; `None` where nothing was given.
    ///
    /// # Errors
    /// Where the document is none, or a path is not absolute.
    pub fn read(&self) -> Result<Option<Found>, Fault> {
        if let Some(file) = &self.file {
            return self.found(&document(file)?).map(Some);
        }
        let location = match (&self.folder, &self.bucket) {
            (Some(folder), _) => repository_spec::Location::Folder(v1::FolderLocation { path: absolute(folder)?.display().to_string() }),
            (None, Some(bucket)) => repository_spec::Location::S3(self.s3(bucket)),
            (None, None) => return Ok(None),
        };
        let spec = RepositorySpec { location: Some(location), ..RepositorySpec::default() };
        self.found(&spec).map(Some)
    }

    /// The same, which must be given.
    ///
    /// # Errors
    /// As [`Place::read`], and where nothing was given.
    pub fn required(&self) -> Result<Found, Fault> {
        self.read()?.ok_or_else(|| {
            Fault::refused(ErrorKind::InvalidArgument, "where is the repository?")
                .hint("give --file with its Repository document, or --folder, or --bucket")
        })
    }

    /// A place that a document or the controller named. Paths on other machines (the CA's, the credentials') are replaced by the flags'.
    ///
    /// # Errors
    /// Where the spec names no place, or its id or key cannot be read.
    pub fn found(&self, spec: &RepositorySpec) -> Result<Found, Fault> {
        let refused =
            |message: &str| Fault::refused(ErrorKind::InvalidArgument, message).hint("`muster repo init` prints a whole document");
        let location = match spec.location.as_ref().ok_or_else(|| refused("the document names no folder and no bucket"))? {
            repository_spec::Location::Folder(folder) => Location::Folder { path: PathBuf::from(&folder.path) },
            repository_spec::Location::S3(s3) => Location::S3(S3Location {
                bucket: s3.bucket.clone(),
                prefix: s3.prefix.clone(),
                region: if s3.region.is_empty() { "us-east-1".to_owned() } else { s3.region.clone() },
                endpoint: Some(s3.endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
                path_style: s3.path_style,
                ca_file: here(self.ca_file.as_deref(), &s3.ca_file),
                credentials: here(self.credentials_file.as_deref(), &s3.credentials_file)
                    .map_or(Credentials::Environment, Credentials::File),
            }),
        };
        if spec.repository_id.is_empty() && spec.public_key.is_empty() {
            return Ok(Found { location, pin: None });
        }
        let id: RepositoryId = id_from_proto(&spec.repository_id, "repositoryId")?;
        let mut public_key = [0; 32];
        hex::decode_to_slice(&spec.public_key, &mut public_key).map_err(|_| refused("publicKey: expected 64 hexadecimal digits"))?;
        Ok(Found { location, pin: Some(Pin { id, public_key }) })
    }

    fn s3(&self, bucket: &str) -> v1::S3Location {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        let path = |given: &Option<PathBuf>| given.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        v1::S3Location {
            bucket: bucket.to_owned(),
            prefix: text(&self.prefix),
            region: text(&self.region),
            endpoint: text(&self.endpoint),
            path_style: self.path_style,
            ca_file: path(&self.ca_file),
            credentials_file: path(&self.credentials_file),
        }
    }

    /// What the flags say as a Repository's spec, to be printed.
    ///
    /// # Errors
    /// As [`Place::read`].
    pub fn spec(&self, pin: &Pin) -> Result<RepositorySpec, Fault> {
        let location = match (&self.folder, &self.bucket) {
            (Some(folder), _) => {
                Some(repository_spec::Location::Folder(v1::FolderLocation { path: absolute(folder)?.display().to_string() }))
            }
            (None, Some(bucket)) => Some(repository_spec::Location::S3(self.s3(bucket))),
            (None, None) => None,
        };
        Ok(RepositorySpec { repository_id: pin.id.to_string(), public_key: hex::encode(pin.public_key), location })
    }
}

/// What a repository answered to a call that reads: nothing was changed, whatever went wrong.
#[must_use]
pub fn unread(error: &Error) -> Fault {
    error.fault().effect(Effect::None)
}

impl Found {
    /// Opens it: the one that is pinned, or whichever is there.
    ///
    /// # Errors
    /// Where it cannot be reached, is another one, or its `config` is not signed by its key.
    pub async fn open(&self) -> Result<Repository, Fault> {
        let pin = match &self.pin {
            Some(pin) => *pin,
            None => Repository::look(&self.location).await.map_err(|error| unread(&error))?,
        };
        Repository::open(&self.location, pin).await.map_err(|error| unread(&error))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    std::path::absolute(path)
        .map_err(|error| Fault::refused(ErrorKind::InvalidArgument, format!("{}: {error}", path.display())).hint("give a path"))
}

/// The flag's path, else the document's.
fn here(flag: Option<&Path>, document: &str) -> Option<PathBuf> {
    flag.map(Path::to_owned).or_else(|| Some(PathBuf::from(document)).filter(|path| !path.as_os_str().is_empty()))
}

fn document(file: &Path) -> Result<RepositorySpec, Fault> {
    let hint = "give the file that `muster repo init` printed, or `muster get repository NAME -o yaml`";
    let text = muster_service::files::read_text(file, yaml::MAX_BYTES as u64)
        .map_err(|error| Fault::refused(ErrorKind::InvalidArgument, error.to_string()).hint(hint))?;
    let resources = yaml::parse(&text, &file.display().to_string())?;
    let mut specs = resources.into_iter().filter_map(|resource| match resource.spec {
        Some(Spec::Repository(repository)) => Some(repository),
        Some(Spec::Site(_) | Spec::Component(_) | Spec::Schedule(_) | Spec::Route(_)) | None => None,
    });
    match (specs.next(), specs.next()) {
        (Some(spec), None) => Ok(spec),
        (None, _) => Err(Fault::refused(ErrorKind::InvalidArgument, format!("{} declares no repository", file.display())).hint(hint)),
        (Some(_), Some(_)) => {
            Err(Fault::refused(ErrorKind::InvalidArgument, format!("{} declares several repositories", file.display())).hint(hint))
        }
    }
}

/// Reads a passphrase: the file's text without the line break at its end; `-` reads standard input.
///
/// # Errors
/// Where it cannot be read, is longer than 4 KiB, or is empty.
pub fn passphrase(file: &Path) -> Result<Secret, Fault> {
    let refused =
        |message: String| Fault::refused(ErrorKind::InvalidArgument, message).hint("give --passphrase-file FILE, or - for standard input");
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(MAX_PASSPHRASE)
            .read_to_string(&mut text)
            .map_err(|error| refused(format!("read the passphrase from standard input: {error}")))?;
        text
    } else {
        muster_service::files::read_text(file, MAX_PASSPHRASE).map_err(|error| refused(error.to_string()))?
    };
    let passphrase = text.strip_suffix('\n').unwrap_or(&text);
    let passphrase = passphrase.strip_suffix('\r').unwrap_or(passphrase);
    if passphrase.is_empty() {
        return Err(refused(format!("{} holds no passphrase", file.display())));
    }
    Ok(Secret::new(passphrase.as_bytes().to_vec()))
}

/// Refuses a passphrase that is too short to protect a new repository.
///
/// # Errors
/// Where it is shorter than 12 bytes.
pub fn check_new(passphrase: &Secret) -> Result<(), Fault> {
    if passphrase.expose().len() >= MIN_PASSPHRASE {
        return Ok(());
    }
    Err(Fault::refused(ErrorKind::InvalidArgument, format!("the passphrase is shorter than {MIN_PASSPHRASE} bytes"))
        .hint("it is all that keeps a stolen copy of the repository shut; for example: head -c 24 /dev/urandom | base64 > passphrase"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_document_gives_place_and_pin() {
        let text = format!(
            "kind: Repository\nname: a\nspec:\n  repositoryId: {}\n  publicKey: {}\n  folder: {{path: /srv/muster}}\n",
            "ab".repeat(16),
            "cd".repeat(32)
        );
        let (_kept, path) = file(&text);
        let found = Place { file: Some(path), ..Place::default() }.required().unwrap();
        assert_eq!(found.location, Location::Folder { path: "/srv/muster".into() });
        assert_eq!(found.pin, Some(Pin { id: RepositoryId::from_bytes([0xab; 16]), public_key: [0xcd; 32] }));
    }

    #[test]
    fn flags_give_a_place_without_a_pin_and_replace_paths_of_other_machines() {
        let place = Place {
            bucket: Some("b".into()),
            endpoint: Some("http://s3".into()),
            credentials_file: Some("/here".into()),
            ..Place::default()
        };
        let found = place.required().unwrap();
        let Location::S3(s3) = &found.location else { panic!("{found:?}") };
        assert_eq!((s3.region.as_str(), &s3.credentials, found.pin), ("us-east-1", &Credentials::File("/here".into()), None));
        let declared = RepositorySpec {
            location: Some(repository_spec::Location::S3(v1::S3Location {
                credentials_file: "/on/the/agent".into(),
                ..v1::S3Location::default()
            })),
            ..RepositorySpec::default()
        };
        let Location::S3(s3) = place.found(&declared).unwrap().location else { panic!() };
        assert_eq!(s3.credentials, Credentials::File("/here".into()));
    }

    #[test]
    fn a_file_without_one_repository_and_no_place_at_all_are_refused() {
        let (_kept, path) = file("kind: Site\nname: a\n");
        let fault = Place { file: Some(path), ..Place::default() }.required().unwrap_err();
        assert!(fault.message.ends_with("declares no repository"), "{fault}");
        assert_eq!(Place::default().required().unwrap_err().message, "where is the repository?");
        let (_kept, path) = file("kind: Repository\nname: a\nspec: {repositoryId: xyz, folder: {path: /a}}\n");
        assert!(Place { file: Some(path), ..Place::default() }.required().unwrap_err().message.starts_with("repositoryId: "));
    }

    #[test]
    fn a_passphrase_is_a_files_text_without_its_last_line_break() {
        let (_kept, path) = file("correct horse battery\r\n");
        assert_eq!(passphrase(&path).unwrap().expose(), b"correct horse battery");
        for wrong in ["", "\n", &"x".repeat(5_000)] {
            let (_kept, path) = file(wrong);
            assert_eq!(passphrase(&path).unwrap_err().kind, ErrorKind::InvalidArgument);
        }
        assert!(check_new(&Secret::new(b"short".to_vec())).is_err());
        assert!(check_new(&Secret::new(b"correct horse".to_vec())).is_ok());
    }
}
