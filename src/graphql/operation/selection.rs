//! Normalising: the selections of an operation with fragments expanded, `@skip` and `@include` applied, and all
//! selections of one response key merged (GraphQL specification, sections 6.3.2 and 6.4.4).
//!
//! The schema has no abstract types, so the type condition of a fragment in a valid document always holds.

use std::collections::HashSet;

use apollo_compiler::ast::{self, DirectiveList, FieldDefinition, Type};
use apollo_compiler::executable::{self, Name as FragmentName, Selection, SelectionSet};
use apollo_compiler::{ExecutableDocument, Node};
use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{self as library, DocumentOperations, OperationDefinition, OperationType};
use async_graphql::{Name, Pos, Positioned, Value, Variables};

use super::super::limits::complexity::Items;
use super::super::validation::{Types, condition, position};
use super::literals::Literal;

/// The response key of the field that stands for an empty selection set, because the library can't execute one. It is
/// no GraphQL name, so no client can ask for it. `response_order` removes it from the response.
pub(in crate::graphql) const EMPTY: &str = " ";

struct Argument {
    name: Name,
    literal: Literal,
    /// The library refuses null for this argument of introspection, which the specification allows.
    without_null: bool,
}

/// One response key of a normalised selection: one field.
pub(in crate::graphql) struct Selected {
    name: Name,
    alias: Option<Name>,
    position: Pos,
    arguments: Vec<Argument>,
    definition: Node<FieldDefinition>,
    items: Items,
    /// Whether the field has a selection set, which may be empty after `@skip` and `@include`.
    is_object: bool,
    /// In the order of the response.
    pub(in crate::graphql) below: Vec<Selected>,
}

impl Selected {
    /// The response key.
    pub(in crate::graphql) fn key(&self) -> &str {
        self.alias.as_ref().unwrap_or(&self.name)
    }

    pub(in crate::graphql) fn ty(&self) -> &Type {
        &self.definition.ty
    }

    fn size(&self) -> usize {
        1 + self.below.iter().map(Self::size).sum::<usize>()
    }

    fn has_empty(&self) -> bool {
        (self.is_object && self.below.is_empty()) || self.below.iter().any(Self::has_empty)
    }

    fn complexity(&self, variables: &Variables) -> usize {
        let first = || self.arguments.iter().find(|argument| argument.name == "first")?.literal.value(variables);
        self.items.complexity(first, complexity(&self.below, variables))
    }

    fn field(&self, variables: &Variables) -> Positioned<library::Selection> {
        let here = self.position;
        let arguments = self.arguments.iter().filter_map(|argument| {
            let value = argument.literal.value(variables)?;
            let is_given = !argument.without_null || value != Value::Null;
            is_given.then(|| {
                let name = Positioned::new(argument.name.clone(), here);
                (name, Positioned::new(value.into_value(), here))
            })
        });
        let items = match self.below.is_empty() && self.is_object {
            true => vec![empty(here)],
            false => self.below.iter().map(|selected| selected.field(variables)).collect(),
        };
        let field = library::Field {
            alias: self.alias.as_ref().map(|alias| Positioned::new(alias.clone(), here)),
            name: Positioned::new(self.name.clone(), here),
            arguments: arguments.collect(),
            directives: Vec::new(),
            selection_set: Positioned::new(library::SelectionSet { items }, here),
        };
        Positioned::new(library::Selection::Field(Positioned::new(field, here)), here)
    }
}

fn complexity(selected: &[Selected], variables: &Variables) -> usize {
    selected.iter().fold(0, |sum, selected| sum.saturating_add(selected.complexity(variables)))
}

fn empty(here: Pos) -> Positioned<library::Selection> {
    let field = library::Field {
        alias: Some(Positioned::new(Name::new(EMPTY), here)),
        name: Positioned::new(Name::new("__typename"), here),
        arguments: Vec::new(),
        directives: Vec::new(),
        selection_set: Positioned::default(),
    };
    Positioned::new(library::Selection::Field(Positioned::new(field, here)), here)
}

/// The normalised selection of an operation, for one set of values of the variables in its directives.
pub(in crate::graphql) struct Normalised {
    pub(in crate::graphql) roots: Vec<Selected>,
    /// Whether a selection set is empty.
    pub(in crate::graphql) has_empty: bool,
    kind: ast::OperationType,
}

