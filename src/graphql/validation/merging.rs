//! Fields of one response key select the same field with the same arguments, also below merged parents (specification,
//! section 5.3.2). The schema has no abstract types, so all fields of a selection set have one parent type.
//!
//! The walk is bounded by the limit of selections with fragments expanded.

use std::collections::{HashMap, HashSet};

use apollo_compiler::ast::Value;
use apollo_compiler::executable::{Argument, Field, Name, Operation, Selection, SelectionSet};
use apollo_compiler::{ExecutableDocument, Node};

use super::Problems;

struct Walk<'a, 'p> {
    document: &'a ExecutableDocument,
    text: &'a str,
    problems: &'p mut Problems,
}

/// Checks the fields of one operation.
pub(super) fn check(document: &ExecutableDocument, operation: &Operation, text: &str, problems: &mut Problems) {
    Walk { document, text, problems }.merged(&[&operation.selection_set]);
}

impl<'a> Walk<'a, '_> {
    /// Checks selection sets that are merged into one.
    fn merged(&mut self, sets: &[&'a SelectionSet]) {
        let (mut fields, mut visited) = (Vec::new(), HashSet::new());
        for set in sets {
            self.collect(set, &mut fields, &mut visited);
        }
        let mut by_key: HashMap<&str, Vec<&'a Node<Field>>> = HashMap::new();
        let mut keys = Vec::new();
        for field in fields {
            let same = by_key.entry(field.response_key().as_str()).or_default();
            if same.is_empty() {
                keys.push(field.response_key().as_str());
            }
            same.push(field);
        }
        for key in keys {
            let (first, others) = by_key[key].split_first().expect("a key has a field");
            for other in others {
                if let Some(reason) = self.conflict(first, other) {
                    let position = self.problems.position(other.location());
                    let hint = "Use different aliases on the fields to fetch both if this was intentional.";
                    self.problems.push(format!("Fields \"{key}\" conflict because {reason}. {hint}"), position);
                }
            }
            let below: Vec<_> = by_key[key].iter().map(|field| &field.selection_set).collect();
            if below.iter().any(|set| !set.selections.is_empty()) {
                self.merged(&below);
            }
        }
    }

    fn collect(&self, set: &'a SelectionSet, fields: &mut Vec<&'a Node<Field>>, visited: &mut HashSet<&'a Name>) {
        for selection in &set.selections {
            match selection {
                Selection::Field(field) => fields.push(field),
                Selection::InlineFragment(inline) => self.collect(&inline.selection_set, fields, visited),
                Selection::FragmentSpread(spread) => {
                    let fragment = self.document.fragments.get(&spread.fragment_name);
                    if let Some(fragment) = fragment.filter(|fragment| visited.insert(&fragment.name)) {
                        self.collect(&fragment.selection_set, fields, visited);
                    }
                }
            }
        }
    }

    fn conflict(&self, a: &Field, b: &Field) -> Option<String> {
        if a.name != b.name {
            return Some(format!("\"{}\" and \"{}\" are different fields", a.name, b.name));
        }
        let has_same = |argument: &Node<Argument>| {
            let other = b.arguments.iter().find(|other| other.name == argument.name);
            other.is_some_and(|other| self.is_same(&argument.value, &other.value))
        };
        let is_same = a.arguments.len() == b.arguments.len() && a.arguments.iter().all(has_same);
        (!is_same).then(|| "they have differing arguments".to_owned())
    }

    /// Compares as graphql-js does: by their text, with the fields of objects in any order.
    fn is_same(&self, a: &Node<Value>, b: &Node<Value>) -> bool {
        match (&**a, &**b) {
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.is_same(a, b)),
            (Value::Object(a), Value::Object(b)) => {
                let has_same = |(name, value): &(Name, Node<Value>)| {
                    b.iter().any(|(other, other_value)| name == other && self.is_same(value, other_value))
                };
                a.len() == b.len() && a.iter().all(has_same)
            }
            (Value::String(left), Value::String(right)) => left == right && self.is_block(a) == self.is_block(b),
            (a, b) => a == b,
        }
    }

    fn is_block(&self, string: &Node<Value>) -> bool {
        let start = string.location().and_then(|location| self.text.get(location.offset()..));
        start.is_some_and(|text| text.starts_with(r#"""""#))
    }
}
