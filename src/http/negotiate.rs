//! Content negotiation: the media types of `Accept`, and whether the `Content-Type` is JSON.

use axum::http::{HeaderMap, header};

/// The media type of a single response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`: status 200 for every well-formed request, as older clients expect.
    Json,
    /// `application/graphql-response+json`: the status tells the outcome.
    GraphqlResponse,
}

/// The format of a streamed response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    /// `text/event-stream`, distinct-connections mode.
    Events,
    /// `multipart/mixed` with `subscriptionSpec="1.0"`.
    Multipart,
}

/// Whether a browser asks for a page: `text/html` is preferred to JSON.
pub(super) fn prefers_html(headers: &HeaderMap) -> bool {
    let ranges = ranges(headers);
    let html = ranges.iter().find(|range| range.media == "text/html").map_or(0.0, |range| range.quality);
    html > quality(&ranges, "application/json").map_or(0.0, |(quality, _)| quality)
}

/// Whether a scraper of metrics knows OpenMetrics. One that accepts anything may know the older format only.
pub(super) fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    ranges(headers).iter().any(|range| range.media == "application/openmetrics-text" && range.quality > 0.0)
}

/// The best accepted media type of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) single: Option<Media>,
    pub(super) streaming: Option<Streaming>,
}

/// One media range of an `Accept` header.
struct Range<'a> {
    media: String,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

/// Reads all `Accept` headers; none means `application/json`, and so does `*/*`.
pub(super) fn accepted(headers: &HeaderMap) -> Accepted {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        return Accepted { single: Some(Media::Json), streaming: None };
    }
    let single = [(Media::Json, "application/json"), (Media::GraphqlResponse, "application/graphql-response+json")]
        .into_iter()
        .filter_map(|(media, name)| Some((media, quality(&ranges, name)?)));
    // `*/*` alone never selects a stream.
    let events = ranges.iter().position(|r| r.media == "text/event-stream");
    let multipart = ranges.iter().position(|r| {
        r.media == "multipart/mixed"
            && r.parameters.iter().any(|(name, value)| name.eq_ignore_ascii_case("subscriptionSpec") && *value == "1.0")
    });
    let streaming =
        [(Streaming::Events, events), (Streaming::Multipart, multipart)].into_iter().filter_map(|(s, at)| {
            let at = at?;
            (ranges[at].quality > 0.0).then_some((s, (ranges[at].quality, at)))
        });
    Accepted { single: best(single), streaming: best(streaming) }
}

/// The media ranges of all `Accept` headers, in their order.
fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let values = values.filter(|value| !value.trim().is_empty());
    values.flat_map(|value| split_outside_quotes(value, ',')).map(range).collect()
}

/// The highest quality; among equals the one listed first.
fn best<T>(found: impl Iterator<Item = (T, (f32, usize))>) -> Option<T> {
    let better = |a: &(f32, usize), b: &(f32, usize)| a.0 > b.0 || (a.0 == b.0 && a.1 < b.1);
    found.reduce(|best, next| if better(&next.1, &best.1) { next } else { best }).map(|(value, _)| value)
}

/// The quality of a media type by its most specific range, and that range's position.
fn quality(ranges: &[Range<'_>], media: &str) -> Option<(f32, usize)> {
    let find = |name: &str| ranges.iter().position(|r| r.media == name);
    let at = find(media).or_else(|| find("application/*")).or_else(|| find("*/*"))?;
    (ranges[at].quality > 0.0).then_some((ranges[at].quality, at))
}

fn range(text: &str) -> Range<'_> {
    let mut parts = split_outside_quotes(text, ';').into_iter();
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let parameters: Vec<(&str, &str)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
        .collect();
    let quality = parameters
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("q"))
        .map_or(1.0, |(_, value)| value.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0));
    Range { media, parameters, quality }
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .collect()
}

/// Whether the `Content-Type` is JSON in UTF-8. Only types that cause a CORS preflight are accepted, so that pages of
/// other sites can't post in a user's name.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let given = range(value);
    given.media == "application/json"
        && given
            .parameters
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("charset"))
            .all(|(_, charset)| charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_best_accepted_media_type_is_chosen() {
        use Media::{GraphqlResponse, Json};
        use Streaming::{Events, Multipart};
        assert_eq!(accepted(&HeaderMap::new()), Accepted { single: Some(Json), streaming: None });
        for (value, single, streaming) in [
            ("*/*", Some(Json), None),
            ("application/*", Some(Json), None),
            ("application/json", Some(Json), None),
            ("application/graphql-response+json", Some(GraphqlResponse), None),
            (
                "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8",
                Some(GraphqlResponse),
                None,
            ),
            ("application/json, application/graphql-response+json", Some(Json), None),
            ("application/json;q=0.5, application/graphql-response+json;q=0.9", Some(GraphqlResponse), None),
            ("application/json;q=0, */*", Some(GraphqlResponse), None),
            ("application/json, multipart/mixed", Some(Json), None),
            ("text/event-stream", None, Some(Events)),
            ("text/event-stream;q=0", None, None),
            ("multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0,application/json", Some(Json), Some(Multipart)),
            ("multipart/mixed;subscriptionSpec=\"1.0\", application/json", Some(Json), Some(Multipart)),
            ("multipart/mixed;subscriptionSpec=\"2.0\"", None, None),
            ("multipart/mixed;boundary=\"a,b;c\";subscriptionSpec=\"1.0\"", None, Some(Multipart)),
            ("text/html", None, None),
            ("image/png;q=2, application/json;q=x", None, None),
        ] {
            assert_eq!(accepted(&headers(header::ACCEPT, value)), Accepted { single, streaming }, "{value}");
        }
    }

    #[test]
    fn browsers_ask_for_a_page() {
        for (value, good) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", true),
            ("text/html", true),
            ("application/json, text/html;q=0.9", false),
            ("text/html;q=0", false),
            ("*/*", false),
        ] {
            assert_eq!(prefers_html(&headers(header::ACCEPT, value)), good, "{value}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn only_json_in_utf_8_is_accepted_as_a_body() {
        for (value, good) in [
            ("application/json", true),
            ("Application/JSON; charset=\"UTF-8\"", true),
            ("application/json; charset=latin1", false),
            ("text/plain", false),
            ("application/graphql", false),
            ("multipart/form-data; boundary=x", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            assert_eq!(is_json(&headers(header::CONTENT_TYPE, value)), good, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
