//! A repository in a bucket, by `object_store`. Retries are ours, so that a store that is away is seen and told.
//!
//! Each PUT says `If-None-Match: *` and carries the SHA-256 of its bytes. Whether the store looks at it is tried out with a body
//! that was changed on its way.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector};
use object_store::path::Path;
use object_store::{Certificate, ClientOptions, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig};

use super::{Failed, Listed};
use crate::error::{Error, StoreError, StoreErrorKind};
use crate::location::{Credentials, S3Location};
use muster_common::time::Timestamp;

#[derive(Debug)]
pub(super) struct Bucket {
    store: AmazonS3,
    /// Changes each body on its way.
    corrupting: AmazonS3,
    prefix: String,
}

impl Bucket {
    pub(super) fn open(location: &S3Location, at: &str) -> Result<Self, Error> {
        let wrong = |reason: String| {
            Error::Store(StoreError { kind: StoreErrorKind::Unsupported, doing: "open", path: String::new(), at: at.to_owned(), reason })
        };
        // reqwest takes the process's provider; where main did not choose one, it is ring, as everywhere.
        if rustls::crypto::CryptoProvider::get_default().is_none() && rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("another thread chose the TLS provider");
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&location.bucket)
            .with_region(&location.region)
            .with_virtual_hosted_style_request(!location.path_style)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let mut options = ClientOptions::new().with_connect_timeout(Duration::from_secs(10)).with_timeout(super::REQUEST_TIMEOUT);
        if let Some(endpoint) = &location.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
            options = options.with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(file) = &location.ca_file {
            let pem = std::fs::read(file).map_err(|error| wrong(format!("read CA file {}: {error}", file.display())))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(format!("CA file {}: {error}", file.display())))?;
            options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
        }
        builder = match sign_with(&location.credentials).map_err(wrong)? {
            None => builder.with_skip_signature(true),
            Some(key) => {
                let builder = builder.with_access_key_id(key.id).with_secret_access_key(key.secret);
                key.token.into_iter().fold(builder, AmazonS3Builder::with_token)
            }
        };
        let builder = builder.with_client_options(options);
        let corrupting = builder.clone().with_http_connector(Corrupting).build().map_err(|error| wrong(error.to_string()))?;
        let store = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { store, corrupting, prefix: location.prefix.trim_matches('/').to_owned() })
    }

    fn path(&self, path: &str) -> Path {
        if self.prefix.is_empty() { Path::from(path) } else { Path::from(format!("{}/{path}", self.prefix)) }
    }

    /// Whether the store refuses a body that is not the one that was sent. Leaves nothing behind but what it took wrongly.
    pub(super) async fn put_corrupted(&self, path: &str, bytes: Bytes) -> Result<bool, Failed> {
        match self.corrupting.put(&self.path(path), PutPayload::from_bytes(bytes)).await {
            Ok(_) => Ok(false),
            Err(error) => {
                let failed = failed(error);
                // Some stores answer 500 to a body that ends in another hash; the caller looks whether the object is there.
                let refused = failed.0 != StoreErrorKind::Unavailable || failed.1.contains("status code: 500");
                if refused { Ok(true) } else { Err(failed) }
            }
        }
    }

    pub(super) async fn put_new(&self, path: &str, bytes: Bytes) -> Result<(), Failed> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(&self.path(path), PutPayload::from_bytes(bytes), options).await.map(|_| ()).map_err(failed)
    }

    pub(super) async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, Failed> {
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        let got = self.store.get_opts(&self.path(path), options).await.map_err(failed)?;
        got.bytes().await.map_err(failed)
    }

    pub(super) async fn look(&self, path: &str) -> Result<Listed, Failed> {
        let meta = self.store.head(&self.path(path)).await.map_err(failed)?;
        Ok(Listed { path: path.to_owned(), size: meta.size, modified: Timestamp(meta.last_modified.timestamp_micros()) })
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Failed> {
        let cut = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        let under = self.path(prefix);
        let under = (!under.as_ref().is_empty()).then_some(&under);
        let listed = self.store.list(under).map_ok(|meta| {
            let path = meta.location.as_ref().get(cut..).unwrap_or_default().to_owned();
            Listed { path, size: meta.size, modified: Timestamp(meta.last_modified.timestamp_micros()) }
        });
        listed.try_collect().await.map_err(failed)
    }

    pub(super) async fn remove(&self, path: &str) -> Result<(), Failed> {
        self.store.delete(&self.path(path)).await.map_err(failed)
    }
}

struct AccessKey {
    id: String,
    secret: String,
    token: Option<String>,
}

