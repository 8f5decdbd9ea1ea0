//! Random selections over the schema: one field for every response key, no fragments, no directives.

use std::collections::HashMap;

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{BaseType, FieldDefinition, Type, TypeKind, TypeSystemDefinition};

/// Levels of objects below the root field.
const MAX_DEPTH: usize = 5;
/// Fields whose values differ from one moment to the next.
const UNSTABLE: [&str; 2] = ["sessions", "serverStatus"];

pub(super) struct Selections {
    objects: HashMap<String, Vec<FieldDefinition>>,
    home: String,
    devices: Vec<String>,
}

impl Selections {
    pub(super) fn new(sdl: &str, home: &str, devices: &[String]) -> Self {
        let definitions = parse_schema(sdl).unwrap().definitions.into_iter();
        let objects = definitions.filter_map(|definition| {
            let TypeSystemDefinition::Type(definition) = definition else { return None };
            let TypeKind::Object(object) = definition.node.kind else { return None };
            let fields = object.fields.into_iter().map(|field| field.node).collect();
            Some((definition.node.name.node.to_string(), fields))
        });
        Self { objects: objects.collect(), home: home.to_owned(), devices: devices.to_vec() }
    }

    /// All fields of a type that are no objects.
    pub(super) fn leaves(&self, object: &str) -> String {
        let leaves = self.objects[object].iter().filter(|field| !self.objects.contains_key(named(&field.ty.node)));
        leaves.map(|field| field.name.node.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// A query with one root field.
    pub(super) fn query(&self, random: &mut fastrand::Rng) -> String {
        let (home, device) = (&self.home, &self.devices[random.usize(..self.devices.len())]);
        let (root, object) = match random.u32(..8) {
            0..4 => (format!("devices(homeId: {home}, first: {})", random.u32(..5)), "DeviceConnection"),
            4..7 => (format!("device(id: {device})"), "Device"),
            _ => ("homes".to_owned(), "Home"),
        };
        // Half of the queries have no fields that need a loader.
        let plain = random.bool();
        format!("{{ {root} {} }}", self.set(random, object, 0, plain))
    }

    fn set(&self, random: &mut fastrand::Rng, object: &str, depth: usize, plain: bool) -> String {
        let mut fields: Vec<_> =
            self.objects[object].iter().filter(|field| self.is_wanted(field, depth, plain)).collect();
        random.shuffle(&mut fields);
        fields.truncate(random.usize(1..=6));
        let mut text = String::from("{");
        for (n, field) in fields.into_iter().enumerate() {
            let name = field.name.node.as_str();
            if random.u32(..12) == 0 {
                text.push_str(&format!(" __typename{n}: __typename"));
            }
            match random.u32(..10) {
                0 => text.push_str(&format!(" alias{n}: {name}")),
                _ => text.push_str(&format!(" {name}")),
            }
            if field.arguments.iter().any(|argument| argument.node.name.node == "first") && random.u32(..4) > 0 {
                // Some are refused.
                text.push_str(&format!("(first: {})", random.i32(-1..6)));
            }
            let inner = named(&field.ty.node);
            if self.objects.contains_key(inner) {
                text.push_str(&self.set(random, inner, depth + 1, plain));
            }
        }
        // A set may be left without fields where only objects would be too deep.
        if text == "{" { "{ __typename }".to_owned() } else { text + " }" }
    }

    fn is_wanted(&self, field: &FieldDefinition, depth: usize, plain: bool) -> bool {
        let (name, inner) = (field.name.node.as_str(), named(&field.ty.node));
        let is_row = matches!(inner, "Sensors" | "PageInfo" | "TelemetryEdge" | "DeviceEdge" | "Telemetry" | "Device")
            || matches!(inner, "TelemetryConnection" | "DeviceState");
        let is_object = self.objects.contains_key(inner);
        !UNSTABLE.contains(&name)
            && (!is_object || depth < MAX_DEPTH)
            && (!plain || !is_object || (is_row && name != "device"))
    }
}

/// The name of a type without its lists.
fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(item) => named(item),
    }
}
