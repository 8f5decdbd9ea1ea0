//! Validation of documents against the schema (GraphQL specification, section 5).
//!
//! The reference is graphql-js 16: what it refuses is refused, what it accepts is accepted. `apollo-compiler` has most of
//! its rules. Four groups are ours, because apollo's versions accept or refuse other documents:
//!
//! | module | rules | apollo's differences |
//! |---|---|---|
//! | `values` | values of correct type, unique input fields, variables defined and in allowed positions | looks at named types only, ignores objects in custom scalars |
//! | `merging` | fields of one response key can merge | compares only the first items of lists |
//! | `subscriptions` | one root field | counts merged fields twice |
//! | `suggestions` | "Did you mean …?" | has none |
//!
//! A message never contains a value of the document, which may be a password. Suggestions show the schema, so they are
//! made only where introspection is on.

mod merging;
mod subscriptions;
mod suggestions;
mod values;

use apollo_compiler::ast::{self, DirectiveList, FieldDefinition};
use apollo_compiler::executable::{Directive, Name, Operation};
use apollo_compiler::parser::{Parser, SourceMap, SourceSpan};
use apollo_compiler::schema::{Component, ExtendedType};
use apollo_compiler::validation::{DiagnosticList, Valid};
use apollo_compiler::{ExecutableDocument, Node, Schema, name, ty};
use async_graphql::Pos;

use super::limits::selections;
use super::request_error::RequestError;
use super::syntax;
pub(super) use suggestions::did_you_mean;

/// Most problems of one document that are collected. A response has fewer.
const MAX_PROBLEMS: usize = 20;

/// Rules of apollo that modules here replace.
const REPLACED: [&str; 14] = [
    "UnsupportedValueType",
    "IntCoercionError",
    "FloatCoercionError",
    "UndefinedEnumValue",
    "UndefinedInputValue",
    "RequiredField",
    "UndefinedVariable",
    "DisallowedVariableUsage",
    "ConflictingFieldName",
    "ConflictingFieldArgument",
    "ConflictingFieldType",
    "SubscriptionUsesMultipleFields",
    "SubscriptionUsesIntrospection",
    "SubscriptionUsesConditionalSelection",
];

/// Problems after which apollo leaves out the field or the fragment, and the problems that follow from that alone.
const INCOMPLETE: [&str; 5] = [
    "UndefinedField",
    "SubselectionOnScalarType",
    "SubselectionOnEnumType",
    "UndefinedTypeInNamedFragmentTypeCondition",
    "UndefinedTypeInInlineFragmentTypeCondition",
];
const CONSEQUENCES: [&str; 4] = ["MissingSubselection", "UnusedVariable", "UnusedFragment", "UndefinedFragment"];

/// The types of the API, for validation and for the coercion of variables.
pub(super) struct Types {
    pub(super) schema: Valid<Schema>,
    /// Whether errors may show names of the schema that the client did not write.
    pub(super) suggestions: bool,
}

impl Types {
    /// Reads the schema's text, once when the server starts.
    pub(super) fn read(sdl: &str, suggestions: bool) -> Self {
        let mut schema = Schema::parse(sdl, "schema.graphql").map_err(|invalid| invalid.errors).expect("valid SDL");
        // apollo does not know it yet, but the library and graphql-js do.
        if let Some(ExtendedType::Object(type_of_types)) = schema.types.get_mut("__Type") {
            let is_one_of = FieldDefinition {
                description: None,
                name: name!("isOneOf"),
                arguments: Vec::new(),
                ty: ty!(Boolean),
                directives: DirectiveList::default(),
            };
            type_of_types.make_mut().fields.insert(name!("isOneOf"), Component::new(is_one_of));
        }
        let schema = schema.validate().map_err(|invalid| invalid.errors).expect("valid SDL");
        Self { schema, suggestions }
    }

    /// Parses and validates a document.
    pub(super) fn parse(&self, text: &str) -> Result<ExecutableDocument, RequestError> {
        let text = syntax::cleaned(text)?;
        let document = Parser::new().parse_ast(text.as_str(), "query").map_err(|_| {
            // Not reached: the text is of the grammar.
            RequestError::parameter("query", "Syntax Error: the document is invalid")
        })?;
        selections::check(&document)?;
        let (document, errors) = match document.to_executable_validate(&self.schema) {
            Ok(document) => (document.into_inner(), None),
            Err(invalid) => (invalid.partial, Some(invalid.errors)),
        };
        let mut problems = Problems { found: Vec::new(), sources: document.sources.clone() };
        if let Some(errors) = errors {
            self.read_diagnostics(&errors, &mut problems);
        }
        for operation in document.operations.iter() {
            values::check(self, &document, operation, &mut problems);
            merging::check(&document, operation, &text, &mut problems);
            subscriptions::check(&document, operation, &mut problems);
        }
        RequestError::first_of(problems.found).map_or(Ok(document), Err)
    }

    pub(super) fn get(&self, name: &str) -> Option<&ExtendedType> {
        self.schema.types.get(name)
    }

