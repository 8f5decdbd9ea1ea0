//! Passwords of 12 characters and more that guessers try first: the well-known ones, repetitions,
//! runs along the alphabet or the keyboard, and what contains the account's own name or ours.

/// The commonest long passwords, in lower case, and the words they are made of: a password that is one
/// of these, with digits and signs around it, is refused.
const COMMON: [&str; 124] = [
    "password",
    "passwort",
    "passw0rd",
    "p@ssword",
    "p@ssw0rd",
    "pa$$word",
    "pa$$w0rd",
    "passwordpassword",
    "password1password",
    "passwordpassword1",
    "mypassword",
    "thisismypassword",
    "thisisapassword",
    "changeme",
    "changemenow",
    "changemeplease",
    "letmein",
    "letmeinnow",
    "letmeinplease",
    "welcome",
    "welcomehome",
    "welcomeback",
    "iloveyou",
    "iloveyouforever",
    "iloveyousomuch",
    "ilovemyfamily",
    "ilovemymom",
    "iloveyoubaby",
    "administrator",
    "administrator1",
    "adminadmin",
    "adminadminadmin",
    "adminpassword",
    "rootpassword",
    "rootroot",
    "rootrootroot",
    "supersecret",
    "topsecret",
    "secretpassword",
    "mysecretpassword",
    "secret",
    "secretsecret",
    "trustno1",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "basketball",
    "superman",
    "batman",
    "spiderman",
    "starwars",
    "pokemon",
    "liverpool",
    "liverpoolfc",
    "manchester",
    "manchesterunited",
    "chelseafc",
    "arsenalfc",
    "barcelona",
    "fcbarcelona",
    "realmadrid",
    "juventus",
    "michael",
    "michaeljordan",
    "jessica",
    "jennifer",
    "charlie",
    "chocolate",
    "butterfly",
    "blink182",
    "computer",
    "internet",
    "whatever",
    "wateverwatever",
    "dragon",
    "dragonball",
    "dragonballz",
    "monkey",
    "shadow",
    "master",
    "masterkey",
    "masterpassword",
    "qwerty",
    "qwertyqwerty",
    "azerty",
    "azertyuiop",
    "qwertz",
    "correcthorsebatterystaple",
    "correcthorse",
    "batterystaple",
    "hellohello",
    "helloworld",
    "helloworld1",
    "goodmorning",
    "jesuschrist",
    "jesusislord",
    "jesuslovesme",
    "godisgood",
    "blessed",
    "trustingod",
    "fuckyou",
    "fuckyoufuckyou",
    "testtest",
    "testtesttest",
    "testpassword",
    "testing",
    "testaccount",
    "temporary",
    "temporarypassword",
    "default",
    "defaultpassword",
    "guestguest",
    "guestpassword",
    "raspberry",
    "raspberrypi",
    "mosquitto",
    "homeassistant",
    "internetofthings",
    "openhab",
    "esp32esp32",
    "arduino",
    "wifipassword",
    "unknownunknown",
];

/// Rows along which fingers walk.
const RUNS: [&str; 9] = [
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
];

/// Distinct characters below which a password is a repetition.
const MIN_DISTINCT: usize = 5;
/// Share of a password, in percent, that may come from walking along a row.
const MAX_RUN_PERCENT: usize = 60;
/// Shortest part of an e-mail address worth looking for.
const MIN_PART: usize = 4;

/// Why a password is refused, or `None`.
pub(super) fn refuse(password: &str, email: &str) -> Option<&'static str> {
    let lower = password.to_lowercase();
    let chars: Vec<char> = lower.chars().collect();
    let distinct = chars.iter().collect::<std::collections::HashSet<_>>().len();
    if distinct < MIN_DISTINCT || repeats(&chars) {
        return Some("it repeats itself");
    }
    if walked(&chars) * 100 > chars.len() * MAX_RUN_PERCENT {
        return Some("it runs along the alphabet or the keyboard");
    }
    if lower.contains("smarthome") {
        return Some("it contains the name of this product");
    }
    let parts = email.split(['@', '.', '+', '-', '_']).filter(|part| part.len() >= MIN_PART);
    if lower.contains(email) && !email.is_empty() || covered(&lower, parts) {
        return Some("it is made of the e-mail address");
    }
    let core = lower.trim_matches(|c: char| !c.is_alphabetic());
    if COMMON.contains(&core) || COMMON.contains(&lower.as_str()) {
        return Some("it is one of the commonest passwords");
    }
    None
}

/// Whether the password is one short piece again and again, e.g. `abc1abc1abc1`.
fn repeats(chars: &[char]) -> bool {
    (1..=chars.len() / 2).any(|n| chars.iter().enumerate().all(|(at, c)| *c == chars[at % n]))
}

/// Characters that stand in a step of at least four along one row, either way.
fn walked(chars: &[char]) -> usize {
    const MIN_RUN: usize = 4;
    let follows = |a: char, b: char| {
        RUNS.iter().any(|row| {
            row.as_bytes().windows(2).any(|pair| {
                let pair = (char::from(pair[0]), char::from(pair[1]));
                pair == (a, b) || pair == (b, a)
            })
        })
    };
    let (mut total, mut start) = (0, 0);
    for at in 1..=chars.len() {
        if at == chars.len() || !follows(chars[at - 1], chars[at]) {
            if at - start >= MIN_RUN {
                total += at - start;
            }
            start = at;
        }
    }
    total
}

/// Whether parts of the e-mail make up most of the letters of the password.
fn covered<'a>(lower: &str, parts: impl Iterator<Item = &'a str>) -> bool {
    let mut rest = lower.to_owned();
    for part in parts {
        rest = rest.replace(part, "");
    }
    rest.len() < lower.len() && rest.chars().filter(|c| c.is_alphabetic()).count() < 4
}

#[cfg(test)]
mod tests {
    use super::refuse;

    const EMAIL: &str = "ann.lovelace@example.com";

    #[test]
    fn what_guessers_try_first_is_refused() {
        for known in [
            "password123456",
            "P@ssw0rd!2024",
            "1234567890123",
            "abcdefghijklmn",
            "qwertyuiop123",
            "aaaaaaaaaaaa",
            "abc1abc1abc1",
            "iloveyou!!!!!",
            "Administrator1!",
            "smarthome2026!",
            "ann.lovelace@example.com",
            "lovelace12345",
            "Example!2026!!",
            "1qaz2wsx3edc",
            "poiuytrewq09",
            "correcthorsebatterystaple",
        ] {
            assert!(refuse(known, EMAIL).is_some(), "{known}");
        }
    }

    #[test]
    fn a_passphrase_is_welcome() {
        for good in
            ["correct horse battery", "vier rote Lampen im Flur", "kX9#mQ2$vL7p", "lovelace wrote the first program"]
        {
            assert_eq!(refuse(good, EMAIL), None, "{good}");
        }
    }
}
