//! Traces across processes: `traceparent` (W3C Trace Context) in gRPC metadata, HTTP headers and plain text.
//!
//! A command carries it as text, so that the agent's task joins the operator's trace even after a resend.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// The `traceparent` of a span: `00-<32 hex>-<16 hex>-<2 hex>`. `None` where no telemetry is on or the span is disabled.
#[must_use]
pub fn traceparent_of(span: &Span) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes a span the child of the remote one that `traceparent` names. A text that is no traceparent leaves it as it is. To be called
/// before the span is entered for the first time.
pub fn set_parent(span: &Span, traceparent: &str) {
    let context = context_of(traceparent);
    if context.span().span_context().is_valid()
        && let Err(error) = span.set_parent(context)
    {
        tracing::debug!(%error, "a span keeps its own trace");
    }
}

/// The trace id of a span as 32 hexadecimal digits, for logs and error details.
#[must_use]
pub fn trace_id_of(span: &Span) -> Option<String> {
    let context = span.context();
    let id = context.span().span_context().trace_id();
    (id != opentelemetry::trace::TraceId::INVALID).then(|| id.to_string())
}

/// Puts the span's `traceparent` into a call's metadata.
pub fn inject(span: &Span, metadata: &mut MetadataMap) {
    if let Some(value) = traceparent_of(span).and_then(|text| MetadataValue::try_from(text).ok()) {
        metadata.insert(TRACEPARENT, value);
    }
}

/// Makes `span` a child of the trace that a request's headers carry, if any.
pub fn extract(span: &Span, headers: &http::HeaderMap) {
    if let Some(text) = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
        set_parent(span, text);
    }
}

/// A tonic interceptor for clients: every call carries the current span's `traceparent`.
///
/// # Errors
/// Never; the signature is tonic's.
pub fn client_interceptor(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    inject(&Span::current(), request.metadata_mut());
    Ok(request)
}

fn context_of(traceparent: &str) -> Context {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn with_traces(check: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), check);
    }

    #[test]
    fn a_remote_span_becomes_the_parent_and_keeps_its_trace_id() {
        with_traces(|| {
            let here = tracing::info_span!("operator");
            let sent = traceparent_of(&here).unwrap();
            let there = tracing::info_span!("task");
            set_parent(&there, &sent);
            assert_eq!(trace_id_of(&here), trace_id_of(&there));
            assert_ne!(traceparent_of(&there).unwrap(), sent, "a span of its own in the same trace");
        });
    }

    #[test]
    fn metadata_carries_the_trace_and_headers_give_it_back() {
        with_traces(|| {
            let here = tracing::info_span!("operator");
            let mut metadata = MetadataMap::new();
            inject(&here, &mut metadata);
            let there = tracing::info_span!("rpc");
            extract(&there, &metadata.into_headers());
            assert_eq!(trace_id_of(&here), trace_id_of(&there));
        });
    }

    #[test]
    fn a_text_that_is_no_traceparent_changes_nothing() {
        with_traces(|| {
            for text in ["", "00-zz", "00-00000000000000000000000000000000-0000000000000000-01", &"x".repeat(10_000)] {
                let span = tracing::info_span!("task");
                set_parent(&span, text);
                assert!(trace_id_of(&span).is_some(), "{text:.20}");
            }
        });
    }

    #[test]
    fn without_telemetry_there_is_no_traceparent() {
        assert_eq!(traceparent_of(&Span::none()), None);
    }
}
