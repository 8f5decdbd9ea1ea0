//! From the policy to single questions: who asks what about which home, and what must come of it.

use std::collections::{BTreeSet, HashSet};

use super::fields::{FIELDS, Fields};
use super::operations::{ARGUMENTS, Naming, ROWS, Row, WRONG_TOO};
use super::rights::{NOT_FOUND, Outcome, Right, Standing};
use super::sdl::Sdl;
use super::world::{Actor, MALFORMED, Things, World, absent, declared};

/// One question and what must come of it.
pub(super) struct Cell {
    /// What, by whom, about what.
    pub(super) label: String,
    /// Index of who asks.
    pub(super) actor: usize,
    pub(super) operation: String,
    pub(super) variables: serde_json::Value,
    pub(super) expected: Outcome,
    /// Where an answer must have something.
    pub(super) paths: Vec<Vec<String>>,
    /// All that bear this name must get one and the same answer.
    pub(super) alike: Option<String>,
}

/// All questions, by how they are asked.
#[derive(Default)]
pub(super) struct Plan {
    /// By POST: what changes nothing, because it reads or because it is refused.
    pub(super) still: Vec<Cell>,
    /// By subscription.
    pub(super) streams: Vec<Cell>,
    /// What changes a home, by actor: each needs a home of its own.
    pub(super) changes: Vec<(usize, &'static Row)>,
    /// Arguments that were varied.
    pub(super) varied: BTreeSet<String>,
}

/// What an argument is made to name.
struct Variant {
    name: String,
    value: String,
}

pub(super) async fn plan(world: &World, sdl: &Sdl) -> Plan {
    let mut plan = Plan::default();
    for row in ROWS {
        let arguments: Vec<(String, String)> = sdl.uses(row.operation).arguments.into_iter().collect();
        // The first row that has an argument tries it out; later ones are about other rights.
        let is_fresh = |place: &String| naming(place).is_some() && !plan.varied.contains(place);
        let fresh: Vec<_> = arguments.iter().filter(|(place, _)| is_fresh(place)).cloned().collect();
        plan.varied.extend(fresh.iter().map(|(place, _)| place.clone()));
        for actor in 0..world.actors.len() {
            plan.row(world, sdl, row, actor).await;
            for (place, variable) in &fresh {
                plan.argument(world, row, actor, place, variable).await;
            }
            if arguments.len() > 1 {
                plan.all_elsewhere(world, row, actor, &arguments).await;
            }
        }
    }
    for fields in FIELDS {
        for actor in 0..world.actors.len() {
            plan.fields(world, sdl, fields, actor).await;
        }
    }
    for operation in WRONG_TOO {
        for at in 0..world.actors.len() {
            plan.wrong_too(world, operation, at).await;
        }
    }
    plan
}

/// What the policy says of an argument.
pub(super) fn naming(place: &str) -> Option<Naming> {
    ARGUMENTS.iter().find(|(name, _)| *name == place).map(|(_, naming)| *naming)
}

impl Plan {
    /// The operation as it stands, about the home that everybody but the outsiders belongs to.
    async fn row(&mut self, world: &World, sdl: &Sdl, row: &'static Row, at: usize) {
        let actor = &world.actors[at];
        let expected = asks(actor, row.right, row.operation);
        // It hears of its own devices alone (tests/it/integrations.rs), and those are quiet here.
        if actor.standing == Standing::Narrowed && row.is_subscription() && row.name.contains("of a home") {
            return;
        }
        if expected == Outcome::Allowed && row.is_mutation() {
            self.changes.push((at, row));
            return;
        }
        let paths = if expected == Outcome::Allowed { vec![sdl.uses(row.operation).path] } else { Vec::new() };
        // To an outsider the home is as absent as any that never was.
        let names_home = row.right.least().is_some();
        let alike = (expected == NOT_FOUND && names_home).then(|| format!("{} {}", row.name, actor.name));
        let cell = cell(world, row.name, row.operation, at, &world.own, &[], expected).await;
        self.push(row, Cell { paths, alike, ..cell });
    }

