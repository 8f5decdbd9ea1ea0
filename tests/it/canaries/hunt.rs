//! Looking for secrets where none may be, in every dress they may wear.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Bytes around what was found that are shown.
const CONTEXT: usize = 160;
/// Shortest secret that is never found by chance.
const MIN_BYTES: usize = 16;

/// A secret and what it looks like in other dress.
struct Canary {
    name: &'static str,
    value: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

/// Where secrets were looked for.
struct Place {
    name: String,
    content: Vec<u8>,
    /// What was given here on purpose, and may stand in no other place.
    given: Vec<String>,
}

/// Secrets, and places where they may have got to.
#[derive(Default)]
pub(super) struct Hunt {
    canaries: Vec<Canary>,
    places: Vec<Place>,
}

/// What neither JSON nor URLs change: the longest run of letters, digits, `-` and `_`. Of a JWT the signature:
/// all that one key has signed begin alike.
fn core(value: &str) -> &str {
    let value = if value.starts_with("eyJ") { value.rsplit('.').next().unwrap_or(value) } else { value };
    let runs = value.split(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
    runs.max_by_key(|run| run.len()).unwrap_or_default()
}

/// Bytes in base64 wherever they stand in what was encoded: the characters that don't depend on what is
/// around them.
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

fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![("plain", bytes.to_vec()), ("hex", hex(bytes, false)), ("HEX", hex(bytes, true))];
    let numbers = bytes.iter().map(u8::to_string).collect::<Vec<_>>();
    forms.push(("a list of numbers", numbers.join(", ").into_bytes()));
    forms.push(("a list of numbers", numbers.join(",").into_bytes()));
    forms.extend(encoded(bytes, &STANDARD).into_iter().map(|form| ("base64", form)));
    forms.extend(encoded(bytes, &URL_SAFE).into_iter().map(|form| ("base64url", form)));
    forms
}

impl Hunt {
    /// A secret of text. Its longest run of letters and digits is looked for, because URLs and JSON leave
    /// that as it is, and the whole of it in forms that keep no letters.
    pub(super) fn secret(&mut self, name: &'static str, value: &str) {
        let mut looks = forms(core(value).as_bytes());
        assert!(core(value).len() >= MIN_BYTES, "{name}: {value:?} may be found by chance");
        looks.extend(forms(value.as_bytes()));
        self.canaries.push(Canary { name, value: value.to_owned(), forms: looks });
    }

    /// A secret that is bytes, written as base64.
    pub(super) fn key(&mut self, name: &'static str, text: &str) {
        let mut looks = forms(&STANDARD.decode(text).expect("base64"));
        looks.push(("as it is set", text.trim_end_matches('=').as_bytes().to_vec()));
        self.canaries.push(Canary { name, value: text.to_owned(), forms: looks });
    }

    /// A place, and what is given there on purpose.
    pub(super) fn place(&mut self, name: impl Into<String>, content: impl Into<Vec<u8>>, given: Vec<String>) {
        self.places.push(Place { name: name.into(), content: content.into(), given });
    }

    /// How many secrets there are, and in how many places they are looked for.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.canaries.len(), self.places.len())
    }

    /// Every find: which secret, where, how it looked, and what stood around it.
    pub(super) fn finds(&self) -> Vec<String> {
        let mut finds = Vec::new();
        for place in &self.places {
            let text = String::from_utf8_lossy(&place.content);
            for canary in self.canaries.iter().filter(|canary| !place.given.contains(&canary.value)) {
                let found =
                    canary.forms.iter().find_map(|(form, bytes)| Some((form, position(&place.content, &text, bytes)?)));
                let Some((form, at)) = found else { continue };
                let around = &place.content[at.saturating_sub(CONTEXT)..(at + CONTEXT).min(place.content.len())];
                let around = String::from_utf8_lossy(around).replace('\n', "⏎");
                finds.push(format!("{} ({form}) in {}: …{around}…", canary.name, place.name));
            }
        }
        finds
    }
}

/// Where bytes stand in what is text, or nearly: the library finds text faster than we find bytes.
fn position(content: &[u8], text: &str, wanted: &[u8]) -> Option<usize> {
    match std::str::from_utf8(wanted) {
        Ok(wanted) => text.find(wanted).map(|at| at.min(content.len())),
        Err(_) => content.windows(wanted.len()).position(|window| window == wanted),
    }
}

#[test]
fn a_secret_is_found_in_any_dress() {
    const SECRET: &str = "k/\"+anaryAnaryAnary7\"";
    let json = serde_json::to_string(SECRET).expect("JSON");
    let url = percent_encoding::utf8_percent_encode(SECRET, percent_encoding::NON_ALPHANUMERIC).to_string();
    let around = |text: &str| format!("before {text} after").into_bytes();
    let dresses = [
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
    for (n, dress) in dresses.into_iter().enumerate() {
        let mut hunt = Hunt::default();
        hunt.secret("it", SECRET);
        hunt.place("here", dress.clone(), vec![]);
        assert_eq!(hunt.finds().len(), 1, "dress {n}");
        let mut hunt = Hunt::default();
        hunt.secret("it", SECRET);
        hunt.place("here", dress, vec![SECRET.to_owned()]);
        hunt.place("there", around("kanaryAnaryAnary8"), vec![]);
        assert_eq!(hunt.finds(), Vec::<String>::new(), "dress {n}");
    }
}
