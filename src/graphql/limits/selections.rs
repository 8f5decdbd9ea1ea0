//! Limits of a parsed document with its fragments expanded: selections, depth, aliases, directives, root fields.
//!
//! Each fragment is measured once and its measure reused, so the check takes time in proportion to the text, even
//! for a document that expands to 2^40 selections. Sums saturate. Invariant: an accepted document expands to at
//! most [`MAX_SELECTIONS`] selections, so every later walk over it is bounded too.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, FragmentDefinition, OperationType, Selection, SelectionSet};
use async_graphql::{Name, Positioned};

use super::super::request_error::RequestError;

/// Most selections of a document with all fragments expanded.
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
/// Mutations that check a secret. A document with several of them could guess many passwords in one request.
const ONCE_PER_DOCUMENT: [&str; 4] = ["login", "register", "refreshToken", "changePassword"];

/// The size of a selection set with its fragments expanded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    selections: u32,
    aliases: u32,
    directives: u32,
    /// Levels of fields, without introspection.
    depth: u32,
    /// Levels of fields below `__schema` or `__type`.
    introspection_depth: u32,
    /// Length of the longest chain of fragments.
    chain: u32,
}

impl Size {
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

    /// Checks a fragment by itself. Its depth is checked where it is spread, because `TypeRef` of GraphiQL's
    /// introspection is deep and appears only below `__schema`.
    fn check_fragment(&self) -> Result<(), RequestError> {
        Self { depth: 0, introspection_depth: 0, ..*self }.check()
    }

    fn check(&self) -> Result<(), RequestError> {
        let limits = [
            (self.selections, MAX_SELECTIONS, "selections, with fragments expanded"),
            (self.aliases, MAX_ALIASES, "aliases"),
            (self.directives, MAX_DIRECTIVES, "directives"),
            (self.depth, MAX_DEPTH, "levels of fields"),
            (self.introspection_depth, MAX_INTROSPECTION_DEPTH, "levels of introspection"),
            (self.chain, MAX_SPREAD_CHAIN, "fragments in a chain"),
        ];
        match limits.into_iter().find(|(size, limit, _)| size > limit) {
            Some((_, most, what)) => {
                Err(RequestError::too_complex(format!("the document has more than {most} {what}")))
            }
            None => Ok(()),
        }
    }
}

/// The progress of measuring a fragment.
enum Fragment {
    InProgress,
    Done(Size),
}

struct Walk<'a> {
    document: &'a ExecutableDocument,
    fragments: HashMap<&'a Name, Fragment>,
}

/// Refuses a document that exceeds a limit.
pub(in crate::graphql) fn check(document: &ExecutableDocument) -> Result<(), RequestError> {
    let mut walk = Walk { document, fragments: HashMap::new() };
    let mut total = Size::default();
    for (name, fragment) in &document.fragments {
        // Including unused fragments: validation walks them too.
        walk.fragment(name, &fragment.node)?;
        total.directives = total.directives.saturating_add(count(fragment.node.directives.len()));
    }
    for (_, operation) in document.operations.iter() {
        let variables = operation.node.variable_definitions.iter().map(|v| v.node.directives.len()).sum::<usize>();
        total.directives = total.directives.saturating_add(count(operation.node.directives.len() + variables));
        total = total.add(walk.selection_set(&operation.node.selection_set.node)?);
    }
    total.check()?;
    // The walks below are bounded by the selections that were just counted.
    for (_, operation) in document.operations.iter() {
        let roots = root_fields(document, &operation.node.selection_set.node);
        if roots.len() > MAX_ROOT_FIELDS {
            return Err(RequestError::too_complex(format!("an operation has more than {MAX_ROOT_FIELDS} root fields")));
        }
        let is_guarded = |name: &&str| ONCE_PER_DOCUMENT.contains(name);
        if operation.node.ty == OperationType::Mutation && roots.iter().filter(|n| is_guarded(n)).count() > 1 {
            return Err(RequestError::too_complex(format!(
                "a document may contain one of {} only once",
                ONCE_PER_DOCUMENT.join(", ")
            )));
        }
    }
    Ok(())
}

/// The names of an operation's root fields, with fragments expanded. Only for a document that was accepted.
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

impl<'a> Walk<'a> {
    fn fragment(&mut self, name: &'a Name, fragment: &'a FragmentDefinition) -> Result<Size, RequestError> {
        match self.fragments.get(name) {
            Some(Fragment::Done(size)) => return Ok(*size),
            Some(Fragment::InProgress) => {
                return Err(RequestError::invalid("a fragment spreads itself".into()));
            }
            None => {}
        }
        self.fragments.insert(name, Fragment::InProgress);
        let mut size = self.selection_set(&fragment.selection_set.node)?;
        size.chain += 1;
        size.check_fragment()?;
        self.fragments.insert(name, Fragment::Done(size));
        Ok(size)
    }

    fn selection_set(&mut self, set: &'a SelectionSet) -> Result<Size, RequestError> {
        let mut total = Size::default();
        for item in &set.items {
            total = total.add(self.selection(item)?);
        }
        Ok(total)
    }

    fn selection(&mut self, item: &'a Positioned<Selection>) -> Result<Size, RequestError> {
        let mut size = match &item.node {
            Selection::Field(field) => {
                let mut size = self.selection_set(&field.node.selection_set.node)?;
                size.aliases = size.aliases.saturating_add(u32::from(field.node.alias.is_some()));
                if matches!(field.node.name.node.as_str(), "__schema" | "__type") {
                    size.introspection_depth = size.depth + 1;
                    size.depth = 0;
                } else {
                    size.depth = size.depth.saturating_add(1);
                }
                size
            }
            Selection::InlineFragment(inline) => self.selection_set(&inline.node.selection_set.node)?,
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                match self.document.fragments.get_key_value(name) {
                    Some((name, fragment)) => self.fragment(name, &fragment.node)?,
                    // The library's validation reports an unknown fragment.
                    None => Size::default(),
                }
            }
        };
        size.selections = size.selections.saturating_add(1);
        size.directives = size.directives.saturating_add(count(item.node.directives().len()));
        Ok(size)
    }
}
