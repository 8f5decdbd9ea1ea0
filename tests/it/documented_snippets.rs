//! Code in the documents is quoted from files that tests run, or says why it is not run. Links lead to files and headings.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Languages of blocks that other tests check, or that are no programs.
const OTHER: [&str; 7] = ["graphql", "hocon", "json", "sql", "text", "toml", "yaml"];
/// The page whose shell commands are quoted too. Those of other pages are for operators.
const CLIENTS: &str = "docs/clients.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents, with their texts.
fn documents() -> Vec<(PathBuf, String)> {
    let listed =
        |folder: &str| fs::read_dir(root().join(folder)).expect("a folder").map(|entry| entry.expect("a file").path());
    let named = ["README.md", "SECURITY.md", "CHANGELOG.md", "bench/README.md", "examples/clients/README.md"];
    let paths = listed("docs").chain(named.map(|name| root().join(name)));
    let markdown = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    markdown.map(|path| (path.clone(), fs::read_to_string(&path).expect("UTF-8"))).collect()
}

/// The lines of a text without their indentation, without empty ones.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// The first line of a quotation that is not in the file, in the order of the file.
fn difference<'a>(quoted: &'a str, file: &str) -> Option<&'a str> {
    let mut rest = lines(file);
    lines(quoted).find(|line| !rest.any(|of_file| of_file == *line))
}

#[test]
fn code_is_quoted_from_files_that_run() {
    let (mut wrong, mut n_quoted) = (Vec::new(), 0);
    for (path, text) in documents() {
        let parts: Vec<_> = text.split("\n```").collect();
        for pair in parts.windows(2).step_by(2) {
            let (language, code) = pair[1].split_once('\n').unwrap_or_default();
            let is_of_operators = language == "sh" && !path.ends_with(CLIENTS);
            if language.is_empty() || OTHER.contains(&language) || is_of_operators {
                continue;
            }
            let comment = lines(pair[0]).last().unwrap_or_default();
            let said = |start: &str| comment.strip_prefix(start)?.strip_suffix(" -->");
            let place = format!("{}: {language} after {comment:?}", path.display());
            match (said("<!-- from "), said("<!-- not run: ")) {
                (Some(file), _) => {
                    n_quoted += 1;
                    let file = fs::read_to_string(root().join(file)).unwrap_or_default();
                    wrong.extend(difference(code, &file).map(|line| format!("{place}: not in the file: {line}")));
                }
                (None, Some(_reason)) => {}
                (None, None) => wrong.push(format!("{place}: say `from` which file it is, or why it is `not run`")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_quoted > 5, "only {n_quoted} quotations were found");
}

/// The anchors of a document's headings, as they are made from their texts.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        let prose: String = text.split("\n```").step_by(2).collect();
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.contains(' ') {
                continue;
            }
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let file = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let found = file.exists()
                && anchor.is_none_or(|anchor| anchors(&fs::read_to_string(&file).unwrap_or_default()).contains(anchor));
            if !found {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
