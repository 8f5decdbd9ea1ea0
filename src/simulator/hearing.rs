//! What a connection's devices do when they are spoken to. Nothing here waits: an answer that is not
//! due yet stands aside until it is, and holds up nobody.

use rumqttc::QoS;
use tokio::time::Instant;

use super::connection::Connection;
use super::device::{Answer, Device};
use super::outbox::Message;
use super::receipts::Slot;
use super::report::count;
use super::waiting::Waiting;

impl Connection {
    /// Gives a command or a configuration to the device it is for, and plans its answers.
    pub(super) fn hear(&mut self, topic: &str, payload: &[u8]) {
        let shared = self.shared.clone();
        let counters = &shared.counters;
        let now = shared.config.clock.now();
        let of_topic = |device: &Device| device.topics.commands == topic || device.topics.config == topic;
        let Some(index) = self.devices.iter().position(of_topic) else { return };
        let device = &mut self.devices[index];
        let (answers, slot) = if device.topics.commands == topic {
            count(&counters.commands, 1);
            let Some(command) = device.on_command(payload, now) else {
                count(&counters.unreadable, 1);
                return;
            };
            let (is_repeat, slot) = shared.receipts.note(device.number, &command.id, now, command.expires_at);
            count(if is_repeat { &counters.repeated } else { &counters.command_ids }, 1);
            if command.expires_at.is_some_and(|expires_at| expires_at < now) {
                count(&counters.late, 1);
            }
            (command.answers, slot)
        } else {
            count(&counters.configs, 1);
            (device.on_config(payload), None)
        };
        self.schedule.set_sample_rate(index, device.sample_rate());
        let received = Instant::now();
        for answer in answers {
            if answer.after.is_zero() {
                self.say(index, slot, answer);
            } else if !self.waiting.push(Waiting { at: received + answer.after, device: index, slot, answer }) {
                count(&counters.left_unsaid, 1);
            }
        }
    }

    /// Says the answers that are due.
    pub(super) fn say_what_is_due(&mut self) {
        let now = Instant::now();
        while let Some(Waiting { device, slot, answer, .. }) = self.waiting.take(now) {
            self.say(device, slot, answer);
        }
    }

    fn say(&mut self, device: usize, slot: Option<Slot>, answer: Answer) {
        let (topic, payload) = self.devices[device].say(answer.words, self.shared.config.clock.now());
        // The broker keeps no answer: whoever comes later would take it for a new one.
        if !self.outbox.push(Message::new(topic, payload, QoS::AtLeastOnce)) {
            count(&self.shared.counters.left_unsaid, 1);
            return;
        }
        count(&self.shared.counters.answers, 1);
        if let (Some(slot), Some(said)) = (slot, answer.said) {
            self.shared.receipts.add(slot, said);
        }
    }
}
