// The part of espMqttClient 1.7.3 that the example uses, on libmosquitto. Differences: packets that were not
// acknowledged end with their connection, which on the board needs `clearQueue(true)`.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <mosquitto.h>

namespace espMqttClientTypes {
enum class UseInternalTask { NO = 0, YES = 1 };
enum class DisconnectReason : uint8_t { USER_OK = 0, TCP_DISCONNECTED = 7 };
struct MessageProperties {
  uint8_t qos;
  bool dup, retain;
  uint16_t packetId;
};
typedef std::function<void(bool)> OnConnectCallback;
typedef std::function<void(DisconnectReason)> OnDisconnectCallback;
typedef std::function<void(uint16_t)> OnPublishCallback;
typedef std::function<void(const MessageProperties &, const char *, const uint8_t *, size_t, size_t, size_t)>
    OnMessageCallback;
}  // namespace espMqttClientTypes

class espMqttClient {
 public:
  explicit espMqttClient(espMqttClientTypes::UseInternalTask) { mosquitto_lib_init(); }

  espMqttClient &setServer(const char *host, uint16_t port) { return host_ = host, port_ = port, *this; }
  espMqttClient &setClientId(const char *id) { return clientId_ = id, *this; }
  espMqttClient &setCredentials(const char *name, const char *password) {
    return username_ = name, password_ = password, *this;
  }
  espMqttClient &setCleanSession(bool clean) { return cleanSession_ = clean, *this; }
  espMqttClient &setKeepAlive(uint16_t seconds) { return keepAlive_ = seconds, *this; }
  espMqttClient &setWill(const char *topic, uint8_t qos, bool retain, const char *payload) {
    return willTopic_ = topic, willQos_ = qos, willRetain_ = retain, willPayload_ = payload, *this;
  }
  espMqttClient &onConnect(espMqttClientTypes::OnConnectCallback callback) { return onConnect_ = callback, *this; }
  espMqttClient &onDisconnect(espMqttClientTypes::OnDisconnectCallback callback) {
    return onDisconnect_ = callback, *this;
  }
  espMqttClient &onPublish(espMqttClientTypes::OnPublishCallback callback) { return onPublish_ = callback, *this; }
  espMqttClient &onMessage(espMqttClientTypes::OnMessageCallback callback) { return onMessage_ = callback, *this; }

  bool connected() const { return state_ == State::connected; }
  bool disconnected() const { return state_ == State::disconnected; }

  bool connect() {
    if (!disconnected()) return false;
    client_ = mosquitto_new(clientId_, cleanSession_, this);
    mosquitto_username_pw_set(client_, username_, password_);
    mosquitto_will_set(client_, willTopic_, strlen(willPayload_), willPayload_, willQos_, willRetain_);
    mosquitto_connect_callback_set(client_, [](mosquitto *, void *self, int code) { of(self)->isConnected(code); });
    mosquitto_publish_callback_set(client_, [](mosquitto *, void *self, int id) { of(self)->onPublish_(id); });
    mosquitto_message_callback_set(client_, [](mosquitto *, void *self, const mosquitto_message *message) {
      of(self)->deliver(*message);
    });
    bool begun = mosquitto_connect(client_, host_, port_, keepAlive_) == MOSQ_ERR_SUCCESS;
    state_ = begun ? State::connecting : State::failed;
    return true;
  }

  uint16_t publish(const char *topic, uint8_t qos, bool retain, const char *payload) {
    int id = 0;
    if (!connected()) return 0;
    return mosquitto_publish(client_, &id, topic, strlen(payload), payload, qos, retain) == MOSQ_ERR_SUCCESS ? id : 0;
  }
  uint16_t subscribe(const char *topic, uint8_t qos) {
    int id = 0;
    return mosquitto_subscribe(client_, &id, topic, qos) == MOSQ_ERR_SUCCESS ? id : 0;
  }
  void clearQueue(bool) {}

  void loop() {
    if (disconnected()) return;
    if (state_ != State::failed && mosquitto_loop(client_, 0, 1) == MOSQ_ERR_SUCCESS && state_ != State::failed) return;
    mosquitto_destroy(client_);
    state_ = State::disconnected;
    onDisconnect_(espMqttClientTypes::DisconnectReason::TCP_DISCONNECTED);
  }

 private:
  enum class State { disconnected, connecting, connected, failed };
  static constexpr size_t kReceiveBuffer = 1440;  // a board gets longer messages in parts

  mosquitto *client_ = nullptr;
  State state_ = State::disconnected;
  const char *host_, *clientId_, *username_, *password_, *willTopic_, *willPayload_;
  uint16_t port_, keepAlive_;
  uint8_t willQos_;
  bool cleanSession_, willRetain_;
  espMqttClientTypes::OnConnectCallback onConnect_;
  espMqttClientTypes::OnDisconnectCallback onDisconnect_;
  espMqttClientTypes::OnPublishCallback onPublish_;
  espMqttClientTypes::OnMessageCallback onMessage_;

  static espMqttClient *of(void *self) { return static_cast<espMqttClient *>(self); }

  void isConnected(int code) {
    state_ = code == 0 ? State::connected : State::failed;
    if (connected()) onConnect_(false);
  }

  void deliver(const mosquitto_message &message) {
    espMqttClientTypes::MessageProperties properties{uint8_t(message.qos), false, message.retain, uint16_t(message.mid)};
    const uint8_t *payload = static_cast<const uint8_t *>(message.payload);
    size_t total = message.payloadlen, index = 0;
    do {
      size_t length = std::min(kReceiveBuffer, total - index);
      onMessage_(properties, message.topic, payload + index, length, index, total);
      index += length;
    } while (index < total);
  }
};
