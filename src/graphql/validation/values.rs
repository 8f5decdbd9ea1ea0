//! Values of arguments and of variables' defaults: values of correct type, unique input fields, variables that are
//! defined and in allowed positions (specification, sections 5.6, 5.8.3 and 5.8.5).

use std::collections::HashSet;

use apollo_compiler::ast::{InputValueDefinition, Type, Value};
use apollo_compiler::executable::{Argument, DirectiveList, Name, Operation, Selection, SelectionSet};
use apollo_compiler::parser::SourceSpan;
use apollo_compiler::schema::{EnumType, ExtendedType};
use apollo_compiler::{ExecutableDocument, Node};

use super::{Problems, Types, did_you_mean};

/// Longest path of an argument that an error names, in bytes.
const MAX_PATH_BYTES: usize = 100;

/// What a position expects.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// `None` in an argument that does not exist, and inside an object of a custom scalar.
    ty: Option<&'a Type>,
    /// Accepts null even if `ty` does not: the items of a list that is given to a custom scalar.
    nullable: bool,
    has_default: bool,
    /// Whether the value must have the type. Not inside a value of a custom scalar.
    checked: bool,
}

impl<'a> Place<'a> {
    const UNKNOWN: Self = Self { ty: None, nullable: true, has_default: false, checked: false };

    fn of(definition: Option<&'a Node<InputValueDefinition>>) -> Self {
        definition.map_or(Self::UNKNOWN, |definition| Self {
            has_default: definition.default_value.is_some(),
            ..Self::typed(&definition.ty)
        })
    }

    fn typed(ty: &'a Type) -> Self {
        Self { ty: Some(ty), nullable: false, has_default: false, checked: true }
    }

    fn is_list(&self) -> bool {
        self.ty.is_some_and(Type::is_list)
    }

    fn item(self) -> Self {
        match self.ty {
            Some(Type::List(item) | Type::NonNullList(item)) => {
                Self { ty: Some(item), nullable: false, has_default: false, ..self }
            }
            _ => Self { nullable: true, has_default: false, checked: false, ..self },
        }
    }
}

struct Usage<'a> {
    name: &'a Name,
    place: Place<'a>,
    location: Option<SourceSpan>,
}

struct Walk<'a, 'p> {
    types: &'a Types,
    document: &'a ExecutableDocument,
    problems: &'p mut Problems,
    visited: HashSet<&'a Name>,
    used: Vec<Usage<'a>>,
    /// The argument and the input fields that lead to the value.
    path: Vec<&'a str>,
}

/// Checks all values of one operation and of its fragments.
pub(super) fn check<'a>(
    types: &'a Types,
    document: &'a ExecutableDocument,
    operation: &'a Operation,
    problems: &mut Problems,
) {
    let mut walk = Walk { types, document, problems, visited: HashSet::new(), used: Vec::new(), path: Vec::new() };
    for variable in &operation.variables {
        if let Some(default) = &variable.default_value {
            walk.path = vec![variable.name.as_str()];
            walk.value(default, Place::typed(&variable.ty));
        }
    }
    walk.path.clear();
    walk.directives(&operation.directives);
    walk.selections(&operation.selection_set);
    let used = std::mem::take(&mut walk.used);
    for usage in used {
        check_usage(operation, &usage, problems);
    }
}

fn check_usage(operation: &Operation, usage: &Usage<'_>, problems: &mut Problems) {
    let Usage { name, place, location } = usage;
    let position = problems.position(*location);
    let Some(definition) = operation.variables.iter().find(|definition| definition.name == **name) else {
        let by = operation.name.as_ref().map(|name| format!(" by operation \"{name}\"")).unwrap_or_default();
        return problems.push(format!("Variable \"${name}\" is not defined{by}."), position);
    };
    let Some(expected) = place.ty else { return };
    let expected = if place.nullable { expected.clone().nullable() } else { expected.clone() };
    let has_default = definition.default_value.as_ref().is_some_and(|value| !value.is_null());
    let is_allowed = if expected.is_non_null() && !definition.ty.is_non_null() {
        (has_default || place.has_default) && definition.ty.is_assignable_to(&expected.clone().nullable())
    } else {
        definition.ty.is_assignable_to(&expected)
    };
    if !is_allowed {
        let ty = &definition.ty;
        let message = format!("Variable \"${name}\" of type \"{ty}\" used in position expecting type \"{expected}\".");
        problems.push(message, position);
    }
}

