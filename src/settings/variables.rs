//! Readers of single variables.

use std::ops::RangeInclusive;

use super::{Secret, SettingsError, SettingsErrors, Source};

/// A struct with the values of these results, or all of their errors. Fields after a semicolon have values that can't fail.
macro_rules! all {
    ($type:ident { $($field:ident: $result:expr),+ $(,)? $(; $($plain:ident: $value:expr),+ $(,)?)? }) => {{
        let mut errors = Vec::new();
        $(let $field = $crate::settings::variables::value($result, &mut errors);)+
        match ($($field,)+) {
            ($(Some($field),)+) => Ok($type { $($field,)+ $($($plain: $value,)+)? }),
            _ => Err($crate::settings::SettingsErrors(errors)),
        }
    }};
}
pub(super) use all;

/// The value, or `None` with the errors added to the others.
pub(super) fn value<T>(result: Result<T, impl Into<SettingsErrors>>, errors: &mut Vec<SettingsError>) -> Option<T> {
    result.map_err(|error| errors.extend(error.into().0)).ok()
}

pub(super) fn bad(name: &str, problem: impl Into<String>) -> SettingsError {
    SettingsError { name: name.to_owned(), problem: problem.into() }
}

pub(super) fn required(source: &impl Source, name: &str) -> Result<String, SettingsError> {
    source.get(name).ok_or_else(|| bad(name, "missing"))
}

/// `NAME`, or the content of the file named by `NAME_FILE`, without trailing line breaks.
pub(super) fn secret(source: &impl Source, name: &str) -> Result<Option<Secret>, SettingsError> {
    let by_file = format!("{name}_FILE");
    match (source.get(name), source.get(&by_file)) {
        (Some(_), Some(_)) => Err(bad(name, format!("set either {name} or {by_file}, not both"))),
        (Some(value), None) => Ok(Some(Secret(value))),
        (None, Some(path)) => match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Err(bad(&by_file, "the file is empty")),
            Ok(text) => Ok(Some(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))),
            Err(error) => Err(bad(&by_file, format!("can't read {path}: {error}"))),
        },
        (None, None) => Ok(None),
    }
}

pub(super) fn required_secret(source: &impl Source, name: &str) -> Result<Secret, SettingsError> {
    secret(source, name)?.ok_or_else(|| bad(name, format!("missing (or name a file in {name}_FILE)")))
}

pub(super) fn number(
    source: &impl Source,
    name: &str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, SettingsError> {
    let Some(text) = source.get(name) else { return Ok(default) };
    text.parse()
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| bad(name, format!("expected a whole number from {} to {}", range.start(), range.end())))
}

/// A number that fits into 32 bits.
pub(super) fn small_number(
    source: &impl Source,
    name: &str,
    default: u32,
    range: RangeInclusive<u32>,
) -> Result<u32, SettingsError> {
    let wide = u64::from(*range.start())..=u64::from(*range.end());
    number(source, name, default.into(), wide).map(|value| u32::try_from(value).expect("bounded above"))
}

/// A variable with two values; the first of `values` is true.
pub(super) fn switch(
    source: &impl Source,
    name: &str,
    values: (&str, &str),
    default: bool,
) -> Result<bool, SettingsError> {
    let (on, off) = values;
    match source.get(name).as_deref() {
        None => Ok(default),
        Some(value) if value == on => Ok(true),
        Some(value) if value == off => Ok(false),
        Some(_) => Err(bad(name, format!("expected `{on}` or `{off}`"))),
    }
}
