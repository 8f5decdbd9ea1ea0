//! The devices of events, from memory. Whether that is enough depends on the fields that a subscription selects: a
//! device's state is in the database, and so is whatever depends on the viewer's present role.

use std::sync::Arc;

use async_graphql::parser::types::{Selection, SelectionSet};
use async_graphql::{Context, Positioned};

use super::super::context::ContextExt;
use super::super::devices::{Device, WITHOUT_STATE};
use super::super::selected_fields::{all_fields, has_only};
use crate::devices::{Devices, StateItem};
use crate::homes::Access;
use crate::ids::DeviceId;

/// Fields of a home that do not depend on the viewer's role.
const OF_HOME: [&str; 6] = ["__typename", "id", "key", "name", "timezone", "createdAt"];

/// The devices of the events of one subscription.
pub(super) struct KnownDevices {
    devices: Devices,
    access: Access,
    /// Whether the selected fields need no state.
    without_state: bool,
    /// Whether the selected fields of the home do not depend on the viewer's role.
    with_place: bool,
}

impl KnownDevices {
    /// For the events of this field. Its devices are below its field `device`, or are the events themselves (`None`).
    pub(super) fn new(ctx: &Context<'_>, access: Access, device: Option<&str>) -> Arc<Self> {
        let event = &ctx.item.node.selection_set;
        let selections: Vec<&Positioned<SelectionSet>> = match device {
            None => vec![event],
            Some(name) => below(event, name),
        };
        Arc::new(Self {
            devices: ctx.services().devices.clone(),
            access,
            without_state: !selections.is_empty() && selections.iter().all(|device| is_without_state(device)),
            with_place: selections
                .iter()
                .all(|device| below(device, "home").iter().all(|home| has_only(home, &OF_HOME))),
        })
    }

    /// The device of an event, if it is known without its state. Otherwise the field `device` loads it.
    pub(super) async fn find(&self, id: DeviceId) -> Option<Device> {
        if !self.without_state {
            return None;
        }
        // A failure is no end of the event: the loader tries again, and reports it.
        let entry = self.devices.registry_entry(self.access.home(), id).await.ok()??;
        let mut device = entry.device(self.access);
        device.place = self.with_place.then(|| entry.place(self.access));
        Some(Device::new(Arc::new(device)))
    }

    /// The device of an event with its state.
    pub(super) fn with_state(&self, item: StateItem) -> Device {
        let device = match item {
            StateItem::Stored(device) => *device,
            StateItem::Live(entry, state) => {
                let mut device = entry.device(self.access).with_state(&state);
                device.place = self.with_place.then(|| entry.place(self.access));
                device
            }
        };
        Device::new(Arc::new(device))
    }
}

/// Whether the selection below a device needs no state. What the topics have of it is in memory too.
fn is_without_state(device: &Positioned<SelectionSet>) -> bool {
    all_fields(device, |field| {
        let name = field.name.node.as_str();
        name == "topics" || WITHOUT_STATE.contains(&name)
    })
}

/// The selections below each field of this name.
fn below<'a>(selection: &'a Positioned<SelectionSet>, name: &str) -> Vec<&'a Positioned<SelectionSet>> {
    let fields = selection.node.items.iter().filter_map(|item| match &item.node {
        Selection::Field(field) if field.node.name.node == name => Some(&field.node.selection_set),
        _ => None,
    });
    fields.collect()
}
