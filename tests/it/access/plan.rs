//! Derives single cases from the policy: which actor sends which request about which home, and the expected outcome.

use std::collections::{BTreeSet, HashSet};

use super::arguments::{ARGUMENTS, ArgumentRule};
use super::fields::{FIELDS, Fields};
use super::operations::{ALSO_INVALID, ROWS, Row};
use super::rights::{NOT_FOUND, Outcome, Relation, Right};
use super::sdl::Sdl;
use super::world::{Actor, MALFORMED, Things, World, absent, declared};
use crate::support::user::User;

/// One request and its expected outcome.
pub(super) struct Case {
    /// Operation, actor and objects, for the report.
    pub(super) label: String,
    /// Index in `World::actors`.
    pub(super) actor: usize,
    pub(super) operation: String,
    pub(super) variables: serde_json::Value,
    pub(super) expected: Outcome,
    /// Paths at which the response must have a value.
    pub(super) paths: Vec<Vec<String>>,
    /// All cases with this name must get the same response.
    pub(super) same_response: Option<String>,
    /// Sends the request in place of the actor, with the same rights: the request ends the account.
    pub(super) stand_in: Option<User>,
}

/// All cases, by the way in which they are sent.
#[derive(Default)]
pub(super) struct Plan {
    /// By POST: reads and refused requests, which change nothing.
    pub(super) without_effect: Vec<Case>,
    /// By WebSocket.
    pub(super) subscriptions: Vec<Case>,
    /// Allowed mutations by actor. Each needs a home of its own.
    pub(super) changes: Vec<(usize, &'static Row)>,
    /// Arguments for which other values were tried.
    pub(super) varied_arguments: BTreeSet<String>,
}

/// A value for an argument.
struct Variant {
    name: String,
    value: String,
}

pub(super) async fn plan(world: &World, sdl: &Sdl) -> Plan {
    let mut plan = Plan::default();
    for row in ROWS {
        let arguments: Vec<(String, String)> = sdl.uses(row.operation).arguments.into_iter().collect();
        // Only the first row with an argument varies it. Later rows are about other rights.
        let is_fresh = |place: &String| argument_rule(place).is_some() && !plan.varied_arguments.contains(place);
        let fresh: Vec<_> = arguments.iter().filter(|(place, _)| is_fresh(place)).cloned().collect();
        plan.varied_arguments.extend(fresh.iter().map(|(place, _)| place.clone()));
        for actor in 0..world.actors.len() {
            plan.row(world, sdl, row, actor).await;
            for (place, variable) in &fresh {
                plan.argument(world, row, actor, place, variable).await;
            }
            if arguments.len() > 1 {
                plan.all_foreign(world, row, actor, &arguments).await;
            }
        }
    }
    for fields in FIELDS {
        for actor in 0..world.actors.len() {
            plan.fields(world, sdl, fields, actor).await;
        }
    }
    for operation in ALSO_INVALID {
        for at in 0..world.actors.len() {
            plan.also_invalid(world, operation, at).await;
        }
    }
    plan
}

/// The rule of the policy for an argument.
pub(super) fn argument_rule(place: &str) -> Option<ArgumentRule> {
    ARGUMENTS.iter().find(|(name, _)| *name == place).map(|(_, naming)| *naming)
}

impl Plan {
    /// The operation of a row, about the home of the members.
    async fn row(&mut self, world: &World, sdl: &Sdl, row: &'static Row, at: usize) {
        let actor = &world.actors[at];
        let expected = expected_outcome(actor, row.right, row.operation);
        if expected == Outcome::Allowed && gets_no_event(actor, row) {
            return;
        }
        if expected == Outcome::Allowed && row.is_mutation() {
            self.changes.push((at, row));
            return;
        }
        let paths = if expected == Outcome::Allowed { vec![sdl.uses(row.operation).path] } else { Vec::new() };
        // A non-member must not be able to tell the home from one that does not exist.
        let names_home = row.right.lowest_role().is_some();
        let same_response = (expected == NOT_FOUND && names_home).then(|| format!("{} {}", row.name, actor.name));
        let case = case(world, row.name, row.operation, at, &world.own, &[], expected).await;
        self.push(row, Case { paths, same_response, ..case });
    }

