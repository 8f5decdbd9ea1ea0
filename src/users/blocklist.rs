//! Long passwords that attackers try first: common passwords, repetitions, sequences of the alphabet or the
//! keyboard, and passwords made of the account's e-mail address or the product's name.

/// Common long passwords and the words they are made of, in lower case. A password that is one of them, with digits
/// and signs before or after it, is rejected.
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

/// Sequences of the alphabet and of keyboard rows.
const SEQUENCES: [&str; 9] = [
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

/// Fewest distinct characters of a password.
const MIN_DISTINCT: usize = 5;
/// Largest share of a password, in percent, that may be part of sequences.
const MAX_SEQUENCE_PERCENT: usize = 60;
/// Shortest part of an e-mail address that is searched for, in bytes.
const MIN_EMAIL_PART: usize = 4;

/// The reason to reject a password, if there is one.
pub(super) fn rejection(password: &str, email: &str) -> Option<&'static str> {
    let lower = password.to_lowercase();
    let chars: Vec<char> = lower.chars().collect();
    let distinct = chars.iter().collect::<std::collections::HashSet<_>>().len();
    if distinct < MIN_DISTINCT || repeats(&chars) {
        return Some("it repeats itself");
    }
    if n_in_sequences(&chars) * 100 > chars.len() * MAX_SEQUENCE_PERCENT {
        return Some("it follows the alphabet or the keyboard");
    }
    if lower.contains("smarthome") {
        return Some("it contains the name of this product");
    }
    let parts = email.split(['@', '.', '+', '-', '_']).filter(|part| part.len() >= MIN_EMAIL_PART);
    if lower.contains(email) && !email.is_empty() || is_made_of(&lower, parts) {
        return Some("it is made of the e-mail address");
    }
    let core = lower.trim_matches(|c: char| !c.is_alphabetic());
    if COMMON.contains(&core) || COMMON.contains(&lower.as_str()) {
        return Some("it is one of the most common passwords");
    }
    None
}

/// Whether the password repeats one short string, e.g. `abc1abc1abc1`.
fn repeats(chars: &[char]) -> bool {
    (1..=chars.len() / 2).any(|n| chars.iter().enumerate().all(|(at, c)| *c == chars[at % n]))
}

/// The number of characters in runs of at least four along a sequence, forwards or backwards.
fn n_in_sequences(chars: &[char]) -> usize {
    const MIN_RUN: usize = 4;
    let follows = |a: char, b: char| {
        SEQUENCES.iter().any(|row| {
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

/// Whether at most three letters remain without the parts of the e-mail address.
fn is_made_of<'a>(lower: &str, parts: impl Iterator<Item = &'a str>) -> bool {
    let mut rest = lower.to_owned();
    for part in parts {
        rest = rest.replace(part, "");
    }
    rest.len() < lower.len() && rest.chars().filter(|c| c.is_alphabetic()).count() < 4
}

#[cfg(test)]
mod tests {
    use super::rejection;

    const EMAIL: &str = "ann.lovelace@example.com";

    #[test]
    fn common_and_predictable_passwords_are_rejected() {
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
            assert!(rejection(known, EMAIL).is_some(), "{known}");
        }
    }

    #[test]
    fn passphrases_and_random_passwords_are_accepted() {
        for good in
            ["correct horse battery", "vier rote Lampen im Flur", "kX9#mQ2$vL7p", "lovelace wrote the first program"]
        {
            assert_eq!(rejection(good, EMAIL), None, "{good}");
        }
    }
}
