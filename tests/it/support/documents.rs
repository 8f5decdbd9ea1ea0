//! The documents of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Markdown files for readers, by their path in the repository, with their texts.
pub fn documents() -> Vec<(PathBuf, String)> {
    let listed = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let is_markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let examples = listed("examples").into_iter().map(|example| example.join("README.md")).filter(|path| path.exists());
    let named = ["README.md", "SECURITY.md", "CHANGELOG.md", "bench/README.md"].map(|name| root().join(name));
    let paths = listed("docs").into_iter().filter(is_markdown).chain(examples).chain(named);
    let in_repository = |path: &Path| path.strip_prefix(root()).expect("in the repository").to_owned();
    paths.map(|path| (in_repository(&path), fs::read_to_string(&path).expect("UTF-8"))).collect()
}
