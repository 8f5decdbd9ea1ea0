//! From an operation of a valid document and its variables to what the library executes (GraphQL specification,
//! section 6): coerce the variables, then normalise the selections.
//!
//! Invariant: the library receives one operation that has no fragments, no directives, no variables, and one field for
//! each response key. It executes such a document as the specification says.

mod literals;
mod selection;
mod variables;

use std::collections::HashSet;

use apollo_compiler::ast::{DirectiveList, Value};
use apollo_compiler::executable::{self, Name, OperationType, Selection, SelectionSet};
use apollo_compiler::{ExecutableDocument, Node};
use async_graphql::{Pos, Variables};

pub(super) use selection::{EMPTY, Normalised, Selected};

use super::request_error::RequestError;
use super::validation::{Types, condition, position};

/// The type of an operation, known before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    Query,
    Mutation,
    Subscription,
}

impl OperationKind {
    pub const ALL: [Self; 3] = [Self::Query, Self::Mutation, Self::Subscription];

    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Mutation => "mutation",
            Self::Subscription => "subscription",
        }
    }
}

/// One operation of a document.
pub(super) struct Operation {
    definition: Node<executable::Operation>,
    /// The variables in `@skip` and `@include`.
    conditions: Vec<(Name, Option<Pos>)>,
    introspects: bool,
}

impl Operation {
    pub(super) fn new(document: &ExecutableDocument, definition: &Node<executable::Operation>) -> Self {
        let mut facts = Facts { document, visited: HashSet::new(), conditions: Vec::new(), introspects: false };
        facts.selections(&definition.selection_set);
        let Facts { conditions, introspects, .. } = facts;
        Self { definition: definition.clone(), conditions, introspects }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.definition.name.as_ref().map(Name::as_str)
    }

    pub(super) fn kind(&self) -> OperationKind {
        match self.definition.operation_type {
            OperationType::Query => OperationKind::Query,
            OperationType::Mutation => OperationKind::Mutation,
            OperationType::Subscription => OperationKind::Subscription,
        }
    }

    /// Whether it asks for the schema.
    pub(super) fn introspects(&self) -> bool {
        self.introspects
    }

    /// The values of its variables.
    pub(super) fn coerce(
        &self,
        types: &Types,
        document: &ExecutableDocument,
        given: &Variables,
    ) -> Result<Variables, RequestError> {
        variables::coerce(types, &self.definition, given, &document.sources)
    }

    /// The values of the variables in `@skip` and `@include`, which decide what is selected.
    pub(super) fn conditions(&self, variables: &Variables) -> Result<Vec<bool>, RequestError> {
        let value = |(name, position): &(Name, Option<Pos>)| match variables.get(name.as_str()) {
            Some(async_graphql::Value::Boolean(value)) => Ok(*value),
            _ => {
                let message = "Argument \"if\" of non-null type \"Boolean!\" must not be null.";
                let refused = RequestError::parameter(name.as_str().to_owned(), message);
                Err(RequestError { position: *position, ..refused })
            }
        };
        self.conditions.iter().map(value).collect()
    }

    pub(super) fn normalise(&self, types: &Types, document: &ExecutableDocument, variables: &Variables) -> Normalised {
        Normalised::new(types, document, &self.definition, variables)
    }
}

/// What is known of an operation before it runs.
struct Facts<'a> {
    document: &'a ExecutableDocument,
    visited: HashSet<&'a Name>,
    conditions: Vec<(Name, Option<Pos>)>,
    introspects: bool,
}

impl<'a> Facts<'a> {
    fn selections(&mut self, set: &'a SelectionSet) {
        for selection in &set.selections {
            self.directives(selection.directives());
            match selection {
                Selection::Field(field) => {
                    self.introspects |= matches!(field.name.as_str(), "__schema" | "__type");
                    self.selections(&field.selection_set);
                }
                Selection::InlineFragment(inline) => self.selections(&inline.selection_set),
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.fragment_name);
                    if let Some(fragment) = fragment.filter(|fragment| self.visited.insert(&fragment.name)) {
                        self.selections(&fragment.selection_set);
                    }
                }
            }
        }
    }

    fn directives(&mut self, directives: &DirectiveList) {
        for name in ["skip", "include"] {
            let value = condition(directives, name);
            if let Some(Value::Variable(variable)) = value.map(|value| &**value)
                && self.conditions.iter().all(|(known, _)| known != variable)
            {
                let location = value.and_then(|value| value.location());
                self.conditions.push((variable.clone(), position(&self.document.sources, location)));
            }
        }
    }
}
