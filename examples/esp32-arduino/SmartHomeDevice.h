// A device of the smart-home server: topics, messages, the outbox, commands and configurations
// (docs/device-protocol.md). It knows neither Arduino nor a network, so it runs anywhere.
#pragma once

#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <string>

#include "Json.h"

class SmartHomeDevice {
 public:
  // Publishes with QoS 1. Returns the packet id; 0 if nothing can be sent now.
  std::function<uint16_t(const std::string &topic, const std::string &payload)> publish;
  // Executes a command. Returns the reason if it fails, otherwise an empty text.
  std::function<std::string(const std::string &type, const Json &payload)> execute;
  // What the device is, as a JSON object: each status has it, and the server replaces the one before.
  std::function<std::string()> state;
  // Says what is wrong with a value of a configuration; an empty text if nothing is.
  std::function<std::string(const std::string &key, const Json &value)> check;
  // Uses a configuration of which every value is right.
  std::function<void(const Json &config)> apply;
  // Keeps a text over restarts; `restore` gets it back.
  std::function<void(const std::string &state)> save;
  // Reports what happens, for the serial monitor.
  std::function<void(const std::string &line)> log;

  // The topic up to the device, such as "smarthome/1/ESP32_001".
  explicit SmartHomeDevice(const std::string &topic) : topic_(topic + "/") {}

  std::string topic(const char *kind) const { return topic_ + kind; }

  // The answers to commands that were executed before a restart.
  void restore(const std::string &state) {
    for (auto &member : Json(state).members()) done_.push_back({member.first, member.second.raw()});
  }

  // Call it when `commands` and `config` are subscribed, and not before: the server then sends the commands again that
  // the device may have missed.
  void connected() {
    isConnected_ = true;
    publish(topic("status"), status());
  }

  // The connection is lost: what was sent and not acknowledged is sent again.
  void disconnected() {
    isConnected_ = false;
    sending_ = 0;
    incoming_.clear();
  }

  // The broker has acknowledged a packet.
  void acknowledged(uint16_t packet) {
    if (!sending_ || packet != sending_) return;
    sending_ = 0;
    std::deque<Message> &queue = sendingAnswer_ ? answers_ : readings_;
    log("delivered " + queue.front().payload);
    queue.pop_front();
  }

  // A message, or a part of one: parts come in order.
  void received(const std::string &topic, const uint8_t *data, size_t length, size_t index, size_t total) {
    if (total > kLargest) return log("too large: " + topic);
    if (index == 0) incoming_.clear();
    incoming_.append(reinterpret_cast<const char *>(data), length);
    if (index + length < total) return;
    Json message(incoming_);
    incoming_.clear();
    if (topic == topic_ + "commands") command(message);
    if (topic == topic_ + "config") configuration(message);
  }

  // Puts a reading into the outbox. `sensors` is a JSON object, `uptime` are milliseconds since boot.
  void measured(const std::string &sensors, uint64_t uptime) {
    bool firstIsSent = sending_ && !sendingAnswer_;
    if (readings_.size() >= kReadings) readings_.erase(readings_.begin() + (firstIsSent ? 1 : 0));
    readings_.push_back({"telemetry", "", sensors, uptime});
  }

  // Sends the next message, answers first. `bootedAt` are milliseconds since 1970, 0 while the time is unknown: then the
  // uptime is sent, and the server uses its own clock.
  void loop(uint64_t bootedAt) {
    if (!isConnected_ || sending_ || (answers_.empty() && readings_.empty())) return;
    sendingAnswer_ = !answers_.empty();
    Message &message = sendingAnswer_ ? answers_.front() : readings_.front();
    if (message.payload.empty()) {  // a reading is the same at each attempt, so the server stores it once
      std::string uptime = std::to_string(message.uptime);
      std::string time = bootedAt ? std::to_string(bootedAt + message.uptime) : '"' + uptime + '"';
      message.payload = "{\"timestamp\":" + time + ",\"sensors\":" + message.sensors +
                        ",\"metadata\":{\"uptime\":" + uptime + "}}";
    }
    sending_ = publish(topic(message.kind), message.payload);
  }

 private:
  struct Message {
    const char *kind;
    std::string payload, sensors;
    uint64_t uptime;
  };
  struct Done {
    std::string id, answer;
  };
  static constexpr size_t kReadings = 200;     // that wait for the broker; the oldest are dropped
  static constexpr size_t kRemembered = 16;    // commands whose answers are kept
  static constexpr size_t kLargest = 9 * 1024; // bytes of a message to the device

  std::string topic_, incoming_;
  std::deque<Message> answers_, readings_;
  std::deque<Done> done_;
  uint16_t sending_ = 0;
  bool sendingAnswer_ = false, isConnected_ = false;

  void answer(const std::string &payload) { answers_.push_back({"ack", payload, "", 0}); }

  std::string status() { return "{\"online\":true,\"status\":" + state() + "}"; }

  void command(const Json &message) {
    std::string id = message["commandId"].text();
    if (id.empty()) return log("a command without id");
    for (auto &done : done_)
      if (done.id == id) return answer(done.answer);  // executed before
    std::string head = "{\"commandId\":" + Json::quote(id) + ",\"status\":";
    std::string failed = head + "\"FAILED\",\"error\":";
    // Kept before it is executed: a restart in between must not execute it twice.
    if (done_.size() >= kRemembered) done_.pop_front();
    done_.push_back({id, failed + "\"the device restarted\"}"});
    keep();
    std::string reason = execute(message["type"].text(), message["payload"]);
    done_.back().answer = reason.empty() ? head + "\"SUCCEEDED\"}" : failed + Json::quote(reason) + "}";
    keep();
    answer(done_.back().answer);
    if (reason.empty()) answers_.push_back({"status", status(), "", 0});
  }

  void keep() {
    std::string state = "{";
    for (auto &done : done_) state += (state.size() > 1 ? "," : "") + Json::quote(done.id) + ":" + done.answer;
    save(state + "}");
  }

  // A configuration is applied as a whole or not at all. An empty message clears that of a deleted device.
  void configuration(const Json &message) {
    Json config = message["config"], version = message["version"];
    if (!config.isObject() || !version.isNumber()) return log("a message without configuration");
    std::string errors;
    for (auto &member : config.members()) {
      std::string reason = check(member.first, member.second);
      if (reason.empty()) continue;
      errors += (errors.empty() ? "" : ",") + Json::quote(member.first) + ":" + Json::quote(reason);
    }
    if (errors.empty()) apply(config);
    std::string status = errors.empty() ? "\"APPLIED\"" : "\"REJECTED\",\"errors\":{" + errors + "}";
    std::string payload = "{\"configVersion\":" + version.raw() + ",\"status\":" + status + "}";
    log("configuration " + payload);
    answer(payload);
  }
};
