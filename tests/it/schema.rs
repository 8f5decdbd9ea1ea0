//! Rules for the schema that keep common tools working: graphql-js prints it, code generators read it.

use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{InputValueDefinition, TypeKind, TypeSystemDefinition};
use async_graphql::{Name, Positioned, Value};
use smarthome::audit::Action;
use smarthome::error::codes::{CODES, REASONS};
use smarthome::mqtt::Rejection;

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

/// The convention that docs/clients.md states. Arguments of before it are deprecated.
#[test]
fn a_mutation_takes_at_most_one_argument_and_returns_an_object_or_true() {
    let mut mutations = types().into_iter().filter_map(|(name, kind, _)| match kind {
        TypeKind::Object(object) if name == "Mutation" => Some(object.fields),
        _ => None,
    });
    for field in mutations.next().expect("mutations") {
        let name = &field.node.name.node;
        let is_deprecated = |argument: &&Positioned<InputValueDefinition>| !argument.node.directives.is_empty();
        let (deprecated, arguments): (Vec<_>, Vec<_>) = field.node.arguments.iter().partition(is_deprecated);
        // About the caller's own account nothing needs to be said.
        let [argument] = &arguments[..] else {
            assert_eq!(arguments.len(), 0, "{name} takes several arguments that are not deprecated");
            continue;
        };
        let ty = argument.node.ty.node.to_string();
        let is_input = argument.node.name.node == "input" && ty.trim_end_matches('!').ends_with("Input");
        let is_one_thing = ["ID!", "String!"].contains(&ty.as_str());
        assert!(is_input || is_one_thing, "{name}({}: {ty})", argument.node.name.node);
        assert!(ty.ends_with('!') || !deprecated.is_empty(), "{name} needs its `input`");
        for argument in deprecated {
            assert!(argument.node.ty.node.nullable, "{name}: {} would be required", argument.node.name.node);
        }
        let returned = field.node.ty.node.to_string();
        assert!(
            returned.ends_with('!') && !["String!", "ID!", "Int!"].contains(&returned.as_str()),
            "{name}: {returned}"
        );
    }
}

/// The words of a description: of a type, or of a field as `Type.field`.
fn described(path: &str) -> Vec<String> {
    let (wanted, wanted_field) = path.split_once('.').map_or((path, None), |(name, field)| (name, Some(field)));
    let document = parse_schema(smarthome::graphql::sdl()).expect("the schema's text parses");
    let definition = document.definitions.into_iter().find_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) if definition.node.name.node == wanted => Some(definition.node),
        _ => None,
    });
    let definition = definition.unwrap_or_else(|| panic!("no type {wanted}"));
    let text = match (wanted_field, definition.kind) {
        (None, _) => definition.description,
        (Some(name), TypeKind::Object(object)) => {
            let field = object.fields.into_iter().find(|field| field.node.name.node == name);
            field.unwrap_or_else(|| panic!("no field {path}")).node.description
        }
        (Some(_), _) => panic!("{path} is no field of an object"),
    };
    let text = text.expect("a description").node;
    let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    text.split(|c| !is_of_word(c)).map(|word| word.trim_end_matches('.').to_owned()).collect()
}

#[test]
fn texts_with_known_values_list_them() {
    // No home has a message for an unknown home.
    let rejections = Rejection::ALL.iter().filter(|rejection| **rejection != Rejection::UnknownHome);
    let listed: [(&str, Vec<&str>); 3] = [
        ("AuditEntry.action", Action::ALL.iter().map(|action| action.as_str()).collect()),
        ("RejectedMessage.reason", rejections.map(|rejection| rejection.as_str()).collect()),
        ("Query", CODES.iter().map(|code| code.name).chain(REASONS.iter().map(|reason| reason.name)).collect()),
    ];
    for (path, values) in listed {
        let words = described(path);
        let missing: Vec<_> = values.into_iter().filter(|value| !words.iter().any(|word| word == value)).collect();
        assert!(missing.is_empty(), "the description of {path} does not name {missing:?}");
    }
}
