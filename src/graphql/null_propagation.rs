//! Null propagation, which the library leaves half done.
//!
//! async-graphql 7.2.1 drops a failed field from its object, whatever its type, so `{"home": {}}` or
//! `[null]` may reach a client that was promised `[Home!]!`. Here each error's path is walked through
//! the schema's types: a nullable field becomes `null`, a non-null one takes its nearest nullable
//! ancestor with it, as the specification says. Runs only where there are errors.

use std::collections::HashMap;

use async_graphql::parser::types::{
    BaseType, ExecutableDocument, OperationType, Selection, SelectionSet, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, PathSegment, Response, Value};

/// The type of every field of every object, by name.
pub(super) struct Types {
    fields: HashMap<String, HashMap<String, Type>>,
    roots: [String; 3],
}

impl Types {
    /// From the schema's text, once at the start.
    pub(super) fn read(sdl: &str) -> Self {
        let schema = async_graphql::parser::parse_schema(sdl).expect("the library's own SDL parses");
        let mut types =
            Self { fields: HashMap::new(), roots: ["Query", "Mutation", "Subscription"].map(str::to_owned) };
        for definition in schema.definitions {
            match definition {
                TypeSystemDefinition::Schema(schema) => {
                    let roots = [schema.node.query, schema.node.mutation, schema.node.subscription];
                    for (root, name) in types.roots.iter_mut().zip(roots) {
                        if let Some(name) = name {
                            *root = name.node.to_string();
                        }
                    }
                }
                TypeSystemDefinition::Type(definition) => {
                    let fields = match definition.node.kind {
                        TypeKind::Object(object) => object.fields,
                        TypeKind::Interface(interface) => interface.fields,
                        _ => continue,
                    };
                    let fields = fields.into_iter().map(|f| (f.node.name.node.to_string(), f.node.ty.node));
                    types.fields.insert(definition.node.name.node.to_string(), fields.collect());
                }
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        types
    }

    fn root(&self, kind: OperationType) -> &str {
        &self.roots[match kind {
            OperationType::Query => 0,
            OperationType::Mutation => 1,
            OperationType::Subscription => 2,
        }]
    }

    fn field(&self, object: &str, name: &str) -> Option<&Type> {
        self.fields.get(object)?.get(name)
    }
}

/// A selection set and the type it selects from.
type Scope<'a> = (&'a str, &'a SelectionSet);

/// What stands at one step of a path: its type, and what is selected below it.
struct Step<'a> {
    ty: &'a Type,
    below: Vec<Scope<'a>>,
}

/// Puts an answer's `data` right by its errors.
pub(super) fn propagate(
    response: &mut Response,
    document: &ExecutableDocument,
    operation: Option<&str>,
    types: &Types,
) {
    let Response { data, errors, .. } = response;
    let meant = document.operations.iter().find(|(name, _)| operation.is_none() || name.map(Name::as_str) == operation);
    let (Some((_, operation)), true) = (meant, errors.iter().any(|error| !error.path.is_empty())) else { return };
    let root = (types.root(operation.node.ty), &operation.node.selection_set.node);
    let mut fatal = Vec::new();
    for error in errors.iter().filter(|error| !error.path.is_empty()) {
        // A path that leads nowhere (introspection, or an error of the library's own) is left alone.
        let Some(nullable) = nullable_steps(&error.path, root, document, types) else { continue };
        if is_present(data, &error.path) {
            continue;
        }
        match nullable.iter().rposition(|nullable| *nullable) {
            Some(at) if at + 1 == nullable.len() => set_null(data, &error.path, true),
            Some(at) => fatal.push(Some(&error.path[..=at])),
            None => fatal.push(None),
        }
    }
    // Last, because whatever an ancestor takes with it is gone for good.
    for path in fatal {
        match path {
            Some(path) => set_null(data, path, false),
            None => *data = Value::Null,
        }
    }
}

/// For each prefix of a path, whether its place may be null.
fn nullable_steps<'a>(
    path: &[PathSegment],
    root: Scope<'a>,
    document: &'a ExecutableDocument,
    types: &'a Types,
) -> Option<Vec<bool>> {
    let mut nullable = Vec::with_capacity(path.len());
    let mut scopes = vec![root];
    let mut here: Option<&Type> = None;
    for segment in path {
        let ty = match segment {
            PathSegment::Field(key) => {
                let step = step(key, &scopes, document, types)?;
                scopes = step.below;
                step.ty
            }
            PathSegment::Index(_) => match &here?.base {
                BaseType::List(item) => item,
                BaseType::Named(_) => return None,
            },
        };
        nullable.push(ty.nullable);
        here = Some(ty);
    }
    Some(nullable)
}

/// The field that answers under a key, looked for in all scopes and through fragments.
fn step<'a>(key: &str, scopes: &[Scope<'a>], document: &'a ExecutableDocument, types: &'a Types) -> Option<Step<'a>> {
    let mut found: Option<Step<'a>> = None;
    let mut open = scopes.to_vec();
    while let Some((object, set)) = open.pop() {
        for item in &set.items {
            match &item.node {
                Selection::Field(field) if field.node.response_key().node.as_str() == key => {
                    let Some(ty) = types.field(object, field.node.name.node.as_str()) else { continue };
                    let below = (named(ty), &field.node.selection_set.node);
                    match &mut found {
                        Some(step) => step.below.push(below),
                        None => found = Some(Step { ty, below: vec![below] }),
                    }
                }
                Selection::Field(_) => {}
                Selection::InlineFragment(inline) => {
                    let on = inline.node.type_condition.as_ref().map_or(object, |on| on.node.on.node.as_str());
                    open.push((on, &inline.node.selection_set.node));
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                        let on = fragment.node.type_condition.node.on.node.as_str();
                        open.push((on, &fragment.node.selection_set.node));
                    }
                }
            }
        }
    }
    found
}

/// The name inside all lists.
fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(item) => named(item),
    }
}

fn is_present(data: &Value, path: &[PathSegment]) -> bool {
    let mut here = data;
    for segment in path {
        let next = match (segment, here) {
            (PathSegment::Field(key), Value::Object(map)) => map.get(key.as_str()),
            (PathSegment::Index(at), Value::List(items)) => items.get(*at),
            _ => None,
        };
        let Some(next) = next else { return false };
        here = next;
    }
    *here != Value::Null
}

/// Makes a place null. `revive`: an object that lost all its fields stands as null, and is one again.
fn set_null(data: &mut Value, path: &[PathSegment], revive: bool) {
    let mut here = data;
    for (n, segment) in path.iter().enumerate() {
        let last = n + 1 == path.len();
        here = match segment {
            PathSegment::Field(key) => {
                if revive && *here == Value::Null {
                    *here = Value::Object(Default::default());
                }
                let Value::Object(map) = here else { return };
                map.entry(Name::new(key)).or_insert(Value::Null)
            }
            PathSegment::Index(at) => {
                // A list that failed as a whole is not made up again.
                let Value::List(items) = here else { return };
                let Some(item) = items.get_mut(*at) else { return };
                item
            }
        };
        if last {
            *here = Value::Null;
        }
    }
}
