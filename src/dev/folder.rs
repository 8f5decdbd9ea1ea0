//! The folder in which `dev` keeps its data. One process uses it at a time; secrets are readable by their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::settings::Secret;

/// Files that a reset removes besides the database.
const RESETTABLE: [&str; 6] = ["broker", "dev.json", "jwt-secret", "encryption-key", "demo-password", "devices.json"];

/// `.smarthome`, locked by this process.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates the folder if it is missing and locks it until the process ends.
    pub(super) fn lock(path: &Path) -> anyhow::Result<Self> {
        // Others may enter but not list it: under root, PostgreSQL runs as another user.
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .with_context(|| format!("create {}", path.display()))?;
        let path = fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?;
        // Keeps it out of the surrounding repository.
        let ignore = path.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").with_context(|| format!("write {}", ignore.display()))?;
        }
        let lock = File::create(path.join("lock")).with_context(|| format!("lock {}", path.display()))?;
        if lock.try_lock().is_err() {
            bail!("`smarthome dev` already runs here, see {}; stop it first", path.join("dev.json").display());
        }
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes everything in it.
    pub(super) fn reset(&self) -> anyhow::Result<()> {
        super::postgres::remove(&self.path)?;
        for name in RESETTABLE {
            self.remove(name)?;
        }
        Ok(())
    }

    /// Removes a file or folder that may be absent.
    pub(super) fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.file(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// A random secret of 192 bits, created at the first call and kept.
    pub(super) fn secret(&self, name: &str) -> anyhow::Result<Secret> {
        self.stored_or(name, random_secret)
    }

    /// A random key of 256 bits in base64, created at the first call and kept.
    pub(super) fn key(&self, name: &str) -> anyhow::Result<Secret> {
        self.stored_or(name, || {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).context("the system's random source")?;
            Ok(Secret::new(STANDARD.encode(bytes)))
        })
    }

    fn stored_or(&self, name: &str, make: impl FnOnce() -> anyhow::Result<Secret>) -> anyhow::Result<Secret> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim_end().len() >= 32 => return Ok(Secret::new(text.trim_end())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("read {}", path.display()));
            }
            _ => {}
        }
        let secret = make()?;
        self.write(name, format!("{}\n", secret.reveal()).as_bytes())?;
        Ok(secret)
    }

    /// What [`Folder::write_json`] wrote, if it exists and can be parsed.
    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.file(name)).ok()?).ok()
    }

    /// Writes JSON for scripts to read.
    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        self.write(name, &text)
    }

    /// Replaces the file at once; readable by its owner only.
    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let new = self.file(&format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, self.file(name))
        };
        write().with_context(|| format!("write {}", self.file(name).display()))
    }
}

/// 192 bits, in letters, digits, `-` and `_`.
pub(super) fn random_secret() -> anyhow::Result<Secret> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).context("the system's random source")?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_process_is_refused_and_secrets_stay() {
        let path = std::env::temp_dir().join(format!("smarthome-folder-{}", std::process::id()));
        let folder = Folder::lock(&path).unwrap();
        let refused = Folder::lock(&path).err().unwrap().to_string();
        assert!(refused.contains("already runs"), "{refused}");
        let secret = folder.secret("jwt-secret").unwrap();
        assert_eq!(secret, folder.secret("jwt-secret").unwrap());
        let mode = fs::metadata(folder.file("jwt-secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        folder.remove("jwt-secret").unwrap();
        folder.remove("jwt-secret").unwrap();
        assert_ne!(secret, folder.secret("jwt-secret").unwrap());
        fs::remove_dir_all(path).unwrap();
    }
}
