// The ESP32's key-value store: a file for each key in the working directory.
#pragma once

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

class Preferences {
 public:
  bool begin(const char *name, bool = false) {
    prefix_ = std::string(name) + ".";
    return true;
  }
  size_t putBytes(const char *key, const void *value, size_t length) {
    std::string file = prefix_ + key;
    std::ofstream(file + ".new", std::ios::binary).write(static_cast<const char *>(value), length);
    return rename((file + ".new").c_str(), file.c_str()) == 0 ? length : 0;
  }
  size_t getBytesLength(const char *key) { return read(key).size(); }
  size_t getBytes(const char *key, void *buffer, size_t length) {
    std::string value = read(key);
    return value.copy(static_cast<char *>(buffer), length);
  }
  size_t putFloat(const char *key, float value) { return putBytes(key, &value, sizeof value); }
  float getFloat(const char *key, float otherwise) {
    float value = otherwise;
    return getBytes(key, &value, sizeof value) == sizeof value ? value : otherwise;
  }

 private:
  std::string prefix_;

  std::string read(const char *key) {
    std::ifstream file(prefix_ + key, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};
