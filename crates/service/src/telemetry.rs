//! Logs to standard error, metrics for `/metrics`, and traces and metrics by OTLP where the standard `OTEL_*` variables ask for it.
//!
//! What always holds: without those variables nothing is sent anywhere; a collector that is down or silent neither slows the process nor
//! keeps it from ending (each flush is bounded).

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::Registry;
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::trace;

/// How long the last flush of each exporter may take.
const LAST_FLUSH: Duration = Duration::from_secs(3);

/// What these crates say below WARN would drown ours, and an exporter would trace itself.
const QUIET: [&str; 8] = ["h2", "hyper", "hyper_util", "tonic", "tower", "rustls", "opentelemetry", "opentelemetry_sdk"];

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What a process asks of its telemetry.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// `service.name` of traces and metrics, for example `muster-agent`.
    pub service_name: &'static str,
    /// Which instance of it, for example `istanbul/istanbul-db1`.
    pub instance: Option<String>,
    /// Text or JSON.
    pub format: LogFormat,
    /// A filter as `info` or `info,muster_agent=debug`.
    pub level: String,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("log level {level:?}: {message}; expected for example info or info,muster_agent=debug")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        message: String,
    },
    /// An exporter refused its `OTEL_*` variables.
    #[error("telemetry exporter: {0}")]
    Exporter(String),
    /// It was started before in this process.
    #[error("telemetry is started already")]
    Twice,
}

/// What runs until the process ends. Call [`Telemetry::shutdown`] last.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    traces: SdkTracerProvider,
    level: LevelSwitch,
}

/// Puts another log level in force while the process runs.
#[derive(Clone, Debug)]
pub struct LevelSwitch(tracing_subscriber::reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl LevelSwitch {
    /// Puts another log level or filter in force, for a reload.
    ///
    /// # Errors
    /// Where it is none; then the old one stays.
    pub fn set(&self, level: &str) -> Result<(), TelemetryError> {
        let refused = |message: String| TelemetryError::Level { level: level.to_owned(), message };
        self.0.reload(filter(level)?).map_err(|error| refused(error.to_string()))
    }
}

impl Telemetry {
    /// What changes the log level.
    #[must_use]
    pub fn level_switch(&self) -> LevelSwitch {
        self.level.clone()
    }

    /// What `/metrics` shows. Instruments come from `opentelemetry::global::meter("…")`.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Sends what is left, within a bound. Blocks: call it outside the runtime's tasks or by `spawn_blocking`.
    pub fn shutdown(self) {
        for (what, ended) in
            [("traces", self.traces.shutdown_with_timeout(LAST_FLUSH)), ("metrics", self.meters.shutdown_with_timeout(LAST_FLUSH))]
        {
            if let Err(error) = ended {
                eprintln!("muster: the last {what} were not sent: {error}");
            }
        }
    }
}

/// Starts logs, metrics and traces of this process. To be called once, inside the runtime.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(options: TelemetryOptions) -> Result<Telemetry, TelemetryError> {
    let (registry, meters) = meters(options.service_name, options.instance.clone())?;
    let traces = traces(options.service_name, options.instance)?;
    let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer(options.service_name));
    let lines = match options.format {
        LogFormat::Text => tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .event_format(WithTrace(tracing_subscriber::fmt::format().json()))
            .fmt_fields(JsonFields::new())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let (level, filter) = tracing_subscriber::reload::Layer::new(filter(&options.level)?);
    tracing_subscriber::registry().with(level).with(spans).with(lines).try_init().map_err(|_| TelemetryError::Twice)?;
    opentelemetry::global::set_meter_provider(meters.clone());
    Ok(Telemetry { registry, meters, traces, level: LevelSwitch(filter) })
}

/// A meter provider whose instruments the registry shows, and OTLP too where it is asked for.
///
/// # Errors
/// Where an exporter cannot be made.
pub fn meters(service_name: &'static str, instance: Option<String>) -> Result<(Registry, SdkMeterProvider), TelemetryError> {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .build()
        .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
    let mut builder = SdkMeterProvider::builder().with_resource(resource(service_name, instance)).with_reader(reader);
    if otlp_is_asked_for("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
        let exporter = opentelemetry_otlp::MetricExporter::builder()
            .with_tonic()
            .build()
            .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        builder = builder.with_periodic_exporter(exporter);
    }
    Ok((registry, builder.build()))
}

/// A JSON line with the trace id of its span in front, so that logs are found by the trace and the other way round.
struct WithTrace(Format<Json>);

impl<S, N> FormatEvent<S, N> for WithTrace
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match (trace::trace_id_of(&Span::current()), line.strip_prefix('{')) {
            (Some(id), Some(rest)) => write!(writer, "{{\"trace_id\":\"{id}\",{rest}"),
            (None, _) | (_, None) => writer.write_str(&line),
        }
    }
}

fn traces(service_name: &'static str, instance: Option<String>) -> Result<SdkTracerProvider, TelemetryError> {
    let mut builder = SdkTracerProvider::builder().with_resource(resource(service_name, instance));
    if otlp_is_asked_for("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .build()
            .map_err(|error| TelemetryError::Exporter(error.to_string()))?;
        builder = builder.with_batch_exporter(exporter);
    }
    Ok(builder.build())
}

fn resource(service_name: &'static str, instance: Option<String>) -> Resource {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let instance = instance.map(|instance| opentelemetry::KeyValue::new("service.instance.id", instance));
    Resource::builder().with_service_name(service_name).with_attribute(version).with_attributes(instance).build()
}

/// The standard variables: <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.
fn otlp_is_asked_for(of_this_signal: &str) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !disabled && (set(of_this_signal) || set("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let refused = |error: &dyn std::error::Error| TelemetryError::Level { level: level.to_owned(), message: error.to_string() };
    let mut directives: Vec<String> = QUIET.iter().map(|name| format!("{name}=warn")).collect();
    // The later of two directives for one target wins: what was asked for stands behind.
    directives.push(level.to_owned());
    EnvFilter::try_new(directives.join(",")).map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_told_with_an_example() {
        assert!(filter("info,muster_agent=debug").is_ok());
        let error = filter("info,muster=loud").unwrap_err().to_string();
        assert!(error.contains("loud") && error.contains("expected for example"), "{error}");
    }
}