    /// One argument leads elsewhere, all others to where they should.
    async fn argument(&mut self, world: &World, row: &'static Row, at: usize, place: &str, variable: &str) {
        let actor = &world.actors[at];
        let rule = naming(place).expect("a row of the policy");
        let asks = asks(actor, row.right, row.operation);
        let expected = match rule {
            Naming::Target => actor.standing.misses(row.right),
            Naming::Within if asks == Outcome::Allowed => actor.standing.misses(row.right),
            Naming::Within | Naming::Filter | Naming::Place => asks,
            Naming::Secret(code) if asks == Outcome::Allowed && !code.is_empty() => Outcome::Refused(code),
            Naming::Secret(_) => asks,
        };
        let mut variants = Vec::new();
        if let Some(foreign) = world.foreign.get(variable) {
            variants.push(Variant { name: format!("a foreign {variable}"), value: foreign.clone() });
        }
        if rule != Naming::Place {
            variants.push(Variant { name: format!("an absent {variable}"), value: absent(variable) });
        }
        // What is no id at all is judged before anybody is looked at: a few will do.
        if matches!(rule, Naming::Target | Naming::Within | Naming::Filter)
            && ["owner", "stranger"].contains(&actor.name)
        {
            let malformed = MALFORMED.into_iter();
            variants.extend(malformed.map(|value| Variant { name: format!("{value:?}"), value: value.to_owned() }));
        }
        // Whoever may not even ask is told so, and about a target an outsider hears what all hear.
        let group = if rule == Naming::Target { String::new() } else { place.to_owned() };
        let alike = (rule != Naming::Place).then(|| format!("{} {}{group}", row.name, actor.name));
        for Variant { name, value } in variants {
            let label = format!("{} with {name}", row.name);
            let over = [(variable.to_owned(), value)];
            let cell = cell(world, &label, row.operation, at, &world.own, &over, expected).await;
            self.push(row, Cell { alike: alike.clone(), ..cell });
        }
    }

    /// All arguments lead to the foreign home, or nowhere.
    async fn all_elsewhere(&mut self, world: &World, row: &'static Row, at: usize, arguments: &[(String, String)]) {
        let actor = &world.actors[at];
        if !arguments.iter().any(|(place, _)| naming(place) == Some(Naming::Target)) {
            return;
        }
        let expected = actor.standing.misses(row.right);
        let elsewhere = |to: fn(&World, &str) -> Option<String>| {
            let leads = |place| matches!(naming(place), Some(Naming::Target | Naming::Within | Naming::Filter));
            let over = arguments.iter().filter(|(place, _)| leads(place));
            over.filter_map(|(_, variable)| Some((variable.clone(), to(world, variable)?))).collect::<Vec<_>>()
        };
        let foreign = elsewhere(|world, variable| world.foreign.get(variable).cloned());
        let nowhere = elsewhere(|_, variable| Some(absent(variable)));
        for (name, over) in [("all foreign", foreign), ("all absent", nowhere)] {
            let label = format!("{} with {name}", row.name);
            let cell = cell(world, &label, row.operation, at, &world.own, &over, expected).await;
            let alike = Some(format!("{} {}", row.name, actor.name));
            self.push(row, Cell { alike, ..cell });
        }
    }

    /// What is wrong anyway, about what is elsewhere.
    async fn wrong_too(&mut self, world: &World, operation: &str, at: usize) {
        let actor = &world.actors[at];
        let (_, names) = declared(operation);
        let variable = names.first().expect("a variable");
        let expected = actor.standing.misses(Right::Configure);
        for (what, value) in [("foreign", world.foreign[variable.as_str()].clone()), ("absent", absent(variable))] {
            let over = [(variable.clone(), value)];
            let cell = cell(world, &format!("{operation} ({what})"), operation, at, &world.own, &over, expected).await;
            self.still.push(Cell { alike: Some(format!("{operation} {}", actor.name)), ..cell });
        }
    }

