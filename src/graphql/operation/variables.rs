//! Coercion of variables (GraphQL specification, section 6.1.2), before anything runs.
//!
//! The rules are those of graphql-js 16: an Int may be written `1.0`, an ID may be an integer, a single value becomes a
//! list; nothing else is converted. Custom scalars accept every value here; their resolvers check it. Messages contain
//! no values.

use apollo_compiler::ast::Type;
use apollo_compiler::executable::{Name as TypeName, Operation};
use apollo_compiler::schema::{EnumType, ExtendedType, InputObjectType};
use async_graphql::{Name, Value, Variables};
use serde_json::Number;

use super::super::request_error::RequestError;
use super::super::validation::{Types, did_you_mean, position};
use super::literals::Literal;

/// Most problems that are collected. A response has fewer.
const MAX_PROBLEMS: usize = 20;
/// Longest name of a field that an error repeats, in bytes. Keys of objects are chosen by the client.
const MAX_KEY_BYTES: usize = 64;

struct Coercion<'a> {
    types: &'a Types,
    /// The variable, then fields and indexes inside its value.
    path: String,
    problems: Vec<RequestError>,
}

/// The values of an operation's variables by the given ones and the defaults. A variable without a value is absent.
pub(super) fn coerce(
    types: &Types,
    operation: &Operation,
    given: &Variables,
    sources: &apollo_compiler::parser::SourceMap,
) -> Result<Variables, RequestError> {
    let mut coerced = Variables::default();
    let mut coercion = Coercion { types, path: String::new(), problems: Vec::new() };
    for definition in &operation.variables {
        let name = definition.name.as_str();
        name.clone_into(&mut coercion.path);
        let n_problems = coercion.problems.len();
        let value = match (given.get(name), &definition.default_value) {
            (None, Some(default)) => Literal::coerce(types, &definition.ty, default).value(&Variables::default()),
            (None, None) if definition.ty.is_non_null() => {
                let message = format!("Variable \"${name}\" of required type \"{}\" was not provided.", definition.ty);
                coercion.problems.push(RequestError::parameter(name.to_owned(), message));
                None
            }
            (None, None) => None,
            (Some(Value::Null), _) if definition.ty.is_non_null() => {
                let message = format!("Variable \"${name}\" of non-null type \"{}\" must not be null.", definition.ty);
                coercion.problems.push(RequestError::parameter(name.to_owned(), message));
                None
            }
            (Some(value), _) => coercion.value(&definition.ty, value),
        };
        let position = position(sources, definition.location());
        for problem in &mut coercion.problems[n_problems..] {
            problem.position = position;
        }
        if let Some(value) = value {
            coerced.insert(Name::new(name), value);
        }
    }
    RequestError::first_of(coercion.problems).map_or(Ok(coerced), Err)
}

