//! Settings of traces: the standard variables of OpenTelemetry, and the share of MQTT messages.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use super::variables::{all, bad, number, secret};
use super::{Secret, SettingsError, SettingsErrors, Source};

const DEFAULT_SERVICE: &str = "smarthome";
/// Milliseconds.
const DEFAULT_TIMEOUT: u64 = 10_000;
const DEFAULT_MESSAGE_RATIO: f64 = 0.01;

/// Traces to a collector.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// The URL that spans are posted to. It has no user and no password.
    pub endpoint: Url,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: names and values.
    pub headers: Vec<(String, Secret)>,
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE`: PEM file of the authority that signed the collector's certificate.
    pub ca_file: Option<PathBuf>,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`: time for one batch, with its retries.
    pub timeout: Duration,
    /// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, with the name of the service.
    pub resource: Vec<(String, String)>,
    /// `OTEL_TRACES_SAMPLER`.
    pub sampler: TraceSampler,
    /// `TRACE_MESSAGE_RATIO`: the share of MQTT messages that the sampler is asked about.
    pub message_ratio: f64,
}

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceSampler {
    /// Whether the decision of the caller holds where there is one.
    pub is_parent_based: bool,
    /// The share of traces that begin here.
    pub ratio: f64,
}

impl TraceSettings {
    /// `None` without a collector.
    pub fn read(source: &impl Source) -> Result<Option<Self>, SettingsErrors> {
        let Some(endpoint) = endpoint(source)? else { return Ok(None) };
        all!(Self {
            headers: headers(source),
            timeout: number(source, "OTEL_EXPORTER_OTLP_TIMEOUT", DEFAULT_TIMEOUT, 1..=600_000).map(Duration::from_millis),
            resource: resource(source),
            sampler: TraceSampler::read(source),
            message_ratio: ratio(source, "TRACE_MESSAGE_RATIO", DEFAULT_MESSAGE_RATIO),
            endpoint: protocol(source).map(|()| endpoint);
            ca_file: source.get("OTEL_EXPORTER_OTLP_CERTIFICATE").map(PathBuf::from),
        })
        .map(Some)
    }
}

/// The address of this signal as it is, or that of all signals with this one's path.
fn endpoint(source: &impl Source) -> Result<Option<Url>, SettingsError> {
    const EXPECTED: &str = "expected a URL such as http://collector:4318; OTEL_EXPORTER_OTLP_HEADERS has credentials";
    let parse = |name: &str| {
        let Some(text) = source.get(name) else { return Ok(None) };
        let is_usable = |url: &Url| {
            ["http", "https"].contains(&url.scheme()) && url.username().is_empty() && url.password().is_none()
        };
        Url::parse(&text).ok().filter(is_usable).map(Some).ok_or_else(|| bad(name, EXPECTED))
    };
    let (of_traces, of_all) = (parse("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")?, parse("OTEL_EXPORTER_OTLP_ENDPOINT")?);
    Ok(of_traces.or_else(|| {
        let mut url = of_all?;
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }))
}

/// The one protocol that the server speaks.
fn protocol(source: &impl Source) -> Result<(), SettingsError> {
    match source.get("OTEL_EXPORTER_OTLP_PROTOCOL").as_deref() {
        None | Some("http/protobuf") => Ok(()),
        Some(_) => {
            Err(bad("OTEL_EXPORTER_OTLP_PROTOCOL", "expected `http/protobuf`, the only protocol of this server"))
        }
    }
}

