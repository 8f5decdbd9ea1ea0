//! Limits of a parsed document with its fragments expanded: selections, depth, aliases, directives, root fields.
//!
//! Each fragment is measured once and its measure reused, so the check takes time in proportion to the text, even
//! for a document that expands to 2^40 selections. Sums saturate. Invariant: an accepted document expands to at
//! most [`MAX_SELECTIONS`] selections, so every later walk over it is bounded too.

use std::collections::HashMap;

use apollo_compiler::ast::{Definition, Document, FragmentDefinition, Selection};
use apollo_compiler::{Name, Node};

use super::super::request_error::RequestError;

/// Most selections of a document with all fragments expanded.
const MAX_SELECTIONS: u32 = 1_000;
/// Deepest level of fields.
const MAX_DEPTH: u32 = 10;
/// Deepest level below `__schema` and `__type`: GraphiQL's full introspection has 13.
const MAX_INTROSPECTION_DEPTH: u32 = 20;
/// Most aliases. They repeat fields; what the fields cost is limited by the complexity.
const MAX_ALIASES: u32 = 100;
/// Most root fields of one operation. Each may cost a statement of its own.
const MAX_ROOT_FIELDS: usize = 50;
/// Most directives with fragments expanded. Each costs one comparison when an operation is prepared, so a screen may
/// make every second selection conditional.
const MAX_DIRECTIVES: u32 = 500;
/// Longest chain of fragments that spread each other.
const MAX_SPREAD_CHAIN: u32 = 16;
/// Mutations that check a secret or send a mail. A document with several of them could guess many passwords in one request.
const ONCE_PER_DOCUMENT: [&str; 10] = [
    "login",
    "register",
    "refreshToken",
    "changePassword",
    "updateMe",
    "deleteAccount",
    "requestPasswordReset",
    "resetPassword",
    "requestEmailVerification",
    "verifyEmail",
];

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
            (self.selections, MAX_SELECTIONS, "selections with fragments expanded", SPLIT),
            (self.aliases, MAX_ALIASES, "aliases with fragments expanded", SPLIT),
            (self.directives, MAX_DIRECTIVES, "directives with fragments expanded", SPLIT),
            (self.depth, MAX_DEPTH, "levels of fields", "ask for the inner objects by their IDs"),
            (self.introspection_depth, MAX_INTROSPECTION_DEPTH, "levels of introspection", "ask for fewer `ofType`"),
            (self.chain, MAX_SPREAD_CHAIN, "fragments in a chain", "spread fewer fragments inside fragments"),
        ];
        match limits.into_iter().find(|(size, limit, ..)| size > limit) {
            Some((found, most, what, advice)) => {
                Err(exceeded("the document", what, found as usize, most as usize, advice))
            }
            None => Ok(()),
        }
    }
}

const SPLIT: &str = "split it into several";

/// Names the limit, the value found, and how to stay below.
fn exceeded(what: &str, unit: &str, found: usize, most: usize, advice: &str) -> RequestError {
    RequestError::too_complex(format!("{what} has {found} {unit}, but at most {most} are allowed: {advice}"))
}

/// The progress of measuring a fragment.
enum Fragment {
    InProgress,
    Done(Size),
}

struct Walk<'a> {
    definitions: HashMap<&'a Name, &'a Node<FragmentDefinition>>,
    measured: HashMap<&'a Name, Fragment>,
}