/// What to sign with; errors never show a key.
fn sign_with(credentials: &Credentials) -> Result<Option<AccessKey>, String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set in the environment"));
    match credentials {
        Credentials::None => Ok(None),
        Credentials::Environment => Ok(Some(AccessKey {
            id: variable("AWS_ACCESS_KEY_ID")?,
            secret: variable("AWS_SECRET_ACCESS_KEY")?,
            token: std::env::var("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty()),
        })),
        Credentials::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("read credentials {}: {error}", path.display()))?;
            let wrong = || format!("{} holds neither two lines (key id, secret) nor a [default] section", path.display());
            parse_credentials(&text).ok_or_else(wrong).map(Some)
        }
    }
}

fn parse_credentials(text: &str) -> Option<AccessKey> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).collect();
    if let [id, secret] = lines.as_slice()
        && !id.starts_with('[')
        && !id.contains('=')
    {
        return Some(AccessKey { id: (*id).to_owned(), secret: (*secret).to_owned(), token: None });
    }
    let section = lines.iter().skip_while(|line| **line != "[default]").skip(1).take_while(|line| !line.starts_with('['));
    let pairs: Vec<(&str, &str)> = section.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim())).collect();
    let value = |wanted: &str| pairs.iter().find(|(key, _)| *key == wanted).map(|(_, value)| (*value).to_owned());
    Some(AccessKey { id: value("aws_access_key_id")?, secret: value("aws_secret_access_key")?, token: value("aws_session_token") })
}

fn failed(error: object_store::Error) -> Failed {
    let reason = chain(&error);
    let kind = match &error {
        object_store::Error::NotFound { .. } => StoreErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => StoreErrorKind::AlreadyExists,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => StoreErrorKind::Denied,
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => StoreErrorKind::Unsupported,
        _ => kind_of_status(&reason),
    };
    Failed(kind, reason)
}

/// What stays a bare status in `object_store`: its text is the only place that tells it.
fn kind_of_status(reason: &str) -> StoreErrorKind {
    let status = reason.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(507) => StoreErrorKind::Full,
        Some(400..=499) if reason.contains("Quota") || reason.contains("StorageFull") => StoreErrorKind::Full,
        // 408 and 425 are timeouts, 409 is two writers at one moment, 429 throttles.
        Some(408 | 409 | 425 | 429) => StoreErrorKind::Unavailable,
        Some(400..=499) => StoreErrorKind::Unsupported,
        _ => StoreErrorKind::Unavailable,
    }
}

/// Sends other bytes than were signed, of the same length.
#[derive(Debug)]
struct Corrupting;

#[derive(Debug)]
struct CorruptingClient(HttpClient);

impl HttpConnector for Corrupting {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        ReqwestConnector::default().connect(options).map(|client| HttpClient::new(CorruptingClient(client)))
    }
}

#[async_trait]
impl HttpService for CorruptingClient {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let length = request.body().content_length();
        if length > 0 {
            *request.body_mut() = Bytes::from(vec![b'?'; length]).into();
        }
        self.0.execute(request).await
    }
}

/// The error with its causes, cut to what a person reads.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_status_is_told_apart_by_what_trying_again_can_do() {
        for (reason, kind) in [
            ("Server returned non-2xx status code: 400 Bad Request: BadDigest", StoreErrorKind::Unsupported),
            ("Server returned non-2xx status code: 429 Too Many", StoreErrorKind::Unavailable),
            ("Server returned non-2xx status code: 503: SlowDown", StoreErrorKind::Unavailable),
            ("Server returned non-2xx status code: 507: ", StoreErrorKind::Full),
            ("Server returned non-2xx status code: 403: QuotaExceeded", StoreErrorKind::Full),
            ("connection refused", StoreErrorKind::Unavailable),
        ] {
            assert_eq!(kind_of_status(reason), kind, "{reason}");
        }
    }

    #[test]
    fn access_keys_are_read_from_two_lines_and_from_an_aws_file() {
        let two = parse_credentials("AKIA1\nsecret/1+=\n").unwrap();
        assert_eq!((two.id.as_str(), two.secret.as_str(), two.token), ("AKIA1", "secret/1+=", None));
        let aws = "[other]\naws_access_key_id = no\n[default]\n# mine\naws_access_key_id = AKIA2\naws_secret_access_key = a=b\naws_session_token = t\n";
        let aws = parse_credentials(aws).unwrap();
        assert_eq!((aws.id.as_str(), aws.secret.as_str(), aws.token.as_deref()), ("AKIA2", "a=b", Some("t")));
        assert!(parse_credentials("one line").is_none());
        assert!(parse_credentials("[other]\naws_access_key_id=x\naws_secret_access_key=y").is_none());
    }
}
