//! Normalising: the selections of an operation with fragments expanded, `@skip` and `@include` applied, and all
//! selections of one response key merged (GraphQL specification, sections 6.3.2 and 6.4.4).
//!
//! The schema has no abstract types, so the type condition of a fragment in a valid document always holds.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use apollo_compiler::ast::{self, DirectiveList, FieldDefinition, Type};
use apollo_compiler::executable::{self, Name as FragmentName, Selection, SelectionSet};
use apollo_compiler::{ExecutableDocument, Node};
use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{self as library, DocumentOperations, OperationDefinition, OperationType};
use async_graphql::{Name, Pos, Positioned, Value, Variables};

use super::super::limits::complexity::Items;
use super::super::validation::{Types, condition, position};
use super::literals::{Literal, VariableBytes, value_bytes};

/// The response key of the field that stands for an empty selection set, because the library can't execute one. It is
/// no GraphQL name, so no client can ask for it. `response_order` removes it from the response.
pub(in crate::graphql) const EMPTY: &str = " ";

/// Approximate memory of one field.
const FIELD_BYTES: usize = 200;

struct Argument {
    name: Name,
    literal: Arc<Literal>,
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
    pub(in crate::graphql) is_object: bool,
    /// In the order of the response.
    pub(in crate::graphql) below: Vec<Selected>,
}

impl Selected {
    /// The response key.
    pub(in crate::graphql) fn key(&self) -> &str {
        self.alias.as_ref().unwrap_or(&self.name)
    }

    pub(in crate::graphql) fn name(&self) -> &str {
        &self.name
    }

    pub(in crate::graphql) fn ty(&self) -> &Type {
        &self.definition.ty
    }

    /// Approximate memory without the arguments, in bytes.
    fn bytes(&self) -> usize {
        FIELD_BYTES + self.below.iter().map(Self::bytes).sum::<usize>()
    }

    /// Memory of the arguments with the values of the variables, in bytes.
    fn argument_bytes(&self, variables: &VariableBytes) -> usize {
        let own =
            self.arguments.iter().map(|argument| argument.literal.bytes(variables)).fold(0, usize::saturating_add);
        self.below.iter().fold(own, |sum, selected| sum.saturating_add(selected.argument_bytes(variables)))
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
        let normalising = Normalising { types, document, variables, literals: RefCell::default() };
        let roots = normalising.merged(&[&operation.selection_set]);
        let has_empty = roots.is_empty() || roots.iter().any(Selected::has_empty);
        Self { roots, has_empty, kind: operation.operation_type }
    }

    /// Approximate memory in bytes.
    pub(in crate::graphql) fn bytes(&self) -> usize {
        let fields = self.roots.iter().map(Selected::bytes).sum::<usize>();
        fields.saturating_add(self.argument_bytes(&Variables::default()))
    }

    /// Memory of all arguments with the values of the variables, in bytes. A value counts as often as it is used.
    pub(in crate::graphql) fn argument_bytes(&self, variables: &Variables) -> usize {
        let sizes = variables.iter().map(|(name, value)| (name.clone(), value_bytes(value))).collect();
        self.roots.iter().fold(0, |sum, selected| sum.saturating_add(selected.argument_bytes(&sizes)))
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
    /// By the address of their node. A fragment's arguments are shared by all places that spread it.
    literals: RefCell<HashMap<*const ast::Value, Arc<Literal>>>,
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

    fn literal(&self, ty: &Type, value: &Node<ast::Value>) -> Arc<Literal> {
        let mut literals = self.literals.borrow_mut();
        let literal = literals.entry(std::ptr::from_ref(&**value));
        literal.or_insert_with(|| Arc::new(Literal::coerce(self.types, ty, value))).clone()
    }

    /// All fields of one response key as one. In a valid document they differ only in what they select.
    fn selected(&self, parent: &str, fields: &[&'a Node<executable::Field>]) -> Selected {
        let first = fields.first().expect("a response key has a field");
        let sets: Vec<_> = fields.iter().map(|field| &field.selection_set).collect();
        let arguments = first.arguments.iter().filter_map(|argument| {
            let definition = first.definition.argument_by_name(&argument.name)?;
            Some(Argument {
                name: Name::new(&argument.name),
                literal: self.literal(&definition.ty, &argument.value),
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
