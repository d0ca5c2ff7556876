//! The controller's configuration: one YAML file, environment variables over it, flags over both; judged as a whole before any port opens.
//!
//! It opens nothing but the file. What always holds: whoever has a [`Config`] has values that can be served with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_identity::authority::{AGENT_LIFE, OPERATOR_LIFE};
use muster_identity::endpoint::Endpoint;
use muster_identity::identity::TrustDomain;
use muster_repository::location::{Credentials, Location, S3Location};
use muster_service::config::{self, ConfigError};
use muster_service::telemetry::LogFormat;
use serde::{Deserialize, Deserializer};

use crate::bounds::{Bounds, RawBounds};
use crate::ca::passphrase;
use crate::own_backup::keeper::Plan;
use crate::store::place::{InvalidPlace, Place};

/// Environment variables that count: `MUSTER_CONTROLLER__LISTEN` is the field `listen`.
pub const PREFIX: &str = "MUSTER_CONTROLLER__";

/// The usual gRPC address.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7400);
/// The usual address of `/metrics` and `/healthz`.
const METRICS_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7401);

/// What a controller is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Holds the store, the CA and the controller's own certificate.
    pub state_directory: PathBuf,
    /// Where the store is: a file's path or a PostgreSQL server's URL. See [`Config::store_place`].
    pub store: String,
    /// The file of the store's password, for a server that wants one.
    pub store_password_file: Option<PathBuf>,
    /// Where and when the controller backs itself up. `None`: it does not.
    pub backup: Option<Plan>,
    /// How much is kept of what has passed.
    pub keep: Bounds,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where `/metrics` and `/healthz` are served, in plain HTTP.
    pub metrics_listen: SocketAddr,
    /// Where agents and operators find this controller: what join tokens and operators' files carry.
    pub endpoints: Vec<Endpoint>,
    /// DNS names and addresses that stand in the controller's certificate; the endpoints' hosts always do.
    pub server_names: Vec<String>,
    /// The file of the passphrase of the CA's key. `None`: the key is not sealed.
    pub ca_passphrase_file: Option<PathBuf>,
    /// Whose identities the CA signs. Only `init` and `dev` use it: the CA keeps it.
    pub trust_domain: TrustDomain,
    /// The log's level or filter.
    pub log_level: String,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// How long an agent's certificate is good.
    pub agent_certificate_life: Duration,
    /// How long an operator's certificate is good where nothing else is asked for.
    pub operator_certificate_life: Duration,
    /// How long a stop waits for what runs.
    pub drain: Duration,
}

impl Config {
    /// The folder of `ca.pem` and `ca.key`.
    #[must_use]
    pub fn authority_folder(&self) -> PathBuf {
        self.state_directory.join("ca")
    }

    /// The folder of the controller's own certificate.
    #[must_use]
    pub fn credential_folder(&self) -> PathBuf {
        self.state_directory.join("identity")
    }

    /// Where the store is.
    ///
    /// # Errors
    /// Where the password's file cannot be read any more.
    pub fn store_place(&self) -> Result<Place, InvalidPlace> {
        Place::parse(&self.store, self.store_password_file.as_deref())
    }

    /// All names that the controller's certificate is made for.
    #[must_use]
    pub fn certificate_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.endpoints.iter().map(|endpoint| endpoint.host.clone()).chain(self.server_names.iter().cloned()).collect();
        // Whoever reaches it at a loopback address reaches it by this name too.
        let loops = |name: &String| name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if names.iter().any(loops) {
            names.push("localhost".to_owned());
        }
        names.sort();
        names.dedup();
        names
    }
}

