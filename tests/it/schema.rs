//! Rules for the schema that keep common tools working: graphql-js prints it, code generators read it.

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{InputValueDefinition, TypeKind, TypeSystemDefinition};
use async_graphql::{Name, Positioned, Value};

/// Scalars that follow no published specification.
const WITHOUT_SPECIFICATION: [&str; 1] = ["MacAddress"];

fn types() -> Vec<(String, TypeKind, Vec<Name>)> {
    let document = parse_schema(smarthome::graphql::sdl()).expect("the schema's text parses");
    let definitions = document.definitions.into_iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(definition.node),
        _ => None,
    });
    let definitions = definitions.map(|definition| {
        let directives = definition.directives.into_iter().map(|directive| directive.node.name.node).collect();
        (definition.name.node.to_string(), definition.kind, directives)
    });
    definitions.collect()
}

#[test]
fn no_default_is_an_object_or_a_list() {
    let find = |owner: &str, inputs: &[Positioned<InputValueDefinition>]| {
        let defaults = inputs.iter().filter(|input| {
            let default = input.node.default_value.as_ref().map(|value| &value.node);
            matches!(default, Some(Value::Object(_) | Value::List(_)))
        });
        defaults.map(|input| format!("{owner}.{}", input.node.name.node)).collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    for (name, kind, _) in types() {
        match kind {
            TypeKind::InputObject(input) => found.extend(find(&name, &input.fields)),
            TypeKind::Object(object) => {
                for field in object.fields {
                    found.extend(find(&format!("{name}.{}", field.node.name.node), &field.node.arguments));
                }
            }
            _ => {}
        }
    }
    assert!(found.is_empty(), "graphql-js cannot print these defaults: {}", found.join(", "));
}

#[test]
fn every_scalar_names_its_specification() {
    let scalars = types().into_iter().filter(|(_, kind, _)| matches!(kind, TypeKind::Scalar));
    for (name, _, directives) in scalars {
        let is_specified = directives.iter().any(|directive| directive == "specifiedBy");
        assert_eq!(is_specified, !WITHOUT_SPECIFICATION.contains(&name.as_str()), "{name}");
    }
}
