//! Code in the documents is quoted from files that tests run, or says why it is not run. Links lead to files and headings.

use std::collections::BTreeSet;
use std::fs;

use super::support::documents::{documents, root};

/// Languages of blocks that other tests check, or that are no programs.
const OTHER: [&str; 7] = ["graphql", "hocon", "json", "sql", "text", "toml", "yaml"];
/// The page whose shell commands are quoted too. Those of other pages are for operators.
const CLIENTS: &str = "docs/clients.md";

/// The lines of a text without their indentation, without empty ones.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// The first line of a paragraph of a quotation that is not in the file. The lines of a paragraph follow each other in the
/// file too, and paragraphs have the order of the file.
fn difference<'a>(quoted: &'a str, file: &str) -> Option<&'a str> {
    let file: Vec<_> = lines(file).collect();
    let mut rest = &file[..];
    for paragraph in quoted.split("\n\n") {
        let paragraph: Vec<_> = lines(paragraph).collect();
        let Some(first) = paragraph.first() else { continue };
        let Some(at) = rest.windows(paragraph.len()).position(|of_file| of_file == paragraph) else {
            return Some(first);
        };
        rest = &rest[at + paragraph.len()..];
    }
    None
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
                    wrong.extend(
                        difference(code, &file)
                            .map(|line| format!("{place}: this paragraph is not in the file: {line}")),
                    );
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
            let folder = root().join(path.parent().expect("a folder"));
            let file = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            let found = file.exists()
                && anchor.is_none_or(|anchor| anchors(&fs::read_to_string(&file).unwrap_or_default()).contains(anchor));
            if !found {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