/// The file's form. Everything may be left out there, since flags and variables may bring it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Raw {
    #[serde(alias = "state_directory")]
    state_directory: Option<PathBuf>,
    store: Option<String>,
    #[serde(alias = "store_password_file")]
    store_password_file: Option<PathBuf>,
    backup: Option<RawBackup>,
    keep: RawBounds,
    listen: Option<SocketAddr>,
    #[serde(alias = "metrics_listen")]
    metrics_listen: Option<SocketAddr>,
    endpoints: Option<Vec<Endpoint>>,
    #[serde(alias = "server_names")]
    server_names: Vec<String>,
    #[serde(alias = "ca_passphrase_file")]
    ca_passphrase_file: Option<PathBuf>,
    #[serde(alias = "trust_domain", deserialize_with = "trust_domain")]
    trust_domain: TrustDomain,
    log: RawLog,
    #[serde(alias = "agent_certificate_life", deserialize_with = "duration")]
    agent_certificate_life: Option<Duration>,
    #[serde(alias = "operator_certificate_life", deserialize_with = "duration")]
    operator_certificate_life: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    drain: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawBackup {
    folder: Option<PathBuf>,
    bucket: Option<RawBucket>,
    #[serde(alias = "passphrase_file")]
    passphrase_file: PathBuf,
    at: Option<String>,
    keep: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawBucket {
    bucket: String,
    #[serde(default)]
    prefix: String,
    region: Option<String>,
    endpoint: Option<String>,
    #[serde(default, alias = "path_style")]
    path_style: bool,
    #[serde(alias = "ca_file")]
    ca_file: Option<PathBuf>,
    #[serde(alias = "credentials_file")]
    credentials_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawLog {
    level: String,
    format: LogFormat,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::default() }
    }
}

/// What the command line says; it wins over the environment and the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of the store, the CA and the controller's certificate.
    #[arg(long, value_name = "DIR")]
    pub state_directory: Option<PathBuf>,
    /// Where the store is: a path, or postgres://USER@HOST:PORT/DATABASE [default: controller.db in the state directory].
    #[arg(long, value_name = "PLACE")]
    pub store: Option<String>,
    /// The file whose first line is the passphrase of the CA's key.
    #[arg(long, value_name = "FILE")]
    pub ca_passphrase_file: Option<PathBuf>,
    /// Where gRPC is served [default: 127.0.0.1:7400].
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where /metrics and /healthz are served [default: 127.0.0.1:7401].
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where agents and operators find this controller; may be repeated.
    #[arg(long = "endpoint", value_name = "HOST:PORT")]
    pub endpoints: Vec<Endpoint>,
    /// The log's level or filter [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
}

/// Why a configuration cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It could not be read.
    #[error(transparent)]
    Unreadable(#[from] ConfigError),
    /// It was read and makes no sense; all that is wrong.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

/// Reads file, environment and flags into one judged value.
///
/// # Errors
/// With file, line and column where the file is wrong, else with all that is wrong with the whole.
pub fn load(flags: &Flags) -> Result<Config, Refused> {
    judge(config::load(flags.config.as_deref(), PREFIX)?, flags)
}

fn judge(raw: Raw, flags: &Flags) -> Result<Config, Refused> {
    let mut wrong = Vec::new();
    let listen = flags.listen.or(raw.listen).unwrap_or(LISTEN);
    let metrics_listen = flags.metrics_listen.or(raw.metrics_listen).unwrap_or(METRICS_LISTEN);
    // What a person types is meant from where they stand; a file or a variable has no such place.
    let typed = flags.state_directory.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    let state_directory = typed.or(raw.state_directory).unwrap_or_default();
    if !state_directory.is_absolute() {
        wrong.push(
            "stateDirectory: expected an absolute path (in the file, as --state-directory, or as MUSTER_CONTROLLER__STATE_DIRECTORY)"
                .into(),
        );
    }
    let store = flags.store.clone().or(raw.store).unwrap_or_else(|| state_directory.join("controller.db").display().to_string());
    if state_directory.is_absolute()
        && let Err(refused) = Place::parse(&store, raw.store_password_file.as_deref())
    {
        wrong.push(format!("store: {refused}"));
    }
    if listen.port() != 0 && listen == metrics_listen {
        wrong.push(format!("metricsListen: {metrics_listen} is the address of gRPC itself"));
    }
    let given = if flags.endpoints.is_empty() { raw.endpoints } else { Some(flags.endpoints.clone()) };
    let endpoints = endpoints(given, listen, &mut wrong);
    for name in &raw.server_names {
        if name.parse::<Endpoint>().is_err() || name.contains(':') && name.parse::<std::net::IpAddr>().is_err() {
            wrong.push(format!("serverNames: {name:?} is neither a DNS name nor an address"));
        }
    }
    let life = |given: Option<Duration>, usual: Duration| given.unwrap_or(usual);
    let ca_passphrase_file = passphrase::file(
        flags.ca_passphrase_file.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).or(raw.ca_passphrase_file),
        std::env::var_os("CREDENTIALS_DIRECTORY"),
    );
    if ca_passphrase_file.as_ref().is_some_and(|file| !file.is_absolute()) {
        wrong.push("caPassphraseFile: expected the absolute path of a file whose first line is the passphrase".into());
    }
    let config = Config {
        state_directory,
        ca_passphrase_file,
        store,
        store_password_file: raw.store_password_file,
        keep: raw.keep.judged(&mut wrong),
        backup: raw.backup.and_then(|backup| plan_of(backup, &mut wrong)),
        listen,
        metrics_listen,
        endpoints,
        server_names: raw.server_names,
        trust_domain: raw.trust_domain,
        log_level: flags.log.clone().unwrap_or(raw.log.level),
        log_format: raw.log.format,
        agent_certificate_life: life(raw.agent_certificate_life, AGENT_LIFE),
        operator_certificate_life: life(raw.operator_certificate_life, OPERATOR_LIFE),
        drain: life(raw.drain, Duration::from_secs(10)),
    };
    check_times(&config, &mut wrong);
    if wrong.is_empty() { Ok(config) } else { Err(Refused::Wrong(wrong)) }
}

