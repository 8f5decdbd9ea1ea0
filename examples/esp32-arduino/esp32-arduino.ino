// A smart-home device on an ESP32, see README.md. Libraries: espMqttClient 1.7.
#include <Preferences.h>
#include <WiFi.h>
#include <espMqttClient.h>
#include <sys/time.h>

#include "SmartHomeDevice.h"
#include "settings.h"

const int RELAY_PIN = 5;
const float FASTEST = 0.1, SLOWEST = 120;  // seconds between readings; below the server's presence timeout

espMqttClient mqtt(espMqttClientTypes::UseInternalTask::NO);  // everything runs in loop(): no locks are needed
Preferences preferences;
SmartHomeDevice device(DEVICE_TOPIC);

bool power = false;  // the relay, as after a start
float sampleRate = 30;
uint64_t uptime = 0;  // milliseconds; millis() starts again after 49 days
uint64_t nextReading = 0, nextAttempt = 0;
unsigned attempts = 0;

// Replace it by your sensors: a JSON object of readings.
std::string readSensors() {
  return "{\"temperature\":" + std::to_string(temperatureRead()) + "}";
}

std::string execute(const std::string &type, const Json &payload) {
  if (type != "SET_POWER") return "unknown type " + type;
  power = payload["power"].boolean();
  digitalWrite(RELAY_PIN, power ? HIGH : LOW);
  Serial.println(power ? "power on" : "power off");
  return "";
}

std::string state() { return power ? "{\"power\":true}" : "{\"power\":false}"; }

std::string check(const std::string &key, const Json &value) {
  if (key != "sampleRate") return "unknown key";
  if (!value.isNumber() || value.number() < FASTEST || value.number() > SLOWEST) return "must be 0.1 to 120";
  return "";
}

void apply(const Json &config) {
  float wanted = config["sampleRate"].exists() ? config["sampleRate"].number() : 30;
  if (wanted == sampleRate) return;
  sampleRate = wanted;
  preferences.putFloat("sampleRate", sampleRate);
  nextReading = uptime;
}

// Milliseconds since 1970 at the start of this device; 0 before NTP has answered.
uint64_t bootedAt() {
  timeval now;
  gettimeofday(&now, nullptr);
  if (now.tv_sec < 1577836800) return 0;  // before 2020: the clock started at 1970
  return now.tv_sec * 1000ULL + now.tv_usec / 1000 - uptime;
}

void setUpDevice() {
  device.publish = [](const std::string &topic, const std::string &payload) {
    return mqtt.publish(topic.c_str(), 1, false, payload.c_str());
  };
  device.execute = execute;
  device.state = state;
  device.check = check;
  device.apply = apply;
  device.save = [](const std::string &state) { preferences.putBytes("done", state.data(), state.size()); };
  device.log = [](const std::string &line) { Serial.println(line.c_str()); };
  preferences.begin("smarthome");
  sampleRate = preferences.getFloat("sampleRate", sampleRate);
  std::string done(preferences.getBytesLength("done"), ' ');
  preferences.getBytes("done", &done[0], done.size());
  device.restore(done);
}

void setUpMqtt() {
  static const std::string status = device.topic("status");
  mqtt.setServer(MQTT_HOST, MQTT_PORT)
      .setClientId(MQTT_CLIENT_ID)
      .setCredentials(MQTT_USERNAME, MQTT_PASSWORD)
      .setCleanSession(false)
      .setKeepAlive(30)
      .setWill(status.c_str(), 1, false, "{\"online\":false}");
  mqtt.onConnect([](bool) {
    Serial.println("connected");
    attempts = 0;
    mqtt.subscribe(device.topic("commands").c_str(), 1);
    mqtt.subscribe(device.topic("config").c_str(), 1);
    device.connected();
  });
  mqtt.onDisconnect([](espMqttClientTypes::DisconnectReason reason) {
    Serial.print("not connected: ");
    Serial.println(static_cast<int>(reason));
    device.disconnected();
    mqtt.clearQueue(true);  // the outbox sends again, in the right order
  });
  mqtt.onPublish([](uint16_t packet) { device.acknowledged(packet); });
  mqtt.onMessage([](const espMqttClientTypes::MessageProperties &, const char *topic, const uint8_t *payload,
                    size_t length, size_t index, size_t total) {
    device.received(topic, payload, length, index, total);
  });
}

void setup() {
  Serial.begin(115200);
  pinMode(RELAY_PIN, OUTPUT);
  WiFi.mode(WIFI_STA);
  WiFi.setAutoReconnect(true);
  WiFi.begin(WIFI_SSID, WIFI_PASSWORD);
  configTime(0, 0, NTP_SERVER);
  setUpDevice();
  setUpMqtt();
}

void loop() {
  static uint32_t last = millis();
  uint32_t now = millis();
  uptime += static_cast<uint32_t>(now - last);
  last = now;
  if (mqtt.disconnected() && WiFi.isConnected() && uptime >= nextAttempt) {
    // 1 to 32 s, less up to half of it, so that not all devices come back at once.
    nextAttempt = uptime + (1000UL << attempts) - random(500UL << attempts);
    if (attempts < 5) attempts++;
    mqtt.connect();
  }
  if (uptime >= nextReading) {
    nextReading = uptime + static_cast<uint64_t>(sampleRate * 1000);
    device.measured(readSensors(), uptime);
  }
  mqtt.loop();
  device.loop(bootedAt());
  delay(5);
}
