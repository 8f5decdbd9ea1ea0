//! `TRUSTED_PROXIES`: reverse proxies whose forwarding headers give the client address.

use std::net::IpAddr;

/// Most networks in the list. Every address of a request is compared with each of them.
const MAX_NETWORKS: usize = 64;

/// The reverse proxies in front of this server. Empty by default: then no forwarding header is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// One address, or all addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    addr: IpAddr,
    bits: u8,
}

impl TrustedProxies {
    /// Whether an address is a trusted proxy.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.0.iter().any(|network| network.contains(addr))
    }
}

impl std::str::FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let networks = parts.map(str::parse).collect::<Result<Vec<_>, _>>()?;
        if networks.len() > MAX_NETWORKS {
            return Err(format!("at most {MAX_NETWORKS} networks: combine them into larger ones"));
        }
        Ok(Self(networks))
    }
}

impl Network {
    fn contains(self, addr: IpAddr) -> bool {
        self.addr.is_ipv4() == addr.is_ipv4() && masked(addr, self.bits) == self.addr
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?} is neither an address nor a network such as 10.0.0.0/8 or fd00::/8");
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().map_err(|_| expected())?;
        if addr != addr.to_canonical() {
            return Err(format!("{text:?}: write it as an IPv4 address"));
        }
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let is_number = |bits: &&str| !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            Some(bits) => Some(bits).filter(is_number).and_then(|bits| bits.parse().ok()).ok_or_else(expected)?,
            None => most,
        };
        match bits {
            0 => Err(format!("{text:?} contains every address: any client could claim any address")),
            bits if bits > most => Err(expected()),
            // Probably a mistake: either the address or its network was meant.
            bits if masked(addr, bits) != addr => {
                Err(format!("{text:?} has bits after its prefix: write {}/{bits} or {addr}", masked(addr, bits)))
            }
            bits => Ok(Self { addr, bits }),
        }
    }
}

/// The address with all but its first bits cleared.
fn masked(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((addr.to_bits() & mask).into())
        }
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((addr.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(text: &str) -> TrustedProxies {
        text.parse().unwrap()
    }

    #[test]
    fn only_listed_addresses_and_networks_are_trusted() {
        let trusted = proxies("10.1.0.0/16, 192.0.2.7 ,2001:db8:1::/48,::1");
        for (addr, is_trusted) in [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("2001:db8:1:ffff::1", true),
            ("2001:db8:2::", false),
            ("::1", true),
            ("::", false),
        ] {
            assert_eq!(trusted.contains(addr.parse().unwrap()), is_trusted, "{addr}");
        }
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
        assert_eq!(proxies(" , "), TrustedProxies::default());
    }

    #[test]
    fn text_that_is_not_a_network_is_refused() {
        for text in [
            "localhost",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.1/8",
            "10.0.0.0/8/8",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::1/64",
            "::/129",
            "::ffff:10.0.0.1",
            "10.0.0.1:80",
            "[::1]",
            "10.0.0.1;10.0.0.2",
            "*",
        ] {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
        }
        let many = vec!["192.0.2.1"; MAX_NETWORKS + 1].join(",");
        assert!(many.parse::<TrustedProxies>().is_err());
    }
}
