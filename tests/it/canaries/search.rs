//! Searches outputs of the server for secrets, in plain text and in common encodings.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Bytes shown around a finding.
const CONTEXT: usize = 160;
/// A shorter secret could be found by chance.
const MIN_BYTES: usize = 16;

/// A secret in all its encodings.
struct Canary {
    name: &'static str,
    value: String,
    encodings: Vec<(&'static str, Vec<u8>)>,
}

/// Something that the server has sent, logged or stored.
struct Output {
    name: String,
    content: Vec<u8>,
    /// Secrets that belong in this output.
    expected: Vec<String>,
}

/// Secrets, and the outputs that must not contain them.
#[derive(Default)]
pub(super) struct SecretSearch {
    canaries: Vec<Canary>,
    outputs: Vec<Output>,
}

/// The part of a secret that neither JSON nor URLs escape: the longest run of letters, digits, `-` and `_`. Of a JWT it
/// is the signature, because all tokens of one key begin alike.
fn unescaped_part(value: &str) -> &str {
    let value = if value.starts_with("eyJ") { value.rsplit('.').next().unwrap_or(value) } else { value };
    let runs = value.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
    runs.max_by_key(|run| run.len()).unwrap_or_default()
}

/// Bytes in base64 at each of the three alignments: the characters that do not depend on the bytes around them.
fn encoded(bytes: &[u8], engine: &impl Engine) -> Vec<Vec<u8>> {
    let aligned = (0..3).map(|before| {
        let text = engine.encode([&vec![0; before], bytes].concat()).into_bytes();
        let first = (before * 8).div_ceil(6);
        let last = (before + bytes.len()) * 8 / 6;
        text[first..last].to_vec()
    });
    aligned.collect()
}

fn hex(bytes: &[u8], upper: bool) -> Vec<u8> {
    let digits = bytes.iter().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") });
    digits.collect::<String>().into_bytes()
}

fn encodings(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut encodings = vec![("plain", bytes.to_vec()), ("hex", hex(bytes, false)), ("HEX", hex(bytes, true))];
    let numbers = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    encodings.push(("a list of numbers", numbers.join(", ").into_bytes()));
    encodings.push(("a list of numbers", numbers.join(",").into_bytes()));
    encodings.extend(encoded(bytes, &STANDARD).into_iter().map(|text| ("base64", text)));
    encodings.extend(encoded(bytes, &URL_SAFE).into_iter().map(|text| ("base64url", text)));
    encodings
}

impl SecretSearch {
    /// Adds a secret that is text. The search looks for its unescaped part, and for all of it in encodings of bytes.
    pub(super) fn add_secret(&mut self, name: &'static str, value: &str) {
        let mut encodings = self::encodings(unescaped_part(value).as_bytes());
        assert!(unescaped_part(value).len() >= MIN_BYTES, "{name}: {value:?} may be found by chance");
        encodings.extend(self::encodings(value.as_bytes()));
        self.canaries.push(Canary { name, value: value.to_owned(), encodings });
    }

    /// Adds a secret that is bytes, given as base64.
    pub(super) fn add_key(&mut self, name: &'static str, text: &str) {
        let mut encodings = self::encodings(&STANDARD.decode(text).expect("base64"));
        encodings.push(("as it is set", text.trim_end_matches('=').as_bytes().to_vec()));
        self.canaries.push(Canary { name, value: text.to_owned(), encodings });
    }

    /// Adds an output, with the secrets that belong in it.
    pub(super) fn add_output(&mut self, name: impl Into<String>, content: impl Into<Vec<u8>>, expected: Vec<String>) {
        self.outputs.push(Output { name: name.into(), content: content.into(), expected });
    }

    /// The number of secrets and of outputs.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.canaries.len(), self.outputs.len())
    }

    /// Every finding: the secret, its encoding, the output and the text around it.
    pub(super) fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for output in &self.outputs {
            let text = String::from_utf8_lossy(&output.content);
            for canary in self.canaries.iter().filter(|canary| !output.expected.contains(&canary.value)) {
                let found = canary
                    .encodings
                    .iter()
                    .find_map(|(encoding, bytes)| Some((encoding, position(&output.content, &text, bytes)?)));
                let Some((encoding, at)) = found else { continue };
                let around = &output.content[at.saturating_sub(CONTEXT)..(at + CONTEXT).min(output.content.len())];
                let around = String::from_utf8_lossy(around).replace('\n', "⏎");
                findings.push(format!("{} ({encoding}) in {}: …{around}…", canary.name, output.name));
            }
        }
        findings
    }
}

/// The position of bytes in an output. Text is searched by the standard library, which is faster than our windows.
fn position(content: &[u8], text: &str, wanted: &[u8]) -> Option<usize> {
    match std::str::from_utf8(wanted) {
        Ok(wanted) => text.find(wanted).map(|at| at.min(content.len())),
        Err(_) => content.windows(wanted.len()).position(|window| window == wanted),
    }
}

#[test]
fn a_secret_is_found_in_every_encoding() {
    const SECRET: &str = "k/\"+anaryAnaryAnary7\"";
    let json = serde_json::to_string(SECRET).expect("JSON");
    let url = percent_encoding::utf8_percent_encode(SECRET, percent_encoding::NON_ALPHANUMERIC).to_string();
    let around = |text: &str| format!("before {text} after").into_bytes();
    let outputs = [
        around(SECRET),
        around(&json),
        around(&url),
        around(&STANDARD.encode(SECRET)),
        around(&STANDARD.encode(around(SECRET))),
        around(&URL_SAFE.encode([b"x", SECRET.as_bytes()].concat())),
        around(&format!("{:?}", SECRET.as_bytes())),
        hex(&around(SECRET), false),
        around(&serde_json::to_string(SECRET.as_bytes()).expect("JSON")),
    ];
    for (n, output) in outputs.into_iter().enumerate() {
        let mut search = SecretSearch::default();
        search.add_secret("it", SECRET);
        search.add_output("here", output.clone(), vec![]);
        assert_eq!(search.findings().len(), 1, "output {n}");
        let mut search = SecretSearch::default();
        search.add_secret("it", SECRET);
        search.add_output("here", output, vec![SECRET.to_owned()]);
        search.add_output("there", around("kanaryAnaryAnary8"), vec![]);
        assert_eq!(search.findings(), Vec::<String>::new(), "output {n}");
    }
}
