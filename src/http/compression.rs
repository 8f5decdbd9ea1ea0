//! Compressed responses to queries.
//!
//! Only responses to queries are compressed. The length of a compressed response tells how much of a text that a stranger
//! chose also occurs in the rest of it (the BREACH attack), so nothing secret may be in it: responses to mutations carry
//! tokens and passwords and are sent as they are. Streams and sockets are not compressed either: their messages are
//! small, and a compressor for each of them costs 300 KiB of memory.

use std::io::Write;

use axum::http::{HeaderMap, header};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::graphql::response::Written;

/// Smaller responses fit into a packet or two: compressing them saves nobody time.
pub(super) const MIN_BYTES: usize = 1 << 10;
/// From this size on, a thread of its own compresses: 256 KiB take about a millisecond.
const MAX_INLINE_BYTES: usize = 256 << 10;

/// Whether the client accepts gzip (RFC 9110, 12.5.3).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in values.flat_map(|value| value.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameters.trim().split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let is_accepted = quality.is_none_or(|(_, value)| value.trim().parse::<f32>().is_ok_and(|q| q > 0.0));
        let name = name.trim();
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return is_accepted;
        }
        any |= name == "*" && is_accepted;
    }
    any
}

/// Compresses a response.
pub(super) async fn gzip(written: Written) -> Written {
    if written.n_bytes() < MAX_INLINE_BYTES {
        return gzip_now(written);
    }
    tokio::task::spawn_blocking(move || gzip_now(written)).await.expect("compressing memory does not panic")
}

/// At the fastest level: 100 us for 32 KiB. The best level saves a third of the bytes more and takes five times as long.
fn gzip_now(written: Written) -> Written {
    let mut encoder = GzEncoder::new(Vec::with_capacity(written.n_bytes() / 4), Compression::fast());
    let Written { segments, memory } = written;
    for segment in segments {
        encoder.write_all(&segment).expect("memory can be written");
    }
    let compressed = encoder.finish().expect("memory can be written");
    memory.shrink_to(compressed.len());
    Written { segments: vec![compressed.into()], memory }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_accepted_if_a_client_names_it_or_accepts_everything() {
        for (value, accepted) in [
            ("gzip", true),
            ("br, gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("deflate, GZIP;q=0.5", true),
            ("x-gzip", true),
            ("*", true),
            ("br;q=1.0, *;q=0.1", true),
            ("gzip;q=0", false),
            ("gzip; Q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("gzip;q=x", false),
            ("br", false),
            ("x-gzip2", false),
            ("identity", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
            assert_eq!(accepts_gzip(&headers), accepted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
