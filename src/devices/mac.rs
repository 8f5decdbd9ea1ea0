//! MAC addresses: parses the usual spellings into one canonical form.

use std::fmt;
use std::str::FromStr;

/// An EUI-48 address in its canonical form `24:6F:28:AA:BB:CC`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mac(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: expected six pairs of hexadecimal digits such as 24:6F:28:AA:BB:CC")]
pub struct MacError;

impl Mac {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Accepts `24:6f:28:aa:bb:cc`, `24-6F-28-AA-BB-CC`, `246f.28aa.bbcc` and `246F28AABBCC`.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let bytes = text.as_bytes();
        let (group, separator) = match (bytes.len(), bytes.get(2), bytes.get(4)) {
            (17, Some(b':' | b'-'), _) => (2, bytes[2]),
            (14, _, Some(b'.')) => (4, b'.'),
            (12, _, _) => (12, 0),
            _ => return Err(MacError),
        };
        let mut digits = String::with_capacity(17);
        for (at, byte) in bytes.iter().enumerate() {
            if at % (group + 1) == group {
                if *byte != separator {
                    return Err(MacError);
                }
                continue;
            }
            if !byte.is_ascii_hexdigit() {
                return Err(MacError);
            }
            if digits.len() % 3 == 2 {
                digits.push(':');
            }
            digits.push(char::from(byte.to_ascii_uppercase()));
        }
        Ok(Self(digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_is_one_address() {
        for text in ["24:6F:28:AA:BB:CC", "24:6f:28:aa:bb:cc", "24-6f-28-aa-bb-cc", "246f.28aa.bbcc", "246F28AABBCC"] {
            assert_eq!(text.parse::<Mac>().unwrap().as_str(), "24:6F:28:AA:BB:CC", "{text}");
        }
        for text in
            ["", "24", "24:6F:28:AA:BB", "24:6F-28:AA:BB:CC", "24:6F:28:AA:BB:CG", "246F28AABBCCD", "24:6F:28:AA:BB:C€"]
        {
            assert_eq!(text.parse::<Mac>(), Err(MacError), "{text}");
        }
    }
}