    /// What is seen of one object: all that is allowed at once, what is refused one by one, and all of it
    /// of an object elsewhere.
    async fn fields(&mut self, world: &World, sdl: &Sdl, fields: &Fields, at: usize) {
        let actor = &world.actors[at];
        let label = |what: &str| format!("{} of {} ({what})", fields.object, fields.road);
        let selected = |name: &str| {
            let inner = if sdl.is_object(&format!("{}.{name}", fields.object)) { " { __typename }" } else { "" };
            format!("{name}{inner}")
        };
        let every = fields.rights.iter().flat_map(|(right, names)| names.split_whitespace().map(move |n| (*right, n)));
        let (allowed, refused): (Vec<_>, Vec<_>) =
            every.clone().partition(|(right, _)| asks(actor, *right, fields.road) == Outcome::Allowed);
        if !allowed.is_empty() {
            let paths = allowed.iter().map(|(_, name)| sdl.uses(&fields.road.replace('@', &selected(name))).path);
            let paths = paths.collect();
            let names = allowed.iter().map(|(_, name)| selected(name)).collect::<Vec<_>>().join(" ");
            let operation = fields.road.replace('@', &names);
            let cell = cell(world, &label("all allowed"), &operation, at, &world.own, &[], Outcome::Allowed).await;
            self.still.push(Cell { paths, ..cell });
        }
        for (right, name) in refused {
            let operation = fields.road.replace('@', &selected(name));
            let expected = asks(actor, right, fields.road);
            self.still.push(cell(world, &label(name), &operation, at, &world.own, &[], expected).await);
        }
        let (_, variables) = declared(fields.road);
        let Some(variable) = variables.first() else { return };
        let names = every.map(|(_, name)| selected(name)).collect::<Vec<_>>().join(" ");
        let operation = fields.road.replace('@', &names);
        let expected = actor.standing.misses(Right::Identity);
        for (what, value) in [("foreign", world.foreign[variable.as_str()].clone()), ("absent", absent(variable))] {
            let over = [(variable.clone(), value)];
            let cell = cell(world, &label(what), &operation, at, &world.own, &over, expected).await;
            self.still.push(Cell { alike: Some(format!("{} {}", fields.road, actor.name)), ..cell });
        }
    }

    fn push(&mut self, row: &Row, cell: Cell) {
        if row.is_subscription() { self.streams.push(cell) } else { self.still.push(cell) }
    }
}

/// What comes of asking about the home's own things: to an integration for another device these are not there.
fn asks(actor: &Actor, right: Right, operation: &str) -> Outcome {
    let names_device = declared(operation).1.iter().any(|name| name == "device" || name == "command");
    let is_led_by_home = operation.contains("$home");
    match actor.standing {
        Standing::Narrowed if names_device && !is_led_by_home => NOT_FOUND,
        standing => standing.asks(right),
    }
}

/// One question, some of its variables led elsewhere.
async fn cell(
    world: &World,
    what: &str,
    operation: &str,
    actor: usize,
    things: &Things,
    over: &[(String, String)],
    expected: Outcome,
) -> Cell {
    let (operation, names) = declared(operation);
    let Actor { name, .. } = &world.actors[actor];
    let mut variables = world.variables(&names, &world.actors[actor], things).await;
    for (variable, value) in over {
        variables[variable] = value.clone().into();
    }
    let label = format!("{what}, by {name}");
    Cell { label, actor, operation, variables, expected, paths: Vec::new(), alike: None }
}

/// What the policy and the schema don't say of each other.
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
        let names = fields.rights.iter().flat_map(|(_, names)| names.split_whitespace());
        known.extend(names.map(|name| format!("{}.{name}", fields.object)));
    }
    let schema = sdl.fields();
    for field in &schema {
        let object = field.split('.').next().unwrap_or_default();
        let is_given = super::fields::GIVEN.contains(&object);
        if is_given && !selected.contains(field) {
            gaps.push(format!("{field} is given to somebody: select it in an operation of operations.rs"));
        }
        if !is_given && !known.contains(field) {
            gaps.push(format!(
                "{field} has no row: say who may have it, in tests/it/access/operations.rs if it is a root's, else in fields.rs"
            ));
        }
    }
    gaps.extend(
        known.iter().filter(|f| !schema.contains(*f)).map(|f| format!("{f} has a row but is not in the schema")),
    );
    let arguments = sdl.arguments();
    for argument in &arguments {
        if naming(argument).is_none() {
            gaps.push(format!(
                "{argument} names something and has no row: say in ARGUMENTS of tests/it/access/operations.rs what comes of \
                 naming what is elsewhere, and give it a variable in an operation"
            ));
        }
    }
    let stale = ARGUMENTS.iter().filter(|(name, _)| !arguments.contains(*name));
    gaps.extend(stale.map(|(name, _)| format!("{name} has a row but names nothing in the schema")));
    gaps
}