/// Refuses a document that exceeds a limit.
pub(in crate::graphql) fn check(document: &Document) -> Result<(), RequestError> {
    let fragments = document.definitions.iter().filter_map(Definition::as_fragment_definition);
    let definitions: HashMap<_, _> = fragments.map(|fragment| (&fragment.name, fragment)).collect();
    let mut walk = Walk { definitions, measured: HashMap::new() };
    let mut total = Size::default();
    for definition in &document.definitions {
        total.directives = total.directives.saturating_add(count(definition.directives().len()));
        match definition {
            // Including unused fragments: validation walks them too.
            Definition::FragmentDefinition(fragment) => drop(walk.fragment(fragment)?),
            Definition::OperationDefinition(operation) => {
                let on_variables = operation.variables.iter().map(|variable| variable.directives.len()).sum();
                total.directives = total.directives.saturating_add(count(on_variables));
                total = total.add(walk.selection_set(&operation.selection_set)?);
            }
            _ => {}
        }
    }
    total.check()?;
    // The walks below are bounded by the selections that were just counted.
    for operation in document.definitions.iter().filter_map(Definition::as_operation_definition) {
        let roots = walk.root_fields(&operation.selection_set);
        if roots.len() > MAX_ROOT_FIELDS {
            return Err(exceeded("an operation", "root fields", roots.len(), MAX_ROOT_FIELDS, SPLIT));
        }
        let n_guarded = roots.iter().filter(|name| ONCE_PER_DOCUMENT.contains(name)).count();
        if operation.operation_type.is_mutation() && n_guarded > 1 {
            let message = format!("a document may contain one of {} only once", ONCE_PER_DOCUMENT.join(", "));
            return Err(RequestError::too_complex(message));
        }
    }
    Ok(())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl<'a> Walk<'a> {
    fn fragment(&mut self, fragment: &'a FragmentDefinition) -> Result<Size, RequestError> {
        let name = &fragment.name;
        match self.measured.get(name) {
            Some(Fragment::Done(size)) => return Ok(*size),
            Some(Fragment::InProgress) => {
                let message = format!("Cannot spread fragment \"{name}\" within itself.");
                return Err(RequestError::parameter("query", message));
            }
            None => {}
        }
        self.measured.insert(name, Fragment::InProgress);
        let mut size = self.selection_set(&fragment.selection_set)?;
        size.chain += 1;
        size.check_fragment()?;
        self.measured.insert(name, Fragment::Done(size));
        Ok(size)
    }

    fn selection_set(&mut self, set: &'a [Selection]) -> Result<Size, RequestError> {
        let mut total = Size::default();
        for selection in set {
            total = total.add(self.selection(selection)?);
        }
        Ok(total)
    }

    fn selection(&mut self, selection: &'a Selection) -> Result<Size, RequestError> {
        let (mut size, directives) = match selection {
            Selection::Field(field) => {
                let mut size = self.selection_set(&field.selection_set)?;
                size.aliases = size.aliases.saturating_add(u32::from(field.alias.is_some()));
                if matches!(field.name.as_str(), "__schema" | "__type") {
                    size.introspection_depth = size.depth + 1;
                    size.depth = 0;
                } else {
                    size.depth = size.depth.saturating_add(1);
                }
                (size, &field.directives)
            }
            Selection::InlineFragment(inline) => (self.selection_set(&inline.selection_set)?, &inline.directives),
            Selection::FragmentSpread(spread) => {
                let size = match self.definitions.get(&spread.fragment_name).copied() {
                    Some(fragment) => self.fragment(fragment)?,
                    // Validation reports an unknown fragment.
                    None => Size::default(),
                };
                (size, &spread.directives)
            }
        };
        size.selections = size.selections.saturating_add(1);
        size.directives = size.directives.saturating_add(count(directives.len()));
        Ok(size)
    }

    /// The names of an operation's root fields, with fragments expanded.
    fn root_fields(&self, set: &'a [Selection]) -> Vec<&'a str> {
        let mut names = Vec::new();
        let mut open = vec![set];
        while let Some(set) = open.pop() {
            for selection in set {
                match selection {
                    Selection::Field(field) => names.push(field.name.as_str()),
                    Selection::InlineFragment(inline) => open.push(&inline.selection_set),
                    Selection::FragmentSpread(spread) => {
                        let fragment = self.definitions.get(&spread.fragment_name);
                        open.extend(fragment.map(|fragment| fragment.selection_set.as_slice()));
                    }
                }
            }
        }
        names
    }
}