fn headers(source: &impl Source) -> Result<Vec<(String, Secret)>, SettingsError> {
    let Some(text) = secret(source, "OTEL_EXPORTER_OTLP_HEADERS")? else { return Ok(Vec::new()) };
    let pairs = pairs("OTEL_EXPORTER_OTLP_HEADERS", text.reveal())?;
    Ok(pairs.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}

fn resource(source: &impl Source) -> Result<Vec<(String, String)>, SettingsError> {
    const NAME: &str = "service.name";
    let mut attributes = match source.get("OTEL_RESOURCE_ATTRIBUTES") {
        Some(text) => pairs("OTEL_RESOURCE_ATTRIBUTES", &text)?,
        None => Vec::new(),
    };
    if let Some(name) = source.get("OTEL_SERVICE_NAME") {
        attributes.retain(|(key, _)| key != NAME);
        attributes.push((NAME.to_owned(), name));
    } else if !attributes.iter().any(|(key, _)| key == NAME) {
        attributes.push((NAME.to_owned(), DEFAULT_SERVICE.to_owned()));
    }
    Ok(attributes)
}

/// A list such as `a=1,b=2`, whose values are percent-encoded. The error quotes nothing: values may be secret.
fn pairs(name: &str, text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let pair = |entry: &str| {
        let (key, value) = entry.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        (!key.trim().is_empty()).then(|| (key.trim().to_owned(), value.into_owned()))
    };
    let entries = text.split(',').filter(|entry| !entry.trim().is_empty());
    let pairs: Option<Vec<_>> = entries.map(pair).collect();
    pairs.ok_or_else(|| bad(name, "expected a list such as name=value,name=value with percent-encoded values"))
}

impl TraceSampler {
    fn read(source: &impl Source) -> Result<Self, SettingsError> {
        const EXPECTED: &str = "expected always_on, always_off or traceidratio, or one of them after parentbased_";
        let argument = ratio(source, "OTEL_TRACES_SAMPLER_ARG", 1.0)?;
        let name = source.get("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".to_owned());
        let (is_parent_based, of_roots) = match name.strip_prefix("parentbased_") {
            Some(of_roots) => (true, of_roots),
            None => (false, name.as_str()),
        };
        let ratio = match of_roots {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => argument,
            _ => return Err(bad("OTEL_TRACES_SAMPLER", EXPECTED)),
        };
        Ok(Self { is_parent_based, ratio })
    }
}

fn ratio(source: &impl Source, name: &str, default: f64) -> Result<f64, SettingsError> {
    let Some(text) = source.get(name) else { return Ok(default) };
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| bad(name, "expected a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<TraceSettings>, SettingsErrors> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TraceSettings::read(&move |name: &str| vars.iter().find(|(set, _)| set == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn traces_are_off_without_an_endpoint_whatever_else_is_set() {
        assert_eq!(read(&[("OTEL_TRACES_SAMPLER", "xray"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), Ok(None));
    }

    #[test]
    fn the_endpoint_of_all_signals_gets_the_path_of_traces() {
        let endpoint = |vars: &[(&str, &str)]| read(vars).unwrap().unwrap().endpoint.to_string();
        let of_all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(endpoint(&[of_all]), "http://collector:4318/v1/traces");
        assert_eq!(endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://host/otlp/")]), "https://host/otlp/v1/traces");
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://host/spans");
        assert_eq!(endpoint(&[of_all, of_traces]), "https://host/spans");
    }

    #[test]
    fn lists_are_decoded_and_the_service_has_a_name() {
        let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let settings = read(&[on, ("OTEL_EXPORTER_OTLP_HEADERS", "a=Bearer%20x, b=1")]).unwrap().unwrap();
        let headers: Vec<_> = settings.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        assert_eq!(headers, [("a", "Bearer x"), ("b", "1")]);
        assert_eq!(settings.resource, [("service.name".to_owned(), "smarthome".to_owned())]);
        assert!(!format!("{settings:?}").contains("Bearer"));
        let named = [on, ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,b=c"), ("OTEL_SERVICE_NAME", "hub")];
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read(&named).unwrap().unwrap().resource, [pair("b", "c"), pair("service.name", "hub")]);
    }

    #[test]
    fn the_sampler_has_the_standard_names() {
        let sampler = |name: &str| {
            let on = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
            let TraceSampler { is_parent_based, ratio } =
                read(&[on, ("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", "0.25")])
                    .unwrap()
                    .unwrap()
                    .sampler;
            (is_parent_based, ratio)
        };
        assert_eq!((sampler("always_on"), sampler("always_off")), ((false, 1.0), (false, 0.0)));
        assert_eq!((sampler("traceidratio"), sampler("parentbased_traceidratio")), ((false, 0.25), (true, 0.25)));
        assert_eq!((sampler("parentbased_always_on"), sampler("parentbased_always_off")), ((true, 1.0), (true, 0.0)));
    }

    #[test]
    fn an_error_names_its_variable_and_quotes_no_credentials() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:canary@collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://canary"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=canary"),
            ("OTEL_TRACES_SAMPLER", "xray"),
            ("OTEL_TRACES_SAMPLER_ARG", "2"),
            ("TRACE_MESSAGE_RATIO", "1%"),
        ] {
            let SettingsErrors(errors) =
                read(&[(name, value), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")]).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert_eq!(errors[0].name, name);
            assert!(!errors[0].problem.contains("canary"), "{errors:?}");
        }
    }
}
