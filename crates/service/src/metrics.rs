//! `/metrics` and `/healthz` on a port of their own, in plain HTTP: it tells nothing that a probe must not see.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a probe is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Answers 200.
    Serving,
    /// Answers 503 with this sentence.
    NotServing(String),
}

/// Looks at the process now; quick, without waiting for anything.
pub type HealthCheck = Arc<dyn Fn() -> Health + Send + Sync>;

/// Serves both paths until `shutdown`.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve(listener: TcpListener, registry: Registry, health: HealthCheck, shutdown: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(registry)
        .merge(Router::new().route("/healthz", get(healthz)).with_state(health));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn metrics(State(registry): State<Registry>) -> impl IntoResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, encoder.format_type().to_owned())], text),
        Err(error) => {
            let plain = [(header::CONTENT_TYPE, "text/plain".to_owned())];
            (StatusCode::INTERNAL_SERVER_ERROR, plain, format!("encode metrics: {error}\n").into_bytes())
        }
    }
}

async fn healthz(State(health): State<HealthCheck>) -> impl IntoResponse {
    match health() {
        Health::Serving => (StatusCode::OK, "ok\n".to_owned()),
        Health::NotServing(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::telemetry;

    async fn get_path(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_served_until_shutdown() {
        let (registry, provider) = telemetry::meters("muster-test", None).unwrap();
        let counter = opentelemetry::metrics::MeterProvider::meter(&provider, "test").u64_counter("muster.sessions").build();
        counter.add(3, &[]);
        let healthy = Arc::new(AtomicBool::new(true));
        let check: HealthCheck = {
            let healthy = healthy.clone();
            Arc::new(
                move || if healthy.load(Ordering::Relaxed) { Health::Serving } else { Health::NotServing("store is read-only".into()) },
            )
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, registry, check, shutdown.clone()));

        let metrics = get_path(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("muster_sessions_total"), "{metrics}");
        assert!(metrics.lines().any(|line| line.starts_with("muster_sessions_total") && line.ends_with(" 3")), "{metrics}");
        assert!(get_path(address, "/healthz").await.contains("200 OK"));
        healthy.store(false, Ordering::Relaxed);
        let sick = get_path(address, "/healthz").await;
        assert!(sick.contains("503") && sick.contains("store is read-only"), "{sick}");

        shutdown.cancel();
        tokio::time::timeout(std::time::Duration::from_secs(5), served).await.unwrap().unwrap().unwrap();
    }
}
