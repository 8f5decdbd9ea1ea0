// Copy this file to settings.h and fill it in with what `registerDevice` returned.
#pragma once

#define WIFI_SSID "your network"
#define WIFI_PASSWORD "its password"

#define MQTT_HOST "192.168.1.10"
#define MQTT_PORT 1883
#define MQTT_USERNAME "1/ESP32_007"
#define MQTT_PASSWORD "the password, shown once"
#define MQTT_CLIENT_ID "ESP32_007@1~…"

// The first part of the topics of the device, before /telemetry.
#define DEVICE_TOPIC "smarthome/1/ESP32_007"

#define NTP_SERVER "pool.ntp.org"
