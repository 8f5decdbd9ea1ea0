//! The client's address: the TCP peer, or the address given by a trusted proxy (`TRUSTED_PROXIES`) in
//! `X-Forwarded-For`.
//!
//! All headers of that name form one list. It is read from its end, where trusted proxies append. The first address
//! that is not a trusted proxy is the client; the entries before it can be forged. `Forwarded` is not read: most
//! proxies write one of the two headers and pass the other through, so reading both would let a client choose.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::settings::TrustedProxies;

/// Most proxies in a chain. The address at that position counts as the client.
const MAX_HOPS: usize = 16;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) addr: IpAddr,
    /// Whether the client uses TLS: to this server, or to a trusted proxy by its own words.
    pub(super) by_https: bool,
}

impl Client {
    /// `has_tls` is of the connection.
    pub(super) fn of(peer: IpAddr, has_tls: bool, headers: &HeaderMap, proxies: &TrustedProxies) -> Self {
        let peer = peer.to_canonical();
        if !proxies.contains(peer) {
            return Self { addr: peer, by_https: has_tls };
        }
        let mut addr = peer;
        for hop in backwards(headers, &FORWARDED_FOR).take(MAX_HOPS) {
            // Invalid entries were forwarded, not seen, by our proxy: the proxy that passed them on is all we know.
            let Some(hop) = address(hop) else { break };
            addr = hop;
            if !proxies.contains(addr) {
                break;
            }
        }
        let by_https = backwards(headers, &FORWARDED_PROTO).next().is_some_and(|p| p.eq_ignore_ascii_case(b"https"));
        Self { addr, by_https }
    }
}

/// The elements of a list that may span several headers, last element first.
fn backwards<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    let elements = values.into_iter().rev().flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// An address, with or without a port, an IPv6 one with or without brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let addr = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => text.parse().or_else(|_| text.parse().map(|addr: SocketAddr| addr.ip())).ok()?,
    };
    Some(addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> Client {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Client::of(peer.parse().unwrap(), false, &map, &"10.0.0.0/8,fd00::/8".parse().unwrap())
    }

    #[test]
    fn the_last_address_that_is_not_a_trusted_proxy_is_the_client() {
        let xff = "x-forwarded-for";
        let hops = ["10.9.9.9"; MAX_HOPS - 1].join(",");
        for (peer, headers, addr) in [
            // Headers of an untrusted peer are ignored.
            ("198.51.100.1", vec![(xff, "192.0.2.1")], "198.51.100.1"),
            ("::ffff:198.51.100.1", vec![], "198.51.100.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec![(xff, "192.0.2.1")], "192.0.2.1"),
            ("::ffff:10.0.0.1", vec![(xff, "192.0.2.1")], "192.0.2.1"),
            // Entries forged by the client stand to the left.
            ("10.0.0.1", vec![(xff, "203.0.113.9, 192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", vec![(xff, "10.0.0.5, 192.0.2.1")], "192.0.2.1"),
            ("10.0.0.1", vec![(xff, "192.0.2.1, 10.0.0.2,10.0.0.3")], "192.0.2.1"),
            ("10.0.0.1", vec![(xff, "203.0.113.9"), (xff, "192.0.2.1"), (xff, "fd00::2")], "192.0.2.1"),
            ("10.0.0.1", vec![(xff, "192.0.2.1,, ,")], "192.0.2.1"),
            // All are trusted proxies: the first of them is the client.
            ("10.0.0.1", vec![(xff, "10.0.0.4, 10.0.0.3")], "10.0.0.4"),
            ("10.0.0.1", vec![(xff, "192.0.2.1:4711")], "192.0.2.1"),
            ("10.0.0.1", vec![(xff, "2001:db8::7")], "2001:db8::7"),
            ("10.0.0.1", vec![(xff, "[2001:db8::7]")], "2001:db8::7"),
            ("10.0.0.1", vec![(xff, "[2001:db8::7]:443, [fd00::1]:80")], "2001:db8::7"),
            ("fd00::1", vec![(xff, "::ffff:192.0.2.1")], "192.0.2.1"),
            // An invalid entry ends the search.
            ("10.0.0.1", vec![(xff, "192.0.2.1, unknown")], "10.0.0.1"),
            ("10.0.0.1", vec![(xff, "192.0.2.1, ä, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", vec![(xff, "[192.0.2.1]")], "10.0.0.1"),
            ("10.0.0.1", vec![(xff, "fe80::1%eth0")], "10.0.0.1"),
            ("10.0.0.1", vec![(xff, "192.0.2.1:99999")], "10.0.0.1"),
            ("10.0.0.1", vec![(xff, "\"192.0.2.1\"")], "10.0.0.1"),
            // Other headers are ignored.
            ("10.0.0.1", vec![("forwarded", "for=192.0.2.1"), ("x-real-ip", "192.0.2.1")], "10.0.0.1"),
            ("10.0.0.1", vec![(xff, "192.0.2.1"), (xff, &hops)], "192.0.2.1"),
            ("10.0.0.1", vec![(xff, "192.0.2.1"), (xff, "10.8.8.8"), (xff, &hops)], "10.8.8.8"),
        ] {
            assert_eq!(client(peer, &headers).addr, addr.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_may_claim_tls() {
        let proto = "x-forwarded-proto";
        assert!(client("10.0.0.1", &[(proto, "https")]).by_https);
        assert!(client("10.0.0.1", &[(proto, "http"), (proto, "http, HTTPS")]).by_https);
        assert!(!client("10.0.0.1", &[(proto, "https, http")]).by_https);
        assert!(!client("10.0.0.1", &[]).by_https);
        assert!(!client("192.0.2.1", &[(proto, "https")]).by_https);
    }
}
