// On a board texts may lie in program memory; here all memory is one.
#pragma once
#include <cstring>
#define PROGMEM
#define PGM_P const char *
#define PSTR(text) (text)
#define pgm_read_byte(p) (*(const unsigned char *)(p))
#define strlen_P strlen
#define strcpy_P strcpy
#define memcpy_P memcpy
