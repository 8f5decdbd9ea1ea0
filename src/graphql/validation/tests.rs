use super::*;

const SDL: &str = "
    type Query { me: User! users(first: Int = 5, ids: [ID!], filter: Filter, kind: Kind! = BIG): [User!]! echo(json: JSON!): JSON }
    type Mutation { add(input: Input!): User }
    type Subscription { users(id: ID!): User  me: User }
    type User { id: ID! name: String friends(first: Int): [User!]! }
    input Filter { kind: Kind name: String ids: [ID!] }
    input Input { id: ID! kind: Kind! = BIG price: Float flag: Boolean tags: [String!] json: JSON inner: Input }
    enum Kind { BIG SMALL }
    scalar JSON
";

fn problems(text: &str) -> Vec<String> {
    let refused = Types::read(SDL, true).parse(text).err();
    let all = refused.iter().flat_map(|error| std::iter::once(error).chain(&error.others));
    all.map(ToString::to_string).collect()
}

#[test]
fn valid_documents_are_accepted() {
    for text in [
        "{ me { id ...F } } fragment F on User { id name }",
        "query($n: Int) { users(first: $n) { id } }",
        "query($n: Int = 3, $k: Kind) { users(first: $n, kind: $k) { id } }",
        "query($i: ID!, $k: Kind = SMALL) { users(ids: [$i, 7, \"8\"], filter: {kind: $k, ids: \"9\"}) { id } }",
        "query($x: Int) { echo(json: {a: $x, b: [null, 1.5, ENUM]}) }",
        "{ echo(json: [null, {a: 1}]) }",
        "{ me { id id: id } me { name } }",
        "subscription { users(id: 1) { id } ...F } fragment F on Subscription { users(id: 1) { name } }",
        "subscription { users(id: 1) { id } me @skip(if: true) { id } }",
        "query($b: Boolean!) { me { __typename @include(if: $b) } }",
        "mutation { add(input: {id: 1, price: 2, flag: true, tags: \"a\", inner: null}) { id } }",
        "{ __schema { types { name fields(includeDeprecated: true) { name } } } __type(name: \"User\") { name } }",
    ] {
        assert_eq!(problems(text), [""; 0], "{text}");
    }
}

#[test]
fn invalid_documents_are_refused_with_the_texts_of_graphql_js() {
    for (text, expected) in [
        ("{ me { nmae } }", "Cannot query field \"nmae\" on type \"User\". Did you mean \"name\"?"),
        ("{ me { id(x: 1) } }", "Unknown argument \"x\" on field \"User.id\"."),
        ("{ users(frist: 1) { id } }", "Unknown argument \"frist\" on field \"Query.users\". Did you mean \"first\"?"),
        ("{ me { id @skip(iff: true) } }", "Unknown argument \"iff\" on directive \"@skip\". Did you mean \"if\"?"),
        ("query($a: Usr) { users(filter: $a) { id } }", "Unknown type \"Usr\". Did you mean \"User\"?"),
        ("{ me }", "Field \"me\" of type \"User!\" must have a selection of subfields. Did you mean \"me { ... }\"?"),
        (
            "query($a: ID) { users(ids: [$a]) { id } }",
            "Variable \"$a\" of type \"ID\" used in position expecting type \"ID!\".",
        ),
        ("query($a: Kind = null) { users(kind: $a) { id } a: add }", "Cannot query field \"add\" on type \"Query\"."),
        ("query Q { echo(json: {a: $x}) }", "Variable \"$x\" is not defined by operation \"Q\"."),
        (
            "query($x: Int) { echo(json: [$x]) }",
            "Variable \"$x\" of type \"Int\" used in position expecting type \"JSON\".",
        ),
        ("query($x: Int) { me { id } }", "Variable \"$x\" is never used."),
        ("{ users(kind: null) { id } }", "Expected value of type \"Kind!\", found null."),
        ("{ users(kind: \"BIG\") { id } }", "Enum \"Kind\" cannot represent non-enum value."),
        ("{ users(kind: BGI) { id } }", "Value does not exist in \"Kind\" enum. Did you mean the enum value \"BIG\"?"),
        ("{ users(first: 2147483648) { id } }", "Int cannot represent non 32-bit signed integer value."),
        ("{ users(first: 1.0) { id } }", "Int cannot represent non-integer value."),
        (
            "{ users(filter: {kid: BIG}) { id } }",
            "Field \"kid\" is not defined by type \"Filter\". Did you mean \"kind\" or \"ids\"?",
        ),
        ("mutation { add(input: {}) { id } }", "Field \"Input.id\" of required type \"ID!\" was not provided."),
        ("mutation { add(input: {id: 1, id: 2}) { id } }", "There can be only one input field named \"id\"."),
        ("{ echo(json: {a: {b: 1, b: 2}}) }", "There can be only one input field named \"b\"."),
        (
            "{ a: users(ids: [1]) { id } a: users(ids: [1, 2]) { id } }",
            "Fields \"a\" conflict because they have differing arguments. Use different aliases on the fields to fetch both if this was intentional.",
        ),
        (
            "{ me { x: id } ...F } fragment F on Query { me { x: name } }",
            "Fields \"x\" conflict because \"id\" and \"name\" are different fields. Use different aliases on the fields to fetch both if this was intentional.",
        ),
        (
            "subscription S { users(id: 1) { id } me { id } }",
            "Subscription \"S\" must select only one top level field.",
        ),
        ("subscription { __typename }", "Anonymous Subscription must not select an introspection top level field."),
        (
            "subscription($b: Boolean!) { me @skip(if: $b) { id } }",
            "Anonymous Subscription can not specify @skip or @include on root fields.",
        ),
        (
            "{ me { ...F } } fragment F on User { ...G } fragment G on User { ...F }",
            "Cannot spread fragment \"F\" within itself.",
        ),
        ("{ me { id } } fragment F on User { id }", "Fragment \"F\" is never used."),
        (
            "{ me { ...F } } fragment F on Query { me { id } }",
            "Fragment \"F\" cannot be spread here as objects of type \"User\" can never be of type \"Query\".",
        ),
        ("query A { me { id } } { me { id } }", "This anonymous operation must be the only defined operation."),
    ] {
        let problems = problems(text);
        assert!(problems.iter().any(|problem| problem == expected), "{text}: {problems:?}");
    }
}

#[test]
fn without_introspection_errors_do_not_show_the_schema() {
    let types = Types::read(SDL, false);
    for text in ["{ me { nmae } }", "{ users(frist: 1) { id } }", "{ users(kind: BGI) { id } }"] {
        let message = types.parse(text).unwrap_err().to_string();
        assert!(!message.contains("Did you mean"), "{message}");
    }
}

#[test]
fn errors_name_the_argument_and_never_repeat_a_value() {
    let refused =
        "mutation { add(input: {id: 1, flag: \"hunter2\", price: hunter2, tags: [7777], inner: 7777}) { id } }";
    let error = Types::read(SDL, true).parse(refused).unwrap_err();
    let fields: Vec<_> = std::iter::once(&error).chain(&error.others).map(|e| e.field.clone().unwrap()).collect();
    assert_eq!(fields, ["input.flag", "input.price", "input.tags", "input.inner"]);
    let texts = format!("{error:?}");
    assert!(!texts.contains("hunter2") && !texts.contains("7777"), "{texts}");
}