    fn read_diagnostics(&self, errors: &DiagnosticList, problems: &mut Problems) {
        let is_one_of = |names: &[&str], name: Option<&str>| name.is_some_and(|name| names.contains(&name));
        let is_incomplete = errors.iter().any(|one| is_one_of(&INCOMPLETE, one.error.unstable_error_name()));
        for diagnostic in errors.iter() {
            let name = diagnostic.error.unstable_error_name();
            if is_one_of(&REPLACED, name) || is_incomplete && is_one_of(&CONSEQUENCES, name) {
                continue;
            }
            if problems.is_full() {
                return;
            }
            let message = diagnostic.error.unstable_compat_message().map(|message| self.complete(message));
            let message = message.unwrap_or_else(|| "the document is invalid".to_owned());
            let start = diagnostic.line_column_range().map(|range| range.start);
            let position = start.map(|start| Pos { line: start.line, column: start.column });
            problems.push(message, position);
        }
    }

    /// Makes a message of apollo's that of graphql-js, with suggestions.
    fn complete(&self, mut message: String) -> String {
        if !message.ends_with(['.', '?']) {
            message.push('.');
        }
        let quoted: Vec<&str> = message.split('"').collect();
        if let ["Field ", field, " of type ", on, ref rest @ ..] = quoted[..]
            && rest.first().is_some_and(|text| text.starts_with(" must have a selection"))
            && let Ok(definition) = self.schema.type_field(on, field)
        {
            // apollo names the type of the parent.
            return message.replacen(&format!(" of type \"{on}\""), &format!(" of type \"{}\"", definition.ty), 1);
        }
        let suggestion = match quoted[..] {
            ["Cannot query field ", field, " on type ", on, _] => self.suggest(field, self.fields(on)),
            ["Unknown type ", name, _] => self.suggest(name, self.schema.types.keys().map(Name::as_str)),
            ["Unknown argument ", argument, " on field ", on, _] => {
                let suggestion = self.suggest(argument, self.arguments(on));
                if on.starts_with('@') {
                    message = message.replace(" on field \"@", " on directive \"@");
                }
                suggestion
            }
            _ => String::new(),
        };
        message + &suggestion
    }

    fn suggest<'a>(&self, input: &str, options: impl IntoIterator<Item = &'a str>) -> String {
        if self.suggestions { did_you_mean("", input, options) } else { String::new() }
    }

    fn fields(&self, on: &str) -> Vec<&str> {
        let object = self.get(on).and_then(ExtendedType::as_object);
        object.map(|object| object.fields.keys().map(Name::as_str).collect()).unwrap_or_default()
    }

    /// The arguments of a field, `Type.field`, or of a directive, `@name`.
    fn arguments(&self, on: &str) -> Vec<&str> {
        let definitions = match (on.strip_prefix('@'), on.split_once('.')) {
            (Some(directive), _) => self.schema.directive_definitions.get(directive).map(|d| &d.arguments),
            (None, Some((object, field))) => {
                self.schema.type_field(object, field).ok().map(|definition| &definition.arguments)
            }
            (None, None) => None,
        };
        definitions.map(|all| all.iter().map(|argument| argument.name.as_str()).collect()).unwrap_or_default()
    }
}

/// The problems of one document.
struct Problems {
    found: Vec<RequestError>,
    sources: SourceMap,
}

impl Problems {
    fn push(&mut self, message: String, position: Option<Pos>) {
        self.push_about("query".to_owned(), message, position);
    }

    /// `field` is the path of the wrong argument.
    fn push_about(&mut self, field: String, message: String, position: Option<Pos>) {
        let problem = RequestError { position, ..RequestError::parameter(field, message) };
        // A fragment of several operations is checked for each of them.
        if !self.is_full() && !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    fn is_full(&self) -> bool {
        self.found.len() >= MAX_PROBLEMS
    }

    fn position(&self, location: Option<SourceSpan>) -> Option<Pos> {
        position(&self.sources, location)
    }
}

/// Where a part of a document starts.
pub(super) fn position(sources: &SourceMap, location: Option<SourceSpan>) -> Option<Pos> {
    let start = location?.line_column(sources)?;
    Some(Pos { line: start.line, column: start.column })
}

/// The name of an operation as errors show it: `Subscription "S"` or `Anonymous Subscription`.
fn titled(operation: &Operation) -> String {
    let kind = match operation.operation_type {
        ast::OperationType::Query => "Query",
        ast::OperationType::Mutation => "Mutation",
        ast::OperationType::Subscription => "Subscription",
    };
    match &operation.name {
        Some(name) => format!("{kind} \"{name}\""),
        None => format!("Anonymous {kind}"),
    }
}

/// The argument `if` of a `@skip` or `@include`.
pub(super) fn condition<'a>(directives: &'a DirectiveList, name: &str) -> Option<&'a Node<ast::Value>> {
    directives.get(name).and_then(|directive: &Node<Directive>| directive.specified_argument_by_name("if"))
}

#[cfg(test)]
mod tests;