/// Half past two at night.
const BACKUP_AT: &str = "02:30";

fn plan_of(raw: RawBackup, wrong: &mut Vec<String>) -> Option<Plan> {
    let location = match (raw.folder, raw.bucket) {
        (Some(path), None) if path.is_absolute() => Some(Location::Folder { path }),
        (None, Some(bucket)) => Some(Location::S3(S3Location {
            bucket: bucket.bucket,
            prefix: bucket.prefix,
            region: bucket.region.unwrap_or_else(|| "us-east-1".into()),
            endpoint: bucket.endpoint,
            path_style: bucket.path_style,
            ca_file: bucket.ca_file,
            credentials: bucket.credentials_file.map_or(Credentials::Environment, Credentials::File),
        })),
        (Some(_), None) => {
            wrong.push("backup.folder: expected an absolute path".into());
            None
        }
        (Some(_), Some(_)) | (None, None) => {
            wrong.push("backup: expected either `folder` or `bucket`".into());
            None
        }
    };
    if !raw.passphrase_file.is_absolute() {
        wrong.push("backup.passphraseFile: expected the absolute path of a file whose first line is the passphrase".into());
    }
    let at = time_of_day(raw.at.as_deref().unwrap_or(BACKUP_AT));
    if at.is_none() {
        wrong.push("backup.at: expected a time of the day in UTC, as \"02:30\"".into());
    }
    let keep = raw.keep.unwrap_or(14);
    if !(1..=10_000).contains(&keep) {
        wrong.push("backup.keep: expected 1 to 10000".into());
    }
    Some(Plan { location: location?, passphrase_file: raw.passphrase_file, at: at?, keep })
}

fn time_of_day(text: &str) -> Option<Duration> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then(|| Duration::from_secs(hours * 3_600 + minutes * 60))
}

fn endpoints(given: Option<Vec<Endpoint>>, listen: SocketAddr, wrong: &mut Vec<String>) -> Vec<Endpoint> {
    match given {
        Some(endpoints) if endpoints.is_empty() || endpoints.len() > 16 => {
            wrong.push(format!("endpoints: {} of them; expected 1 to 16", endpoints.len()));
            endpoints
        }
        Some(endpoints) => endpoints,
        None if listen.ip().is_unspecified() => {
            wrong.push(format!("endpoints: missing; agents cannot dial {listen}, so name host:port where they find this controller"));
            Vec::new()
        }
        None => vec![Endpoint { host: listen.ip().to_string(), port: listen.port() }],
    }
}

fn check_times(config: &Config, wrong: &mut Vec<String>) {
    const HOUR: Duration = Duration::from_secs(3_600);
    const LONGEST: Duration = Duration::from_secs(400 * 86_400);
    for (field, life) in
        [("agentCertificateLife", config.agent_certificate_life), ("operatorCertificateLife", config.operator_certificate_life)]
    {
        if !(HOUR..=LONGEST).contains(&life) {
            wrong.push(format!("{field}: expected 1h to 400d"));
        }
    }
    if config.drain > HOUR {
        wrong.push("drain: expected at most 1h".into());
    }
}

