//! `docs/errors.md` is made from the tables in the code, and the tables have every code that the code uses.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use smarthome::error::codes::{CODES, REASONS};
use smarthome::http::close_codes;

const INTRODUCTION: &str = "# Errors

This document is made from `src/error/codes.rs` and `src/http/socket/close.rs`; a test compares it with them.

Every error has a stable `extensions.code`. Messages are for people and may change. An error with a `path` belongs to that field:
the rest of `data` is valid, and the HTTP status is 200. An error without a `path` refuses the whole request, and nothing was
executed. With `Accept: application/graphql-response+json` such a response has the status of the table; with `application/json` a
well-formed request that is refused as BAD_USER_INPUT, FORBIDDEN or PERSISTED_QUERY_NOT_FOUND has the status 200, as older clients
expect. An error has the media type that the client accepts; a request for a stream (SSE, multipart) that is refused before the stream
begins, as with a bad token, gets `application/json`.

A stream that the server ends says why in its last event, then completes: with `error`, or with `next` that has `errors` and
`complete` (`graphql-transport-ws`), with the same names of the older protocol (`graphql-ws`), with a last `next` event and
`complete` (SSE), with a last part and the closing delimiter (multipart). When the server stops, sockets close with 1001, and SSE
and multipart are cut off without an end: connect again.

";

fn render() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("## Codes\n\n| `code` | meaning | HTTP status | close code | retry | what to do | fields |\n|---|---|---|---|---|---|---|\n");
    for code in &CODES {
        let (name, meaning, status) = (code.name, code.meaning, code.http_status);
        let (close, retry, advice, fields) = (code.close_code, code.retry, code.advice, code.fields);
        writeln!(text, "| `{name}` | {meaning} | {status} | {close} | {retry} | {advice} | {fields} |").expect("text");
    }
    text.push_str("\n## Reasons of UNAUTHENTICATED\n\n| `reason` | meaning | what to do |\n|---|---|---|\n");
    for reason in &REASONS {
        writeln!(text, "| `{}` | {} | {} |", reason.name, reason.meaning, reason.advice).expect("text");
    }
    text.push_str("\n## Close codes of sockets\n\n| code | reason | what to do |\n|---|---|---|\n");
    for (code, reason, advice) in close_codes() {
        writeln!(text, "| {code} | {reason} | {advice} |").expect("text");
    }
    text
}

#[test]
fn the_errors_document_matches_the_code() {
    let text = render();
    if include_str!("../../docs/errors.md") != text {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("errors.md");
        std::fs::write(&file, text).expect("the file is written");
        panic!("docs/errors.md is out of date: `cp {} docs/errors.md`", file.display());
    }
}

/// The sources of the edges, in which codes are text.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.join("http"), root.join("graphql")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => sources.extend(std::fs::read_to_string(&path)),
            }
        }
    }
    sources
}

#[test]
fn every_code_that_is_sent_is_in_the_table() {
    let mut used = BTreeSet::new();
    for source in sources() {
        for call in ["RequestError::new(", "Self::new(", "problem(", "problem_in("] {
            for (at, _) in source.match_indices(call) {
                let arguments = &source[at..source.floor_char_boundary(at + 160)];
                // Without the last part, which may be cut.
                let mut parts: Vec<&str> = arguments.split('"').collect();
                parts.pop();
                used.extend(parts.into_iter().skip(1).step_by(2).filter(|text| is_code(text)).map(str::to_owned));
            }
        }
    }
    assert!(used.len() > 8, "{used:?}");
    for code in used {
        assert!(CODES.iter().any(|known| known.name == code), "{code} is not in the table");
    }
}

fn is_code(text: &str) -> bool {
    text.len() > 5 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}
