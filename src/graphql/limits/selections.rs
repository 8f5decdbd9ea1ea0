//! What a document would cost once its fragments are spread, found without spreading them.
//!
//! Each fragment is weighed once and its weight reused, so a bomb of 2^40 spreads takes as long as
//! its text; sums saturate. Invariant: a document that passes expands to at most [`MAX_SELECTIONS`]
//! selections, so whatever walks it later is bounded too.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, FragmentDefinition, OperationType, Selection, SelectionSet};
use async_graphql::{Name, Positioned};

use super::super::request_error::RequestError;

/// Most selections of a document with all fragments spread.
const MAX_SELECTIONS: u32 = 1_000;
/// Deepest level of fields.
const MAX_DEPTH: u32 = 10;
/// Deepest level below `__schema` and `__type`: GraphiQL's full introspection has 13.
const MAX_INTROSPECTION_DEPTH: u32 = 20;
/// Most aliases.
const MAX_ALIASES: u32 = 30;
/// Most root fields of one operation.
const MAX_ROOT_FIELDS: usize = 20;
/// Most directives.
const MAX_DIRECTIVES: u32 = 10;
/// Longest chain of fragments that spread each other.
const MAX_SPREAD_CHAIN: u32 = 16;
/// Mutations that try a secret: once per document, or one request tries a thousand passwords.
const ONCE_PER_DOCUMENT: [&str; 4] = ["login", "register", "refreshToken", "changePassword"];

/// The weight of a selection set with its fragments spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Weight {
    selections: u32,
    aliases: u32,
    directives: u32,
    /// Levels of fields, introspection apart.
    depth: u32,
    /// Levels of fields below `__schema` or `__type`.
    introspection_depth: u32,
    /// Fragments that spread each other, in a row.
    chain: u32,
}

impl Weight {
    fn add(self, other: Self) -> Self {
        Self {
            selections: self.selections.saturating_add(other.selections),
            aliases: self.aliases.saturating_add(other.aliases),
            directives: self.directives.saturating_add(other.directives),
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
            chain: self.chain.max(other.chain),
        }
    }

    /// What holds for a fragment alone. Its depth is judged where it is spread: GraphiQL's `TypeRef`
    /// is deep, and only below `__schema`.
    fn check_size(&self) -> Result<(), RequestError> {
        Self { depth: 0, introspection_depth: 0, ..*self }.check()
    }

    fn check(&self) -> Result<(), RequestError> {
        let bounds = [
            (self.selections, MAX_SELECTIONS, "selections, its fragments spread"),
            (self.aliases, MAX_ALIASES, "aliases"),
            (self.directives, MAX_DIRECTIVES, "directives"),
            (self.depth, MAX_DEPTH, "levels of fields"),
            (self.introspection_depth, MAX_INTROSPECTION_DEPTH, "levels of introspection"),
            (self.chain, MAX_SPREAD_CHAIN, "fragments in a chain"),
        ];
        match bounds.into_iter().find(|(found, most, _)| found > most) {
            Some((_, most, what)) => {
                Err(RequestError::too_complex(format!("the document has more than {most} {what}")))
            }
            None => Ok(()),
        }
    }
}

/// How far the weighing of a fragment has come.
enum Fragment {
    InProgress,
    Done(Weight),
}

struct Measure<'a> {
    document: &'a ExecutableDocument,
    fragments: HashMap<&'a Name, Fragment>,
}

/// Refuses a document that would cost too much.
pub(in crate::graphql) fn check(document: &ExecutableDocument) -> Result<(), RequestError> {
    let mut measure = Measure { document, fragments: HashMap::new() };
    let mut total = Weight::default();
    for (name, fragment) in &document.fragments {
        // Also those that nothing spreads: they are validated too.
        measure.fragment(name, &fragment.node)?;
        total.directives = total.directives.saturating_add(count(fragment.node.directives.len()));
    }
    for (_, operation) in document.operations.iter() {
        let variables = operation.node.variable_definitions.iter().map(|v| v.node.directives.len()).sum::<usize>();
        total.directives = total.directives.saturating_add(count(operation.node.directives.len() + variables));
        total = total.add(measure.set(&operation.node.selection_set.node)?);
    }
    total.check()?;
    // From here on walking is bounded by the selections just counted.
    for (_, operation) in document.operations.iter() {
        let roots = root_fields(document, &operation.node.selection_set.node);
        if roots.len() > MAX_ROOT_FIELDS {
            return Err(RequestError::too_complex(format!("an operation has more than {MAX_ROOT_FIELDS} root fields")));
        }
        let guarded = |name: &&str| ONCE_PER_DOCUMENT.contains(name);
        if operation.node.ty == OperationType::Mutation && roots.iter().filter(|n| guarded(n)).count() > 1 {
            return Err(RequestError::too_complex(format!(
                "one of {} may stand once in a document",
                ONCE_PER_DOCUMENT.join(", ")
            )));
        }
    }
    Ok(())
}

/// The names of an operation's root fields, fragments spread. Only for a document that passed.
pub(in crate::graphql) fn root_fields<'a>(document: &'a ExecutableDocument, set: &'a SelectionSet) -> Vec<&'a str> {
    let mut names = Vec::new();
    let mut open = vec![set];
    while let Some(set) = open.pop() {
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => names.push(field.node.name.node.as_str()),
                Selection::InlineFragment(inline) => open.push(&inline.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let fragment = document.fragments.get(&spread.node.fragment_name.node);
                    open.extend(fragment.map(|f| &f.node.selection_set.node));
                }
            }
        }
    }
    names
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl<'a> Measure<'a> {
    fn fragment(&mut self, name: &'a Name, fragment: &'a FragmentDefinition) -> Result<Weight, RequestError> {
        match self.fragments.get(name) {
            Some(Fragment::Done(weight)) => return Ok(*weight),
            Some(Fragment::InProgress) => {
                return Err(RequestError::invalid("a fragment spreads itself".into()));
            }
            None => {}
        }
        self.fragments.insert(name, Fragment::InProgress);
        let mut weight = self.set(&fragment.selection_set.node)?;
        weight.chain += 1;
        weight.check_size()?;
        self.fragments.insert(name, Fragment::Done(weight));
        Ok(weight)
    }

    fn set(&mut self, set: &'a SelectionSet) -> Result<Weight, RequestError> {
        let mut total = Weight::default();
        for item in &set.items {
            total = total.add(self.selection(item)?);
        }
        Ok(total)
    }

    fn selection(&mut self, item: &'a Positioned<Selection>) -> Result<Weight, RequestError> {
        let mut weight = match &item.node {
            Selection::Field(field) => {
                let mut weight = self.set(&field.node.selection_set.node)?;
                weight.aliases = weight.aliases.saturating_add(u32::from(field.node.alias.is_some()));
                if matches!(field.node.name.node.as_str(), "__schema" | "__type") {
                    weight.introspection_depth = weight.depth + 1;
                    weight.depth = 0;
                } else {
                    weight.depth = weight.depth.saturating_add(1);
                }
                weight
            }
            Selection::InlineFragment(inline) => self.set(&inline.node.selection_set.node)?,
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                match self.document.fragments.get_key_value(name) {
                    Some((name, fragment)) => self.fragment(name, &fragment.node)?,
                    // The library's validation names an unknown fragment.
                    None => Weight::default(),
                }
            }
        };
        weight.selections = weight.selections.saturating_add(1);
        weight.directives = weight.directives.saturating_add(count(item.node.directives().len()));
        Ok(weight)
    }
}