impl Coercion<'_> {
    fn value(&mut self, ty: &Type, value: &Value) -> Option<Value> {
        if self.problems.len() >= MAX_PROBLEMS {
            return None;
        }
        if *value == Value::Null {
            if ty.is_non_null() {
                return self.refuse(format!("Expected non-nullable type \"{ty}\" not to be null."));
            }
            return Some(Value::Null);
        }
        match ty {
            Type::List(item) | Type::NonNullList(item) => self.list(item, value),
            Type::Named(name) | Type::NonNullNamed(name) => match self.types.get(name) {
                Some(ExtendedType::InputObject(object)) => self.object(object, value),
                Some(ExtendedType::Enum(definition)) => self.enum_value(definition, value),
                _ => scalar(name, value).map_or_else(|message| self.refuse(message), Some),
            },
        }
    }

    fn list(&mut self, item: &Type, value: &Value) -> Option<Value> {
        let Value::List(items) = value else { return Some(Value::List(vec![self.value(item, value)?])) };
        let coerced = items.iter().enumerate().map(|(n, value)| self.below(&format!("[{n}]"), item, value));
        // All items are checked before one that failed ends the list.
        let coerced: Vec<Option<Value>> = coerced.collect();
        Some(Value::List(coerced.into_iter().collect::<Option<_>>()?))
    }

    fn object(&mut self, object: &InputObjectType, value: &Value) -> Option<Value> {
        let Value::Object(fields) = value else {
            return self.refuse(format!("Expected type \"{}\" to be an object.", object.name));
        };
        let mut coerced = async_graphql::indexmap::IndexMap::new();
        let n_problems = self.problems.len();
        for definition in object.fields.values() {
            let name = definition.name.as_str();
            match fields.get(name) {
                Some(value) => {
                    let value = self.below(&format!(".{name}"), &definition.ty, value);
                    coerced.extend(value.map(|value| (Name::new(name), value)));
                }
                None if definition.is_required() => {
                    let message = format!("Field \"{name}\" of required type \"{}\" was not provided.", definition.ty);
                    self.refuse_below(&format!(".{name}"), &message);
                }
                // The resolver's type has the default.
                None => {}
            }
        }
        for key in fields.keys().filter(|key| !object.fields.contains_key(key.as_str())) {
            self.undefined_field(object, key);
        }
        (self.problems.len() == n_problems).then_some(Value::Object(coerced))
    }

    fn undefined_field(&mut self, object: &InputObjectType, key: &str) {
        let is_name = key.len() <= MAX_KEY_BYTES
            && key.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            && !key.is_empty();
        let shown = if is_name { format!("Field \"{key}\"") } else { "A field".to_owned() };
        let suggestion = match self.types.suggestions && is_name {
            true => did_you_mean("", key, object.fields.keys().map(TypeName::as_str)),
            false => String::new(),
        };
        let _: Option<Value> = self.refuse(format!("{shown} is not defined by type \"{}\".{suggestion}", object.name));
    }

    fn enum_value(&mut self, definition: &EnumType, value: &Value) -> Option<Value> {
        let Value::String(given) = value else {
            return self.refuse(format!("Enum \"{}\" cannot represent non-string value.", definition.name));
        };
        if definition.values.contains_key(given.as_str()) {
            return Some(Value::Enum(Name::new(given)));
        }
        let suggestion = match self.types.suggestions && given.len() <= MAX_KEY_BYTES {
            true => did_you_mean("the enum value ", given, definition.values.keys().map(TypeName::as_str)),
            false => String::new(),
        };
        self.refuse(format!("Value does not exist in \"{}\" enum.{suggestion}", definition.name))
    }

    fn below(&mut self, step: &str, ty: &Type, value: &Value) -> Option<Value> {
        let length = self.path.len();
        self.path.push_str(step);
        let coerced = self.value(ty, value);
        self.path.truncate(length);
        coerced
    }

    fn refuse_below(&mut self, step: &str, reason: &str) {
        let length = self.path.len();
        let message = self.message(reason);
        self.path.push_str(step);
        self.push(message);
        self.path.truncate(length);
    }

    fn refuse<T>(&mut self, reason: impl AsRef<str>) -> Option<T> {
        let message = self.message(reason.as_ref());
        self.push(message);
        None
    }

    fn message(&self, reason: &str) -> String {
        let variable = self.path.split(['.', '[']).next().unwrap_or_default();
        let at = if self.path == variable { String::new() } else { format!(" at \"{}\"", self.path) };
        format!("Variable \"${variable}\" got invalid value{at}; {reason}")
    }

    fn push(&mut self, message: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(RequestError::parameter(self.path.clone(), message));
        }
    }
}

/// A value of a scalar, or why it is none.
fn scalar(scalar: &str, value: &Value) -> Result<Value, &'static str> {
    match (scalar, value) {
        ("Int", Value::Number(number)) => {
            let int = integer(number).ok_or("Int cannot represent non-integer value.")?;
            let int = i32::try_from(int).map_err(|_| "Int cannot represent non 32-bit signed integer value.")?;
            Ok(Value::from(int))
        }
        ("ID", Value::Number(number)) => {
            let text = match integer(number) {
                Some(int) => int.to_string(),
                None => return Err("ID cannot represent value."),
            };
            Ok(Value::String(text))
        }
        ("Float", Value::Number(_)) | ("String" | "ID", Value::String(_)) | ("Boolean", Value::Boolean(_)) => {
            Ok(value.clone())
        }
        ("Int", _) => Err("Int cannot represent non-integer value."),
        ("ID", _) => Err("ID cannot represent value."),
        ("Float", _) => Err("Float cannot represent non numeric value."),
        ("String", _) => Err("String cannot represent a non string value."),
        ("Boolean", _) => Err("Boolean cannot represent a non boolean value."),
        _ => Ok(value.clone()),
    }
}

/// A number without a fractional part, however it is written.
#[expect(clippy::cast_possible_truncation, reason = "an f64 without fraction fits, or saturates out of range")]
fn integer(number: &Number) -> Option<i128> {
    let int = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    int.or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i128))
}
