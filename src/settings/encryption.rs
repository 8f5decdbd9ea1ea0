//! Settings of the keys that encrypt secrets in the database.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{SettingsError, SettingsErrors, Source, all, bad, secret};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// A key of AES-256. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey([u8; KEY_BYTES]);

/// The keys that encrypt secrets of device configurations.
#[derive(Debug, Clone, Default)]
pub struct EncryptionSettings {
    /// `ENCRYPTION_KEY`: encrypts and decrypts.
    pub key: Option<EncryptionKey>,
    /// `ENCRYPTION_KEY_PREVIOUS`: the previous key, which only decrypts.
    pub previous: Option<EncryptionKey>,
}

impl EncryptionKey {
    /// The key itself, for the one place that needs it.
    pub fn reveal(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn parse(name: &str, text: &str) -> Result<Self, SettingsError> {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        let problem = "expected 32 bytes in base64; make them with `openssl rand -base64 32`";
        bytes.map(Self).ok_or_else(|| bad(name, problem))
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl EncryptionSettings {
    pub fn read(source: &impl Source) -> Result<Self, SettingsErrors> {
        let [key, previous] = ["ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS"].map(|name| key(source, name));
        let previous = match (&key, previous) {
            (Ok(None), Ok(Some(_))) => Err(bad("ENCRYPTION_KEY_PREVIOUS", "set it together with ENCRYPTION_KEY")),
            (_, previous) => previous,
        };
        all!(Self { key: key, previous: previous })
    }
}

fn key(source: &impl Source, name: &str) -> Result<Option<EncryptionKey>, SettingsError> {
    secret(source, name)?.map(|text| EncryptionKey::parse(name, text.reveal())).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<EncryptionSettings, SettingsError> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        EncryptionSettings::read(&move |name: &str| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
            .map_err(|SettingsErrors(mut errors)| errors.remove(0))
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_and_debug_hides_it() {
        let good = STANDARD.encode([7; 32]);
        let settings = read(&[("ENCRYPTION_KEY", &good), ("ENCRYPTION_KEY_PREVIOUS", &good)]).unwrap();
        assert_eq!(settings.key.as_ref().unwrap().reveal(), &[7; 32]);
        assert_eq!(format!("{settings:?}").matches("[secret]").count(), 2);
        assert!(!format!("{settings:?}").contains('7'));
        assert!(read(&[]).unwrap().key.is_none());
        for wrong in ["canary", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33]), &"7".repeat(32)] {
            let error = read(&[("ENCRYPTION_KEY", wrong)]).unwrap_err();
            assert_eq!(error.name, "ENCRYPTION_KEY");
            assert!(!error.to_string().contains(wrong));
            let error = read(&[("ENCRYPTION_KEY", &good), ("ENCRYPTION_KEY_PREVIOUS", wrong)]).unwrap_err();
            assert_eq!(error.name, "ENCRYPTION_KEY_PREVIOUS");
        }
        assert_eq!(read(&[("ENCRYPTION_KEY_PREVIOUS", &good)]).unwrap_err().name, "ENCRYPTION_KEY_PREVIOUS");
    }
}
