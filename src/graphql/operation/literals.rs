//! Coercion of literals in a valid document (GraphQL specification, section 3): a single value becomes a list, an ID is
//! text. Variables inside stay until their values are known.

use std::collections::HashMap;

use apollo_compiler::Node;
use apollo_compiler::ast::{self, Type};
use apollo_compiler::schema::ExtendedType;
use async_graphql::{Name, Number, Value, Variables};

use super::super::validation::Types;

/// The memory of the values of variables, in bytes.
pub(super) type VariableBytes = HashMap<Name, usize>;

/// Approximate memory of one value without its text.
const VALUE_BYTES: usize = 64;

/// Approximate memory of a value, in bytes.
pub(super) fn value_bytes(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::List(items) => items.iter().map(value_bytes).sum(),
            Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum(),
            _ => 0,
        }
}

/// A literal of the document.
pub(super) enum Literal {
    Constant(Value),
    Variable(Name),
    /// With a variable inside.
    List(Vec<Literal>),
    /// With a variable inside.
    Object(Vec<(Name, Literal)>),
}

impl Literal {
    /// A literal for an argument of that type.
    pub(super) fn coerce(types: &Types, ty: &Type, value: &Node<ast::Value>) -> Self {
        match (&**value, ty) {
            (ast::Value::Variable(name), _) => Self::Variable(Name::new(name)),
            (ast::Value::Null, _) => Self::Constant(Value::Null),
            (ast::Value::List(items), Type::List(item) | Type::NonNullList(item)) => {
                Self::list(items.iter().map(|value| Self::coerce(types, item, value)).collect())
            }
            (_, Type::List(item) | Type::NonNullList(item)) => Self::list(vec![Self::coerce(types, item, value)]),
            (_, Type::Named(name) | Type::NonNullNamed(name)) => match (&**value, types.get(name)) {
                (ast::Value::Object(fields), Some(ExtendedType::InputObject(object))) => {
                    let coerced = fields.iter().filter_map(|(name, value)| {
                        let definition = object.fields.get(name)?;
                        Some((Name::new(name), Self::coerce(types, &definition.ty, value)))
                    });
                    Self::object(coerced.collect())
                }
                (ast::Value::Int(int), _) if name == "ID" => Self::Constant(Value::from(int.as_str())),
                _ => Self::untyped(value),
            },
        }
    }

    /// A literal for a scalar or an enum.
    fn untyped(value: &ast::Value) -> Self {
        Self::Constant(match value {
            ast::Value::Variable(name) => return Self::Variable(Name::new(name)),
            ast::Value::List(items) => return Self::list(items.iter().map(|value| Self::untyped(value)).collect()),
            ast::Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (Name::new(name), Self::untyped(value)));
                return Self::object(fields.collect());
            }
            ast::Value::Null => Value::Null,
            ast::Value::Enum(name) => Value::Enum(Name::new(name)),
            ast::Value::String(text) => Value::String(text.clone()),
            ast::Value::Boolean(value) => Value::Boolean(*value),
            ast::Value::Int(int) => number(int.as_str()),
            ast::Value::Float(float) => number(float.as_str()),
        })
    }

    fn list(items: Vec<Self>) -> Self {
        let constants = items.iter().map(|item| item.constant().cloned()).collect::<Option<Vec<_>>>();
        constants.map_or(Self::List(items), |items| Self::Constant(Value::List(items)))
    }

    fn object(fields: Vec<(Name, Self)>) -> Self {
        let constants = fields.iter().map(|(name, value)| Some((name.clone(), value.constant()?.clone())));
        match constants.collect() {
            Some(fields) => Self::Constant(Value::Object(fields)),
            None => Self::Object(fields),
        }
    }

    fn constant(&self) -> Option<&Value> {
        match self {
            Self::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// Approximate memory of the value, with the values of the variables, in bytes.
    pub(super) fn bytes(&self, variables: &VariableBytes) -> usize {
        match self {
            Self::Constant(value) => value_bytes(value),
            Self::Variable(name) => variables.get(name).copied().unwrap_or(VALUE_BYTES),
            Self::List(items) => items.iter().fold(VALUE_BYTES, |sum, item| sum.saturating_add(item.bytes(variables))),
            Self::Object(fields) => fields
                .iter()
                .fold(VALUE_BYTES, |sum, (name, value)| sum.saturating_add(name.len() + value.bytes(variables))),
        }
    }

    /// The value, with the values of the variables. An absent variable is absent in an object and null in a list.
    pub(super) fn value(&self, variables: &Variables) -> Option<Value> {
        Some(match self {
            Self::Constant(value) => value.clone(),
            Self::Variable(name) => variables.get(name)?.clone(),
            Self::List(items) => {
                Value::List(items.iter().map(|item| item.value(variables).unwrap_or_default()).collect())
            }
            Self::Object(fields) => {
                let given = |(name, value): &(Name, Self)| Some((name.clone(), value.value(variables)?));
                Value::Object(fields.iter().filter_map(given).collect())
            }
        })
    }
}

/// A number too large for a float is null, as in the JSON of JavaScript.
fn number(text: &str) -> Value {
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}