/// The configuration of `dev`: everything beside the state folder has a value.
///
/// # Errors
/// As [`load`].
pub fn for_dev(flags: &Flags, state_directory: &Path) -> Result<Config, Refused> {
    let flags =
        Flags { state_directory: Some(flags.state_directory.clone().unwrap_or_else(|| state_directory.to_owned())), ..flags.clone() };
    load(&flags)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    muster_common::duration::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

fn trust_domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TrustDomain, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, flags: Flags) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.yaml");
        std::fs::write(&path, text).unwrap();
        let raw = config::load_with(Some(&path), PREFIX, []).map_err(|error| error.to_string())?;
        judge(raw, &flags).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_with_a_state_folder_is_enough() {
        let config = load_text("stateDirectory: /var/lib/muster\n", Flags::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7400");
        assert_eq!(config.endpoints[0].to_string(), "127.0.0.1:7400");
        assert_eq!(config.certificate_names(), ["127.0.0.1", "localhost"]);
        assert_eq!(config.agent_certificate_life, AGENT_LIFE);
    }

    #[test]
    fn flags_win_over_the_file_and_both_spellings_are_taken() {
        let flags = Flags { listen: Some("127.0.0.1:9".parse().unwrap()), ..Flags::default() };
        let text = "state_directory: /x\nlisten: 127.0.0.1:8\nlog: {level: debug, format: json}\nagentCertificateLife: 7d\n";
        let config = load_text(text, flags).unwrap();
        assert_eq!((config.listen.port(), config.log_level.as_str(), config.log_format), (9, "debug", LogFormat::Json));
        assert_eq!(config.agent_certificate_life, Duration::from_secs(7 * 86_400));
    }

    #[test]
    fn what_is_wrong_in_the_file_is_told_with_line_and_column() {
        for (text, place) in [
            ("stateDirectory: /x\nlisten: nowhere\n", "controller.yaml:2:"),
            ("stateDirectory: /x\nlisten2: 1\n", "controller.yaml:2:1"),
            ("stateDirectory: /x\ndrain: soon\n", "controller.yaml:2:"),
            ("stateDirectory: /x\nendpoints: ['https://a']\n", "controller.yaml:2:"),
            ("stateDirectory: /x\nlog:\n  levl: info\n", "controller.yaml:3:3"),
        ] {
            let error = load_text(text, Flags::default()).unwrap_err();
            assert!(error.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn what_makes_no_sense_as_a_whole_is_told_at_once_and_together() {
        let text = "listen: 0.0.0.0:7400\nmetricsListen: 0.0.0.0:7400\ndrain: 2h\nagentCertificateLife: 1s\nserverNames: ['a b']\n";
        let error = load_text(text, Flags::default()).unwrap_err();
        let text_of_backup = "stateDirectory: /x\nbackup: {folder: here, passphraseFile: p, at: '25:00', keep: 0}\n";
        let refused = load_text(text_of_backup, Flags::default()).unwrap_err();
        for field in ["backup.folder", "backup.passphraseFile", "backup.at", "backup.keep"] {
            assert!(refused.contains(field), "{refused}");
        }
        let keep =
            "stateDirectory: /x\nkeep: {events: 999, audit: 1, history: 99000000, operations: 0, operationsFor: 1h, auditFor: 9000d}\n";
        let refused = load_text(keep, Flags::default()).unwrap_err();
        for field in ["events", "audit", "history", "operations", "operationsFor", "auditFor"] {
            assert!(refused.contains(&format!("keep.{field}: ")), "{refused}");
        }
        let store = "stateDirectory: /x\nstore: postgres://muster:hidden@db1/muster\n";
        let refused = load_text(store, Flags::default()).unwrap_err();
        assert!(refused.starts_with("store: ") && !refused.contains("hidden"), "{refused}");
        for field in ["stateDirectory", "metricsListen", "endpoints", "drain", "agentCertificateLife", "serverNames"] {
            assert!(error.lines().any(|line| line.starts_with(&format!("{field}: "))), "{field}: {error}");
        }
    }
}
