//! Null propagation (GraphQL specification, section 6.4.4), which the library does incompletely.
//!
//! async-graphql 7.2.1 removes a failed field from its object, whatever its type. So a client could receive
//! `{"home": {}}` or `[null]` for `[Home!]!`. This module follows the path of each error through the types of the
//! schema. A nullable field becomes `null`; a non-null field makes its nearest nullable ancestor `null`. It runs
//! only for responses with errors.

use std::collections::HashMap;

use async_graphql::parser::types::{
    BaseType, ExecutableDocument, OperationType, Selection, SelectionSet, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, PathSegment, Response, Value};

/// The types of all fields of all objects, by name.
pub(super) struct Types {
    fields: HashMap<String, HashMap<String, Type>>,
    roots: [String; 3],
}

impl Types {
    /// Reads the types from the schema's text, once when the server starts.
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

/// One step of a path: the type of its field and the selections below it.
struct Step<'a> {
    ty: &'a Type,
    below: Vec<Scope<'a>>,
}

/// Corrects the `data` of a response by its errors.
pub(super) fn propagate(
    response: &mut Response,
    document: &ExecutableDocument,
    operation: Option<&str>,
    types: &Types,
) {
    let Response { data, errors, .. } = response;
    let selected =
        document.operations.iter().find(|(name, _)| operation.is_none() || name.map(Name::as_str) == operation);
    let (Some((_, operation)), true) = (selected, errors.iter().any(|error| !error.path.is_empty())) else { return };
    let root = (types.root(operation.node.ty), &operation.node.selection_set.node);
    let mut fatal = Vec::new();
    for error in errors.iter().filter(|error| !error.path.is_empty()) {
        // Paths into introspection and some errors of the library name no field of the schema.
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
    // Last, because nothing below a removed ancestor may be set again.
    for path in fatal {
        match path {
            Some(path) => set_null(data, path, false),
            None => *data = Value::Null,
        }
    }
}

/// For each prefix of a path, whether its value may be null.
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

/// The field with this response key, in all scopes and their fragments.
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

/// The name of a type without its lists.
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

/// Sets a value to null. With `restore`, an object that the library made null because all its fields failed
/// becomes an object again.
fn set_null(data: &mut Value, path: &[PathSegment], restore: bool) {
    let mut here = data;
    for (n, segment) in path.iter().enumerate() {
        let last = n + 1 == path.len();
        here = match segment {
            PathSegment::Field(key) => {
                if restore && *here == Value::Null {
                    *here = Value::Object(Default::default());
                }
                let Value::Object(map) = here else { return };
                map.entry(Name::new(key)).or_insert(Value::Null)
            }
            PathSegment::Index(at) => {
                // A list that failed as a whole is not restored.
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