    /// Varies one argument; all others refer to the home.
    async fn argument(&mut self, world: &World, row: &'static Row, at: usize, place: &str, variable: &str) {
        let actor = &world.actors[at];
        let rule = argument_rule(place).expect("a row of the policy");
        let outcome = expected_outcome(actor, row.right, row.operation);
        let expected = match rule {
            ArgumentRule::Target => actor.relation.outcome_if_missing(row.right),
            ArgumentRule::Within if outcome == Outcome::Allowed => actor.relation.outcome_if_missing(row.right),
            ArgumentRule::Within | ArgumentRule::Filter | ArgumentRule::Cursor => outcome,
            ArgumentRule::Secret(code) if outcome == Outcome::Allowed && !code.is_empty() => Outcome::Refused(code),
            ArgumentRule::Secret(_) => outcome,
        };
        if expected == Outcome::Allowed && gets_no_event(actor, row) {
            return;
        }
        let mut variants = Vec::new();
        if let Some(foreign) = world.foreign.get(variable) {
            variants.push(Variant { name: format!("a foreign {variable}"), value: foreign.clone() });
        }
        if rule != ArgumentRule::Cursor {
            variants.push(Variant { name: format!("an absent {variable}"), value: absent(variable) });
        }
        // What is no id at all is judged before anybody is looked at: a few will do.
        if matches!(rule, ArgumentRule::Target | ArgumentRule::Within | ArgumentRule::Filter)
            && ["owner", "stranger"].contains(&actor.name)
        {
            let malformed = MALFORMED.into_iter();
            variants.extend(malformed.map(|value| Variant { name: format!("{value:?}"), value: value.to_owned() }));
        }
        // A non-member gets the same response for every value of a target.
        let group = if rule == ArgumentRule::Target { String::new() } else { place.to_owned() };
        let same_response = (rule != ArgumentRule::Cursor).then(|| format!("{} {}{group}", row.name, actor.name));
        for Variant { name, value } in variants {
            let label = format!("{} with {name}", row.name);
            let over = [(variable.to_owned(), value)];
            let case = case(world, &label, row.operation, at, &world.own, &over, expected).await;
            self.push(row, Case { same_response: same_response.clone(), ..case });
        }
    }

    /// All arguments refer to the foreign home, or to absent objects.
    async fn all_foreign(&mut self, world: &World, row: &'static Row, at: usize, arguments: &[(String, String)]) {
        let actor = &world.actors[at];
        if !arguments.iter().any(|(place, _)| argument_rule(place) == Some(ArgumentRule::Target)) {
            return;
        }
        let expected = actor.relation.outcome_if_missing(row.right);
        let elsewhere = |to: fn(&World, &str) -> Option<String>| {
            let leads = |place| {
                matches!(argument_rule(place), Some(ArgumentRule::Target | ArgumentRule::Within | ArgumentRule::Filter))
            };
            let over = arguments.iter().filter(|(place, _)| leads(place));
            over.filter_map(|(_, variable)| Some((variable.clone(), to(world, variable)?))).collect::<Vec<_>>()
        };
        let foreign = elsewhere(|world, variable| world.foreign.get(variable).cloned());
        let nowhere = elsewhere(|_, variable| Some(absent(variable)));
        for (name, over) in [("all foreign", foreign), ("all absent", nowhere)] {
            let label = format!("{} with {name}", row.name);
            let case = case(world, &label, row.operation, at, &world.own, &over, expected).await;
            let same_response = Some(format!("{} {}", row.name, actor.name));
            self.push(row, Case { same_response, ..case });
        }
    }

    /// Requests about foreign and absent objects that are invalid for another reason too.
    async fn also_invalid(&mut self, world: &World, operation: &str, at: usize) {
        let actor = &world.actors[at];
        let (_, names) = declared(operation);
        let variable = names.first().expect("a variable");
        let expected = actor.relation.outcome_if_missing(Right::Configure);
        for (what, value) in [("foreign", world.foreign[variable.as_str()].clone()), ("absent", absent(variable))] {
            let over = [(variable.clone(), value)];
            let case = case(world, &format!("{operation} ({what})"), operation, at, &world.own, &over, expected).await;
            self.without_effect.push(Case { same_response: Some(format!("{operation} {}", actor.name)), ..case });
        }
    }

    /// The fields of one object: all allowed fields in one request, each refused field in its own, and all fields of
    /// a foreign and an absent object.
    async fn fields(&mut self, world: &World, sdl: &Sdl, fields: &Fields, at: usize) {
        let actor = &world.actors[at];
        let label = |what: &str| format!("{} of {} ({what})", fields.object, fields.path);
        let selected = |name: &str| selected(sdl, fields.object, name);
        let every = fields.fields(sdl);
        let (allowed, refused): (Vec<_>, Vec<_>) =
            every.iter().partition(|(right, _)| expected_outcome(actor, *right, fields.path) == Outcome::Allowed);
        if !allowed.is_empty() {
            let paths = allowed.iter().map(|(_, name)| sdl.uses(&fields.path.replace('@', &selected(name))).path);
            let paths = paths.collect();
            let names = allowed.iter().map(|(_, name)| selected(name)).collect::<Vec<_>>().join(" ");
            let operation = fields.path.replace('@', &names);
            let case = case(world, &label("all allowed"), &operation, at, &world.own, &[], Outcome::Allowed).await;
            self.without_effect.push(Case { paths, ..case });
        }
        for (right, name) in refused {
            let operation = fields.path.replace('@', &selected(name));
            let expected = expected_outcome(actor, *right, fields.path);
            self.without_effect.push(case(world, &label(name), &operation, at, &world.own, &[], expected).await);
        }
        let (_, variables) = declared(fields.path);
        let Some(variable) = variables.first() else { return };
        let names = every.iter().map(|(_, name)| selected(name)).collect::<Vec<_>>().join(" ");
        let operation = fields.path.replace('@', &names);
        let expected = actor.relation.outcome_if_missing(Right::Identity);
        for (what, value) in [("foreign", world.foreign[variable.as_str()].clone()), ("absent", absent(variable))] {
            let over = [(variable.clone(), value)];
            let case = case(world, &label(what), &operation, at, &world.own, &over, expected).await;
            self.without_effect.push(Case { same_response: Some(format!("{} {}", fields.path, actor.name)), ..case });
        }
    }

