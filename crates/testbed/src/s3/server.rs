//! The server itself: s3s-fs as a library over plain HTTP on loopback, in this process.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use tokio::net::TcpListener;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

use super::fault::{Faults, Kind};
use crate::account::RunAs;
use crate::world::World;

pub const ACCESS_KEY: &str = "TESTACCESSKEY";
pub const SECRET_KEY: &str = "test/secret+key";
pub const REGION: &str = "us-east-1";

/// A server with one bucket. It ends when it is dropped.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    bucket: String,
    objects: PathBuf,
    faults: Arc<Faults>,
    stop: CancellationToken,
}

impl S3 {
    /// Starts a server with an empty bucket of this name.
    ///
    /// # Errors
    /// Where its folder cannot be made or no port is free.
    pub async fn start(world: &World, bucket: &str) -> Result<Self> {
        let root = world.folder("s3", RunAs::Caller)?;
        let objects = world.folder(&format!("s3/{bucket}"), RunAs::Caller)?;
        let files =
            s3s_fs::FileSystem::new(root).map_err(|error| anyhow::anyhow!("{error:?}")).context("open the object store's folder")?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let faults = Arc::new(Faults::default());
        let handler = Handler { service: builder.build(), faults: faults.clone(), writes: Arc::new(RwLock::new(())) };
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let endpoint = format!("http://{}", listener.local_addr().context("ask for the port")?);
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, handler, stop.clone()));
        Ok(Self { endpoint, bucket: bucket.to_owned(), objects, faults, stop })
    }

    /// `http://127.0.0.1:<port>`; paths begin with the bucket.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Where the objects lie as files, for a test that counts or spoils them.
    #[must_use]
    pub fn objects(&self) -> &std::path::Path {
        &self.objects
    }

    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone)]
struct Handler {
    service: S3Service,
    faults: Arc<Faults>,
    writes: Arc<RwLock<()>>,
}

async fn serve(listener: TcpListener, handler: Handler, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let handler = handler.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let broken = CancellationToken::new();
            let service = hyper::service::service_fn(|request| answer(handler.clone(), broken.clone(), request));
            let builder = Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                () = stop.cancelled() => {}
                () = broken.cancelled() => {}
                // A client that goes away is the client's business.
                _ended = connection => {}
            }
        });
    }
}

async fn answer(
    handler: Handler,
    broken: CancellationToken,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<HttpResponse, HttpError> {
    let fault = handler.faults.strike(request.method().as_str(), request.uri().path());
    match fault {
        None => handler.carry_out(request.map(Body::from)).await,
        Some(Kind::Silence) => std::future::pending().await,
        Some(Kind::Throttle) => refuse(503, "SlowDown"),
        Some(Kind::Error) => refuse(500, "InternalError"),
        Some(Kind::LostReply) => {
            // Carried out to the end, also where the client does not wait for it.
            handler.carry_out(request.map(Body::from)).await?;
            broken.cancel();
            std::future::pending().await
        }
    }
}

impl Handler {
    async fn carry_out(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if matches!(request.method().as_str(), "GET" | "HEAD") {
            let _read = self.writes.read().await;
            return self.service.call(request).await;
        }
        let _alone = self.writes.write().await;
        self.service.call(request).await
    }
}

fn refuse(status: u16, code: &str) -> Result<HttpResponse, HttpError> {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>a fault on demand</Message></Error>");
    let response = hyper::Response::builder().status(status).header("content-type", "application/xml").body(Body::from(text));
    response.map_err(|error| HttpError::new(Box::new(error)))
}
