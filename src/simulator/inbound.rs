//! Commands and configurations that a device receives. Nothing here waits: an answer that is not due yet is delayed
//! and blocks nothing.

use rumqttc::QoS;
use tokio::time::Instant;

use super::command_events::{CommandEvent, ReceivedCommand};
use super::delayed::DelayedAnswer;
use super::device::{Answer, AnswerContent};
use super::device_connection::DeviceConnection;
use super::outbox::{Content, Message};
use super::report::count;

impl DeviceConnection {
    /// Gives a command or a configuration to the device and plans its answers.
    pub(super) fn receive(&mut self, topic: &str, payload: &[u8]) {
        let (answers, arrival) = if self.device.topics.commands == topic {
            let Some(received) = self.receive_command(payload) else { return };
            received
        } else if self.device.topics.config == topic {
            count(&self.shared.counters.configs, 1);
            (self.device.on_config(payload), None)
        } else {
            return;
        };
        self.schedule.set_interval(self.device.sample_rate());
        let received = Instant::now();
        for answer in answers {
            if answer.delay.is_zero() {
                self.send_answer(arrival, answer);
            } else if !self.delayed.push(DelayedAnswer { at: received + answer.delay, arrival, answer }) {
                count(&self.shared.counters.dropped_answers, 1);
            }
        }
    }

    fn receive_command(&mut self, payload: &[u8]) -> Option<(Vec<Answer>, Option<u64>)> {
        let counters = &self.shared.counters;
        let now = self.shared.config.clock.now();
        count(&counters.commands, 1);
        let Some(command) = self.device.on_command(payload, now) else {
            count(&counters.unreadable, 1);
            return None;
        };
        let is_repeat = self.received_ids.insert(&command.id);
        count(if is_repeat { &counters.repeated } else { &counters.command_ids }, 1);
        if command.expires_at.is_some_and(|expires_at| expires_at < now) {
            count(&counters.late, 1);
        }
        let arrival = self.shared.next_arrival();
        self.shared.notify(CommandEvent::Received(ReceivedCommand {
            arrival,
            device: self.device.number,
            command_id: command.id,
            received_at: now,
            expires_at: command.expires_at,
            is_repeat,
        }));
        Some((command.answers, Some(arrival)))
    }

    pub(super) fn send_due_answers(&mut self) {
        let now = Instant::now();
        while let Some(DelayedAnswer { arrival, answer, .. }) = self.delayed.take(now) {
            self.send_answer(arrival, answer);
        }
    }

    fn send_answer(&mut self, arrival: Option<u64>, answer: Answer) {
        let is_outcome = matches!(answer.content, AnswerContent::Outcome(_));
        let (topic, payload) = self.device.render(answer.content, self.shared.config.clock.now());
        // Not retained: a later subscriber would take it for a new answer.
        if !self.outbox.push(Message::new(topic, payload, QoS::AtLeastOnce, Content::Other)) {
            count(&self.shared.counters.dropped_answers, 1);
            return;
        }
        count(&self.shared.counters.answers, 1);
        if let (Some(arrival), Some(kind)) = (arrival, answer.kind) {
            self.shared.notify(CommandEvent::Answered(arrival, kind));
        }
        // After the answer: a status that shows the effect would confirm the command by itself.
        if is_outcome && self.device.update_outputs() {
            self.publish_status(true);
        }
    }
}