    fn push(&mut self, row: &Row, case: Case) {
        if row.is_subscription() { self.subscriptions.push(case) } else { self.without_effect.push(case) }
    }
}

/// An integration for some devices receives events of these only (tests/it/integrations.rs), and here they have none.
fn gets_no_event(actor: &Actor, row: &Row) -> bool {
    actor.relation == Relation::RestrictedToken && row.is_subscription() && row.operation.contains("homeId:")
}

/// The selection of a field, with `__typename` below an object.
pub(super) fn selected(sdl: &Sdl, object: &str, name: &str) -> String {
    let inner = if sdl.is_object(&format!("{object}.{name}")) { " { __typename }" } else { "" };
    format!("{name}{inner}")
}

/// The expected outcome of a request about the home. An integration for another device does not find this one.
pub(super) fn expected_outcome(actor: &Actor, right: Right, operation: &str) -> Outcome {
    let names_device = declared(operation).1.iter().any(|name| name == "device" || name == "command");
    let is_led_by_home = operation.contains("$home");
    match actor.relation {
        Relation::RestrictedToken if names_device && !is_led_by_home => NOT_FOUND,
        relation => relation.outcome(right),
    }
}

/// One case, with other values for some of its variables.
pub(super) async fn case(
    world: &World,
    what: &str,
    operation: &str,
    actor: usize,
    things: &Things,
    over: &[(String, String)],
    expected: Outcome,
) -> Case {
    let (operation, names) = declared(operation);
    let Actor { name, .. } = &world.actors[actor];
    let mut variables = world.variables(&names, &world.actors[actor], things).await;
    for (variable, value) in over {
        variables[variable] = value.clone().into();
    }
    let label = format!("{what}, by {name}");
    Case { label, actor, operation, variables, expected, paths: Vec::new(), same_response: None, stand_in: None }
}

/// Parts of the schema that the policy does not cover, and rows of the policy without a part of the schema.
pub(super) fn gaps(sdl: &Sdl) -> Vec<String> {
    let mut gaps = Vec::new();
    let (mut known, mut selected): (HashSet<String>, HashSet<String>) = (HashSet::new(), HashSet::new());
    for row in ROWS {
        let uses = sdl.uses(row.operation);
        known.insert(row.field().to_owned());
        if !uses.fields.contains(row.field()) {
            gaps.push(format!("the operation of {} does not select it: see operations.rs", row.name));
        }
        selected.extend(uses.fields);
    }
    for fields in FIELDS {
        known.extend(fields.fields(sdl).iter().map(|(_, name)| format!("{}.{name}", fields.object)));
    }
    let schema = sdl.fields();
    for field in &schema {
        let object = field.split('.').next().unwrap_or_default();
        let is_returned_once = super::fields::RETURNED_ONCE.contains(&object);
        if is_returned_once && !selected.contains(field) {
            gaps.push(format!("{field} is returned once: select it in an operation of operations.rs"));
        }
        if !is_returned_once && !known.contains(field) {
            gaps.push(format!(
                "{field} has no row: add its right in tests/it/access/operations.rs for a root field, otherwise in fields.rs"
            ));
        }
    }
    gaps.extend(
        known.iter().filter(|f| !schema.contains(*f)).map(|f| format!("{f} has a row but is not in the schema")),
    );
    let arguments = sdl.arguments();
    for argument in &arguments {
        if argument_rule(argument).is_none() {
            gaps.push(format!(
                "{argument} refers to an object and has no row: add a rule to ARGUMENTS of tests/it/access/arguments.rs, and \
                 use a variable for it in an operation"
            ));
        }
    }
    let stale = ARGUMENTS.iter().filter(|(name, _)| !arguments.contains(*name));
    gaps.extend(stale.map(|(name, _)| format!("{name} has a row but is no argument of the schema")));
    gaps
}
