//! The errors of a response as a client may see them.
//!
//! Invariants: each error has `extensions.code`; none repeats values of the request; together they are
//! bounded by a [`Bound`]; an error without a code from a feature reveals nothing about the server.

use async_graphql::ServerError;

use super::request_error::BAD_USER_INPUT;

/// How many errors one response may have.
struct Bound {
    errors: usize,
    /// The bytes of all errors, as JSON.
    bytes: usize,
}

/// For a request that is refused as a whole: the first errors say what is wrong.
const REQUEST_ERRORS: Bound = Bound { errors: 10, bytes: 3_800 };
/// For fields that failed: each null needs its error. A list of 500 devices may have two refused fields each.
const FIELD_ERRORS: Bound = Bound { errors: 1_000, bytes: 250_000 };
/// Most bytes of one error's message.
const MAX_MESSAGE_BYTES: usize = 400;
/// Most source positions of one error.
const MAX_LOCATIONS: usize = 4;

const INTERNAL: &str = "INTERNAL";

// Texts of the library. Its own types give errors without a code, so only the text shows that a value of the request is
// wrong. `the_library_still_uses_these_texts` runs the library to check them.
/// A value has the wrong type. The rest of the message repeats the value.
const EXPECTED_TYPE: &str = "Expected input type \"";
/// A scalar or an enum of the library refuses a value.
const FAILED_TO_PARSE: &str = "Failed to parse \"";

/// Makes the errors of the library and of resolvers fit to be sent.
pub(super) fn sanitize(errors: &mut Vec<ServerError>) {
    let is_of_fields = errors.iter().all(|error| !error.path.is_empty());
    let bound = if is_of_fields { FIELD_ERRORS } else { REQUEST_ERRORS };
    errors.truncate(bound.errors);
    errors.iter_mut().for_each(sanitize_one);
    let mut bytes_left = bound.bytes;
    let mut is_first = true;
    errors.retain_mut(|error| {
        let size = serde_json::to_vec(error).map_or(usize::MAX, |json| json.len());
        if size <= bytes_left {
            (bytes_left, is_first) = (bytes_left - size, false);
            return true;
        }
        bytes_left = 0;
        // Long names in the path can make the first error too large. It is sent without its path.
        error.path.clear();
        std::mem::take(&mut is_first)
    });
}

fn sanitize_one(error: &mut ServerError) {
    error.locations.truncate(MAX_LOCATIONS);
    hide_value(&mut error.message);
    if error.extensions.as_ref().and_then(|extensions| extensions.get("code")).is_none() {
        set_code(error);
    }
    if error.message.len() > MAX_MESSAGE_BYTES {
        let end = error.message.floor_char_boundary(MAX_MESSAGE_BYTES);
        error.message.truncate(end);
        error.message.push('…');
    }
}

/// Sets the code of an error of the library. Errors of resolvers and of our scalars already have one.
fn set_code(error: &mut ServerError) {
    // Errors of the request have no path. While executing, the library only refuses values.
    if error.path.is_empty() || is_about_input(&error.message) {
        error.extensions.get_or_insert_default().set("code", BAD_USER_INPUT);
    } else {
        tracing::error!(error = error.message, path = ?error.path, "a resolver failed without a code");
        error.message = "internal error".to_owned();
        error.extensions.get_or_insert_default().set("code", INTERNAL);
    }
}

/// Removes the value from `Expected input type "LoginInput", found …`. It may be a password in the wrong
/// place, and errors end up in logs.
fn hide_value(message: &mut String) {
    let Some(rest) = message.strip_prefix(EXPECTED_TYPE) else { return };
    if let Some((name, _)) = rest.split_once('"') {
        *message = format!("{EXPECTED_TYPE}{name}\".");
    }
}

fn is_about_input(message: &str) -> bool {
    [EXPECTED_TYPE, FAILED_TO_PARSE].iter().any(|text| message.starts_with(text))
}

#[cfg(test)]
mod tests {
    use async_graphql::{
        EmptyMutation, EmptySubscription, Enum, InputObject, Object, PathSegment, Schema, ValidationMode,
    };

    use super::*;

    fn failed(message: &str, path: &[&str]) -> ServerError {
        let path = path.iter().map(|name| PathSegment::Field((*name).to_owned())).collect();
        ServerError::new(message, None).with_path(path)
    }

    fn sanitized(error: ServerError) -> serde_json::Value {
        let mut errors = vec![error];
        sanitize(&mut errors);
        serde_json::to_value(&errors[0]).unwrap()
    }

    #[derive(Enum, Copy, Clone, PartialEq, Eq)]
    enum Color {
        Red,
    }

    #[derive(InputObject)]
    struct Lamp {
        name: String,
        level: Option<i32>,
    }

    struct Query;

    #[Object]
    impl Query {
        async fn lamp(&self, lamp: Lamp) -> String {
            format!("{} {:?}", lamp.name, lamp.level)
        }

        async fn color(&self, color: Color) -> bool {
            color == Color::Red
        }
    }

    #[tokio::test]
    async fn the_library_still_uses_these_texts() {
        let schema = Schema::build(Query, EmptyMutation, EmptySubscription);
        let schema = schema.validation_mode(ValidationMode::Fast).finish();
        for (query, text) in [
            ("{ lamp(lamp: {name: null}) }", EXPECTED_TYPE),
            ("{ lamp(lamp: {name: 7}) }", EXPECTED_TYPE),
            (r#"{ lamp(lamp: {name: "a", level: 99999999999}) }"#, FAILED_TO_PARSE),
            ("{ color(color: BLUE) }", FAILED_TO_PARSE),
        ] {
            let error = schema.execute(query).await.errors.remove(0);
            assert!(error.message.starts_with(text), "{query}: {}", error.message);
            assert_eq!(sanitized(error)["extensions"]["code"], BAD_USER_INPUT, "{query}");
        }
    }

    #[test]
    fn an_error_without_a_code_reveals_nothing() {
        let error = sanitized(failed("secret detail", &["me"]));
        assert_eq!((&error["message"], &error["extensions"]["code"]), (&"internal error".into(), &INTERNAL.into()));
    }

    #[test]
    fn an_error_does_not_repeat_the_value() {
        for path in [&[][..], &["login"]] {
            let text = r#"Expected input type "LoginInput", found "my password". (occurred while parsing "X")"#;
            let error = sanitized(failed(text, path));
            assert_eq!(error["message"], r#"Expected input type "LoginInput"."#);
            assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT");
        }
    }

    #[test]
    fn errors_are_bounded() {
        let long = "x".repeat(20_000);
        for (bound, mut errors) in [
            (REQUEST_ERRORS, (0..500).map(|_| failed(&long, &[])).collect::<Vec<_>>()),
            (REQUEST_ERRORS, vec![failed("ä".repeat(3000).as_str(), &[])]),
            (FIELD_ERRORS, (0..500).map(|_| failed("short", &[&long])).collect()),
            (FIELD_ERRORS, (0..9_000).map(|_| failed(&long, &["b"; 90])).collect()),
        ] {
            sanitize(&mut errors);
            let json = serde_json::to_vec(&errors).unwrap();
            assert!(json.len() <= bound.bytes + bound.errors + 2, "{} bytes", json.len());
            assert!(!errors.is_empty() && errors.len() <= bound.errors);
        }
    }

    #[test]
    fn every_refused_field_of_a_page_has_its_error() {
        let mut errors = (0..900).map(|_| failed("not allowed", &["devices", "nodes", "name"])).collect::<Vec<_>>();
        sanitize(&mut errors);
        assert_eq!(errors.len(), 900);
    }
}