impl<'a> Walk<'a, '_> {
    fn selections(&mut self, set: &'a SelectionSet) {
        for selection in &set.selections {
            match selection {
                Selection::Field(field) => {
                    self.arguments(&field.arguments, &field.definition.arguments);
                    self.directives(&field.directives);
                    self.selections(&field.selection_set);
                }
                Selection::InlineFragment(inline) => {
                    self.directives(&inline.directives);
                    self.selections(&inline.selection_set);
                }
                Selection::FragmentSpread(spread) => {
                    self.directives(&spread.directives);
                    let fragment = self.document.fragments.get(&spread.fragment_name);
                    if let Some(fragment) = fragment.filter(|fragment| self.visited.insert(&fragment.name)) {
                        self.directives(&fragment.directives);
                        self.selections(&fragment.selection_set);
                    }
                }
            }
        }
    }

    fn directives(&mut self, directives: &'a DirectiveList) {
        for directive in directives.iter() {
            let definition = self.types.schema.directive_definitions.get(&directive.name);
            self.arguments(&directive.arguments, definition.map_or(&[], |definition| &definition.arguments));
        }
    }

    fn arguments(&mut self, given: &'a [Node<Argument>], definitions: &'a [Node<InputValueDefinition>]) {
        for argument in given {
            let definition = definitions.iter().find(|definition| definition.name == argument.name);
            self.path = vec![argument.name.as_str()];
            self.value(&argument.value, Place::of(definition));
        }
    }

    fn value(&mut self, value: &'a Node<Value>, place: Place<'a>) {
        if self.problems.is_full() {
            return;
        }
        match &**value {
            Value::Variable(name) => self.used.push(Usage { name, place, location: value.location() }),
            Value::Null => {
                if place.checked
                    && let Some(ty) = place.ty.filter(|ty| ty.is_non_null())
                {
                    self.wrong(value, format!("Expected value of type \"{ty}\", found null."));
                }
            }
            Value::List(items) => {
                if !place.is_list() {
                    self.leaf(value, place);
                }
                for item in items {
                    self.value(item, place.item());
                }
            }
            Value::Object(fields) => self.object(value, fields, place),
            Value::Enum(_) | Value::String(_) | Value::Int(_) | Value::Float(_) | Value::Boolean(_) => {
                self.leaf(value, place);
            }
        }
    }

    fn object(&mut self, value: &'a Node<Value>, fields: &'a [(Name, Node<Value>)], place: Place<'a>) {
        let named = place.ty.and_then(|ty| self.types.get(ty.inner_named_type()));
        let input = named.and_then(ExtendedType::as_input_object);
        if input.is_none() {
            self.leaf(value, place);
        }
        for definition in input.iter().flat_map(|input| input.fields.values()).filter(|_| place.checked) {
            if definition.is_required() && !fields.iter().any(|(name, _)| *name == definition.name) {
                let (on, name, ty) = (input.map_or("", |input| input.name.as_str()), &definition.name, &definition.ty);
                self.path.push(name);
                self.wrong(value, format!("Field \"{on}.{name}\" of required type \"{ty}\" was not provided."));
                self.path.pop();
            }
        }
        for (n, (name, field)) in fields.iter().enumerate() {
            self.path.push(name);
            if fields[..n].iter().any(|(earlier, _)| earlier == name) {
                self.wrong(field, format!("There can be only one input field named \"{name}\"."));
            }
            let definition = input.and_then(|input| input.fields.get(name)).map(|field| &field.node);
            if let (Some(input), None, true) = (input, definition, place.checked) {
                let names = input.fields.keys().map(Name::as_str);
                let suggestion = self.types.suggest(name, names);
                let message = format!("Field \"{name}\" is not defined by type \"{}\".{suggestion}", input.name);
                self.wrong(field, message);
            }
            self.value(field, Place { checked: place.checked && definition.is_some(), ..Place::of(definition) });
            self.path.pop();
        }
    }

    /// A value that is neither null nor a variable, where no list or input object is expected.
    fn leaf(&mut self, value: &'a Node<Value>, place: Place<'a>) {
        let (Some(ty), true) = (place.ty, place.checked) else { return };
        let refused = match self.types.get(ty.inner_named_type()) {
            Some(ExtendedType::Enum(definition)) => self.enum_value(value, definition),
            Some(ExtendedType::Scalar(scalar)) => scalar_problem(value, &scalar.name).map(str::to_owned),
            Some(_) => Some(format!("Expected value of type \"{ty}\".")),
            // Reported as an unknown type.
            None => None,
        };
        if let Some(message) = refused {
            self.wrong(value, message);
        }
    }

    fn enum_value(&self, value: &Value, definition: &EnumType) -> Option<String> {
        let Value::Enum(given) = value else {
            return Some(format!("Enum \"{}\" cannot represent non-enum value.", definition.name));
        };
        if definition.values.contains_key(given) {
            return None;
        }
        let names = definition.values.keys().map(Name::as_str);
        let suggestion =
            if self.types.suggestions { did_you_mean("the enum value ", given, names) } else { String::new() };
        Some(format!("Value does not exist in \"{}\" enum.{suggestion}", definition.name))
    }

    fn wrong(&mut self, value: &Node<Value>, message: String) {
        let path = self.path.join(".");
        let field = if path.is_empty() || path.len() > MAX_PATH_BYTES { "query".to_owned() } else { path };
        let position = self.problems.position(value.location());
        self.problems.push_about(field, message, position);
    }
}

/// Why a literal is no value of a scalar. Custom scalars accept every literal here; their resolvers check it.
fn scalar_problem(value: &Value, scalar: &str) -> Option<&'static str> {
    let is_valid = match (scalar, value) {
        ("Int", Value::Int(int)) => {
            let is_32_bit = int.try_to_i32().is_ok();
            return (!is_32_bit).then_some("Int cannot represent non 32-bit signed integer value.");
        }
        ("Float", Value::Int(_) | Value::Float(_)) | ("String" | "ID", Value::String(_)) => true,
        ("Boolean", Value::Boolean(_)) | ("ID", Value::Int(_)) => true,
        ("Int" | "Float" | "String" | "Boolean" | "ID", _) => false,
        _ => true,
    };
    (!is_valid).then_some(match scalar {
        "Int" => "Int cannot represent non-integer value.",
        "Float" => "Float cannot represent non numeric value.",
        "String" => "String cannot represent a non string value.",
        "Boolean" => "Boolean cannot represent a non boolean value.",
        _ => "ID cannot represent a non-string and non-integer value.",
    })
}
