//! A subscription has one root field (specification, section 5.2.3.1).
//!
//! Whether it is skipped must not depend on variables: graphql-js fails on such a document, and the specification of
//! September 2025 refuses it. A root field that is always skipped leaves nothing to subscribe to.

use std::collections::HashSet;

use apollo_compiler::ExecutableDocument;
use apollo_compiler::ast::{DirectiveList, Value};
use apollo_compiler::executable::{Name, Operation, Selection, SelectionSet};

use super::{Problems, condition, titled};

struct Roots<'a> {
    document: &'a ExecutableDocument,
    visited: HashSet<&'a Name>,
    keys: HashSet<&'a str>,
    has_introspection: bool,
    has_variable_condition: bool,
}

/// Checks the root fields of an operation.
pub(super) fn check(document: &ExecutableDocument, operation: &Operation, problems: &mut Problems) {
    if !operation.is_subscription() {
        return;
    }
    let mut roots = Roots {
        document,
        visited: HashSet::new(),
        keys: HashSet::new(),
        has_introspection: false,
        has_variable_condition: false,
    };
    roots.collect(&operation.selection_set);
    let problem = if roots.has_variable_condition {
        "can not specify @skip or @include on root fields"
    } else if roots.has_introspection {
        "must not select an introspection top level field"
    } else if roots.keys.len() != 1 {
        "must select only one top level field"
    } else {
        return;
    };
    let position = problems.position(operation.selection_set.selections.first().and_then(location));
    problems.push(format!("{} {problem}.", titled(operation)), position);
}

fn location(selection: &Selection) -> Option<apollo_compiler::parser::SourceSpan> {
    match selection {
        Selection::Field(field) => field.location(),
        Selection::InlineFragment(inline) => inline.location(),
        Selection::FragmentSpread(spread) => spread.location(),
    }
}

impl<'a> Roots<'a> {
    fn collect(&mut self, set: &'a SelectionSet) {
        for selection in &set.selections {
            if !self.is_included(selection.directives()) {
                continue;
            }
            match selection {
                Selection::Field(field) => {
                    self.has_introspection |= field.name.starts_with("__");
                    self.keys.insert(field.response_key().as_str());
                }
                Selection::InlineFragment(inline) => self.collect(&inline.selection_set),
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.fragment_name);
                    if let Some(fragment) = fragment.filter(|fragment| self.visited.insert(&fragment.name)) {
                        self.collect(&fragment.selection_set);
                    }
                }
            }
        }
    }

    fn is_included(&mut self, directives: &DirectiveList) -> bool {
        let [skip, include] = ["skip", "include"].map(|name| condition(directives, name).map(|value| &**value));
        for value in [skip, include].into_iter().flatten() {
            self.has_variable_condition |= matches!(value, Value::Variable(_));
        }
        skip != Some(&Value::Boolean(true)) && include != Some(&Value::Boolean(false))
    }
}