impl Normalised {
    pub(super) fn new(
        types: &Types,
        document: &ExecutableDocument,
        operation: &executable::Operation,
        variables: &Variables,
    ) -> Self {
        let normalising = Normalising { types, document, variables };
        let roots = normalising.merged(&[&operation.selection_set]);
        let has_empty = roots.is_empty() || roots.iter().any(Selected::has_empty);
        Self { roots, has_empty, kind: operation.operation_type }
    }

    /// The number of fields.
    pub(in crate::graphql) fn size(&self) -> usize {
        self.roots.iter().map(Selected::size).sum()
    }

    /// The number of fields that the response may have.
    pub(in crate::graphql) fn complexity(&self, variables: &Variables) -> usize {
        complexity(&self.roots, variables)
    }

    /// The document that the library executes: one operation without fragments, directives and variables, with one field
    /// for each response key.
    pub(in crate::graphql) fn document(&self, variables: &Variables) -> library::ExecutableDocument {
        let here = self.roots.first().map(|root| root.position).unwrap_or_default();
        let items = self.roots.iter().map(|root| root.field(variables)).collect();
        let operation = OperationDefinition {
            ty: match self.kind {
                ast::OperationType::Query => OperationType::Query,
                ast::OperationType::Mutation => OperationType::Mutation,
                ast::OperationType::Subscription => OperationType::Subscription,
            },
            variable_definitions: Vec::new(),
            directives: Vec::new(),
            selection_set: Positioned::new(library::SelectionSet { items }, here),
        };
        library::ExecutableDocument {
            operations: DocumentOperations::Single(Positioned::new(operation, here)),
            fragments: Default::default(),
        }
    }
}

struct Normalising<'a> {
    types: &'a Types,
    document: &'a ExecutableDocument,
    variables: &'a Variables,
}

type ByKey<'a> = IndexMap<&'a str, Vec<&'a Node<executable::Field>>>;

impl<'a> Normalising<'a> {
    fn merged(&self, sets: &[&'a SelectionSet]) -> Vec<Selected> {
        let (mut by_key, mut visited) = (ByKey::new(), HashSet::new());
        let parent = sets.first().map_or("", |set| set.ty.as_str());
        for set in sets {
            self.collect(set, &mut by_key, &mut visited);
        }
        by_key.values().map(|fields| self.selected(parent, fields)).collect()
    }

    fn collect(&self, set: &'a SelectionSet, by_key: &mut ByKey<'a>, visited: &mut HashSet<&'a FragmentName>) {
        for selection in &set.selections {
            if !self.is_included(selection.directives()) {
                continue;
            }
            match selection {
                Selection::Field(field) => by_key.entry(field.response_key()).or_default().push(field),
                Selection::InlineFragment(inline) => self.collect(&inline.selection_set, by_key, visited),
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.fragment_name);
                    if let Some(fragment) = fragment.filter(|fragment| visited.insert(&fragment.name)) {
                        self.collect(&fragment.selection_set, by_key, visited);
                    }
                }
            }
        }
    }

    fn is_included(&self, directives: &DirectiveList) -> bool {
        !self.holds(directives, "skip", false) && self.holds(directives, "include", true)
    }

    fn holds(&self, directives: &DirectiveList, name: &str, without: bool) -> bool {
        match condition(directives, name).map(|value| &**value) {
            None => without,
            Some(ast::Value::Variable(variable)) => {
                self.variables.get(variable.as_str()) == Some(&Value::Boolean(true))
            }
            Some(value) => *value == ast::Value::Boolean(true),
        }
    }

    /// All fields of one response key as one. In a valid document they differ only in what they select.
    fn selected(&self, parent: &str, fields: &[&'a Node<executable::Field>]) -> Selected {
        let first = fields.first().expect("a response key has a field");
        let sets: Vec<_> = fields.iter().map(|field| &field.selection_set).collect();
        let arguments = first.arguments.iter().filter_map(|argument| {
            let definition = first.definition.argument_by_name(&argument.name)?;
            Some(Argument {
                name: Name::new(&argument.name),
                literal: Literal::coerce(self.types, &definition.ty, &argument.value),
                without_null: argument.name == "includeDeprecated",
            })
        });
        Selected {
            name: Name::new(&first.name),
            alias: first.alias.as_ref().map(Name::new),
            position: position(&self.document.sources, first.location()).unwrap_or_default(),
            arguments: arguments.collect(),
            definition: first.definition.clone(),
            items: Items::of(parent, &first.definition),
            is_object: !first.selection_set.selections.is_empty(),
            below: self.merged(&sets),
        }
    }
}
