// Arduino's functions on this machine, beside the classes of Debian's arduino-core-avr.
#pragma once
#define Arduino_h  // the header of the AVR boards is left out

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

typedef bool boolean;
typedef uint8_t byte;
#include "avr/pgmspace.h"

char *itoa(int value, char *text, int radix);
char *utoa(unsigned value, char *text, int radix);
char *ltoa(long value, char *text, int radix);
char *ultoa(unsigned long value, char *text, int radix);
char *dtostrf(double value, signed char width, unsigned char precision, char *text);

#include "WCharacter.h"
#include "WString.h"
#include "Print.h"
#include "Stream.h"

#define HIGH 1
#define LOW 0
#define INPUT 0
#define OUTPUT 1

unsigned long millis();
void delay(unsigned long milliseconds);
long random(long below);
void pinMode(uint8_t pin, uint8_t mode);
void digitalWrite(uint8_t pin, uint8_t level);
// Of the ESP32: its own temperature, and its clock, which starts at 1970.
float temperatureRead();
void configTime(long offset, int daylight, const char *server);

struct HostSerial : Stream {
  void begin(long) { setvbuf(stdout, nullptr, _IOLBF, 0); }
  size_t write(uint8_t c) override { return putchar(c) >= 0; }
  using Print::write;
  int available() override { return 0; }
  int read() override { return -1; }
  int peek() override { return -1; }
};
extern HostSerial Serial;

void setup();
void loop();
