// The machine is in a network already.
#pragma once

enum { WIFI_STA = 1 };

struct HostWiFi {
  void mode(int) {}
  void setAutoReconnect(bool) {}
  void begin(const char *, const char *) {}
  bool isConnected() { return true; }
};
inline HostWiFi WiFi;
