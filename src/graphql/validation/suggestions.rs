//! "Did you mean …?", with the distance and the texts of graphql-js.

use std::fmt::Write;

/// Most suggestions of one message.
const MAX_SUGGESTIONS: usize = 5;

/// ` Did you mean "a" or "b"?`, or nothing if no option resembles the input. `kind` stands before the options.
pub(in crate::graphql) fn did_you_mean<'a>(
    kind: &str,
    input: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> String {
    let threshold = input.len() * 2 / 5 + 1;
    let measured = options.into_iter().filter_map(|option| Some((distance(input, option, threshold)?, option)));
    let mut similar: Vec<(usize, &str)> = measured.collect();
    similar.sort_unstable();
    similar.truncate(MAX_SUGGESTIONS);
    let mut text = String::new();
    for (n, (_, option)) in similar.iter().enumerate() {
        let before = match (n, similar.len() - n) {
            (0, _) => " Did you mean ",
            (1, 1) => " or ",
            (_, 1) => ", or ",
            _ => ", ",
        };
        let kind = if n == 0 { kind } else { "" };
        write!(text, "{before}{kind}\"{option}\"").expect("a string can be written");
    }
    if !text.is_empty() {
        text.push('?');
    }
    text
}

/// The number of edits between two names without regard to case: insert, delete, replace, or swap two neighbours. Names
/// that differ only in case have distance 1. `None` above the threshold.
fn distance(input: &str, option: &str, threshold: usize) -> Option<usize> {
    if input == option {
        return Some(0);
    }
    let (a, b) = (input.to_lowercase().into_bytes(), option.to_lowercase().into_bytes());
    if a == b {
        return Some(1);
    }
    if a.len().abs_diff(b.len()) > threshold {
        return None;
    }
    let mut rows = [vec![0; b.len() + 1], vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        rows[2][0] = i;
        for j in 1..=b.len() {
            let replaced = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut cell = replaced.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cell = cell.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = cell;
        }
    }
    Some(rows[2][b.len()]).filter(|distance| *distance <= threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_suggested_the_nearest_first() {
        for (input, options, expected) in [
            ("nmae", &["name", "id"][..], " Did you mean \"name\"?"),
            ("NAME", &["name"], " Did you mean \"name\"?"),
            ("hom", &["homes", "room", "home", "hot"], " Did you mean \"home\", \"hot\", \"homes\", or \"room\"?"),
            ("ab", &["abc", "abd"], " Did you mean \"abc\" or \"abd\"?"),
            ("temperature", &["id"], ""),
            ("x", &["aa", "bbb"], ""),
        ] {
            assert_eq!(did_you_mean("", input, options.iter().copied()), expected, "{input}");
        }
        assert_eq!(did_you_mean("the enum value ", "LIGTH", ["LIGHT"]), " Did you mean the enum value \"LIGHT\"?");
    }
}
