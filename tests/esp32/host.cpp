// What Arduino.h declares, and the program around a sketch.
#include "Arduino.h"

#include <chrono>
#include <sys/time.h>
#include <thread>
#include <unistd.h>

HostSerial Serial;

static char *digits(unsigned long value, bool isNegative, char *text, int radix) {
  char reversed[70], *out = text;
  int n = 0;
  do {
    reversed[n++] = "0123456789abcdefghijklmnopqrstuvwxyz"[value % radix];
    value /= radix;
  } while (value);
  if (isNegative) *out++ = '-';
  while (n) *out++ = reversed[--n];
  *out = 0;
  return text;
}
char *ltoa(long value, char *text, int radix) {
  bool isNegative = value < 0 && radix == 10;
  return digits(isNegative ? -value : value, isNegative, text, radix);
}
char *ultoa(unsigned long value, char *text, int radix) { return digits(value, false, text, radix); }
char *itoa(int value, char *text, int radix) { return ltoa(value, text, radix); }
char *utoa(unsigned value, char *text, int radix) { return ultoa(value, text, radix); }
char *dtostrf(double value, signed char width, unsigned char precision, char *text) {
  sprintf(text, "%*.*f", width, precision, value);
  return text;
}

unsigned long millis() {
  using namespace std::chrono;
  static const auto start = steady_clock::now();
  return duration_cast<milliseconds>(steady_clock::now() - start).count();
}
void delay(unsigned long milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }
long random(long below) { return below > 0 ? ::random() % below : 0; }
void pinMode(uint8_t, uint8_t) {}
void digitalWrite(uint8_t, uint8_t) {}
float temperatureRead() { return 20 + millis() / 1000 % 50 / 10.0; }
void configTime(long, int, const char *) {}

// The board's clock: it starts at 1970, and a time server sets it. Here that is the file `clock`.
extern "C" int gettimeofday(struct timeval *time, void *) noexcept {
  timespec now;
  clock_gettime(access("clock", F_OK) == 0 ? CLOCK_REALTIME : CLOCK_BOOTTIME, &now);
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

int main() {
  srandom(getpid());
  for (setup();;) loop();
}
