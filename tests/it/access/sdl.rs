//! The fields and arguments of the schema, and those that an operation uses.

use std::collections::{BTreeMap, BTreeSet};

use async_graphql::Value;
use async_graphql::parser::types::{
    BaseType, Selection, SelectionSet, Type, TypeDefinition, TypeKind, TypeSystemDefinition,
};
use async_graphql::parser::{parse_query, parse_schema};

/// Arguments that refer to an object and are not of type `ID`.
const REFERENCES: [&str; 3] = ["after", "token", "refreshToken"];
pub(super) const ROOTS: [&str; 3] = ["Query", "Mutation", "Subscription"];

/// The objects and inputs of the schema.
pub(super) struct Sdl {
    objects: BTreeMap<String, BTreeMap<String, Field>>,
    inputs: BTreeMap<String, Vec<(String, String)>>,
}

/// A field of an object.
struct Field {
    /// The type without lists and exclamation marks.
    ty: String,
    is_nullable: bool,
    /// Names and types.
    arguments: Vec<(String, String)>,
}

/// The fields and arguments that one operation uses.
#[derive(Default, Debug)]
pub(super) struct Uses {
    /// `Type.field` of all selected fields.
    pub(super) fields: BTreeSet<String>,
    /// `Type.field.argument.…` and its variable.
    pub(super) arguments: BTreeMap<String, String>,
    /// The response keys from the root to the innermost first field.
    pub(super) path: Vec<String>,
}

fn named(ty: &Type) -> String {
    match &ty.base {
        BaseType::Named(name) => name.to_string(),
        BaseType::List(item) => named(item),
    }
}

impl Sdl {
    pub(super) fn read() -> Self {
        let text = smarthome::graphql::sdl();
        let mut sdl = Self { objects: BTreeMap::new(), inputs: BTreeMap::new() };
        for definition in parse_schema(text).expect("the schema's text parses").definitions {
            let TypeSystemDefinition::Type(definition) = definition else { continue };
            let TypeDefinition { name, kind, .. } = definition.node;
            match kind {
                TypeKind::Object(object) => {
                    let fields = object.fields.into_iter().map(|field| {
                        let arguments = field.node.arguments.iter();
                        let arguments = arguments.map(|a| (a.node.name.node.to_string(), named(&a.node.ty.node)));
                        let ty = &field.node.ty.node;
                        let known = Field { ty: named(ty), is_nullable: ty.nullable, arguments: arguments.collect() };
                        (field.node.name.node.to_string(), known)
                    });
                    sdl.objects.insert(name.node.to_string(), fields.collect());
                }
                TypeKind::InputObject(input) => {
                    let fields = input.fields.iter();
                    let fields = fields.map(|f| (f.node.name.node.to_string(), named(&f.node.ty.node)));
                    sdl.inputs.insert(name.node.to_string(), fields.collect());
                }
                TypeKind::Interface(_) | TypeKind::Union(_) => panic!("teach tests/it/access about {}", name.node),
                TypeKind::Scalar | TypeKind::Enum(_) => {}
            }
        }
        sdl
    }

    /// `Type.field` for every field of every object.
    pub(super) fn fields(&self) -> BTreeSet<String> {
        let fields = self.objects.iter();
        fields.flat_map(|(object, fields)| fields.keys().map(move |field| format!("{object}.{field}"))).collect()
    }

    /// The names of an object's fields.
    pub(super) fn fields_of(&self, object: &str) -> Vec<String> {
        self.objects[object].keys().cloned().collect()
    }

    /// `Type.field.argument.…` for every argument that refers to an object, also inside inputs and lists.
    pub(super) fn arguments(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (object, fields) in &self.objects {
            for (name, field) in fields {
                for (argument, ty) in &field.arguments {
                    self.collect_references(&format!("{object}.{name}"), argument, ty, &mut found);
                }
            }
        }
        found
    }

    fn collect_references(&self, place: &str, name: &str, ty: &str, found: &mut BTreeSet<String>) {
        let place = format!("{place}.{name}");
        // This ends, because no input of the schema contains itself.
        for (inner, ty) in self.inputs.get(ty).into_iter().flatten() {
            self.collect_references(&place, inner, ty, found);
        }
        if ty == "ID" || REFERENCES.contains(&name) {
            found.insert(place);
        }
    }

    /// Whether the type of a field is an object.
    pub(super) fn is_object(&self, field: &str) -> bool {
        let (object, field) = field.split_once('.').expect("Type.field");
        self.objects.contains_key(&self.objects[object][field].ty)
    }

    /// Whether a field may be null.
    pub(super) fn is_nullable(&self, object: &str, field: &str) -> bool {
        self.objects[object][field].is_nullable
    }

    pub(super) fn uses(&self, operation: &str) -> Uses {
        let document = parse_query(operation).unwrap_or_else(|error| panic!("{operation}: {error}"));
        let (_, operation) = document.operations.iter().next().expect("an operation");
        let root = operation.node.ty.to_string();
        let root = ROOTS.into_iter().find(|name| name.eq_ignore_ascii_case(&root)).expect("a root");
        let mut uses = Uses::default();
        self.walk(root, &operation.node.selection_set.node, true, &mut uses);
        uses
    }

    fn walk(&self, object: &str, set: &SelectionSet, mut is_first: bool, uses: &mut Uses) {
        for selection in &set.items {
            let Selection::Field(field) = &selection.node else { panic!("no fragments in {object}") };
            let name = field.node.name.node.as_str();
            if is_first {
                uses.path.push(field.node.response_key().node.to_string());
            }
            if name == "__typename" {
                continue;
            }
            let place = format!("{object}.{name}");
            let known = self.objects[object].get(name).unwrap_or_else(|| panic!("the schema has no {place}"));
            for (argument, value) in &field.node.arguments {
                let value = value.node.clone().into_const_with(|name| Ok::<_, ()>(Value::from(format!("${name}"))));
                variables(&format!("{place}.{}", argument.node), &value.expect("variables alone"), &mut uses.arguments);
            }
            uses.fields.insert(place);
            self.walk(&known.ty, &field.node.selection_set.node, is_first, uses);
            is_first = false;
        }
    }
}

fn variables(place: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(name) = text.strip_prefix('$') {
                found.insert(place.to_owned(), name.to_owned());
            }
        }
        Value::List(items) => items.iter().for_each(|item| variables(place, item, found)),
        Value::Object(fields) => fields.iter().for_each(|(n, value)| variables(&format!("{place}.{n}"), value, found)),
        _ => {}
    }
}
