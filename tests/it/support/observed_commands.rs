//! Every command that a simulated fleet received, with the answers to it.

use std::sync::{Arc, Mutex, MutexGuard};

use smarthome::simulator::{CommandEvent, CommandListener, ReceivedCommand, SentAnswer};

/// One arrival of a command at a device.
#[derive(Debug, Clone)]
pub struct ObservedCommand {
    pub received: ReceivedCommand,
    /// The answers in order.
    pub answers: Vec<SentAnswer>,
}

/// What a fleet has received, in order of arrival. Clones share it.
#[derive(Clone, Default)]
pub struct ObservedCommands(Arc<Mutex<Vec<ObservedCommand>>>);

impl ObservedCommands {
    /// Records the events of a fleet.
    pub fn listener(&self) -> CommandListener {
        let observed = self.clone();
        Arc::new(move |event| match event {
            CommandEvent::Received(received) => observed.lock().push(ObservedCommand { received, answers: Vec::new() }),
            CommandEvent::Answered(arrival, answer) => {
                let mut all = observed.lock();
                let command = all.iter_mut().rev().find(|command| command.received.arrival == arrival);
                command.expect("it arrived before").answers.push(answer);
            }
        })
    }

    /// The arrivals at one device of the fleet.
    pub fn of(&self, device: usize) -> Vec<ObservedCommand> {
        self.lock().iter().filter(|command| command.received.device == device).cloned().collect()
    }

    pub fn all(&self) -> Vec<ObservedCommand> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ObservedCommand>> {
        self.0.lock().expect("observed commands lock")
    }
}
