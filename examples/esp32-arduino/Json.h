// Reads JSON (RFC 8259) and quotes texts. What is not there, or not valid, is an empty value.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

class Json {
 public:
  Json() = default;

  explicit Json(const std::string &text) {
    const char *start = blank(text.data(), text.data() + text.size()), *end = text.data() + text.size();
    const char *after = skip(start, end, 0);
    if (after && blank(after, end) == end) raw_.assign(start, after);
  }

  // The value as it is written.
  const std::string &raw() const { return raw_; }
  bool exists() const { return !raw_.empty(); }
  bool isObject() const { return raw_[0] == '{'; }
  bool isText() const { return raw_[0] == '"'; }
  bool isBoolean() const { return raw_ == "true" || raw_ == "false"; }
  bool isNumber() const { return raw_[0] == '-' || (raw_[0] >= '0' && raw_[0] <= '9'); }
  bool boolean() const { return raw_ == "true"; }
  double number() const { return isNumber() ? strtod(raw_.c_str(), nullptr) : 0; }

  std::string text() const {
    std::string out;
    if (!isText()) return out;
    for (const char *p = raw_.data() + 1, *end = raw_.data() + raw_.size() - 1; p < end; p++) {
      if (*p != '\\') {
        out += *p;
      } else if (*++p != 'u') {
        const char *short_ = strchr("b\bf\fn\nr\rt\t", *p);
        out += short_ && strchr("bfnrt", *p) ? short_[1] : *p;
      } else {
        uint32_t code = hex(p + 1);
        p += 4;
        if (code >= 0xD800 && code < 0xDC00 && end - p > 6 && p[1] == '\\' && p[2] == 'u') {
          code = 0x10000 + ((code - 0xD800) << 10) + (hex(p + 3) - 0xDC00);
          p += 6;
        }
        utf8(out, code);
      }
    }
    return out;
  }

  // The members of an object in their order.
  std::vector<std::pair<std::string, Json>> members() const {
    std::vector<std::pair<std::string, Json>> out;
    if (!isObject()) return out;
    const char *end = raw_.data() + raw_.size(), *p = blank(raw_.data() + 1, end);
    while (*p != '}') {
      const char *name = p, *after = skip(p, end, 0);
      p = blank(blank(after, end) + 1, end);
      const char *value = p;
      p = skip(p, end, 0);
      out.emplace_back(slice(name, after).text(), slice(value, p));
      p = blank(p, end);
      if (*p == ',') p = blank(p + 1, end);
    }
    return out;
  }

  Json operator[](const char *name) const {
    for (auto &member : members())
      if (member.first == name) return member.second;
    return Json();
  }

  static std::string quote(const std::string &text) {
    std::string out = "\"";
    for (unsigned char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      if (c >= 0x20) out += static_cast<char>(c);
      else out += ' ';
    }
    return out + '"';
  }

 private:
  static constexpr int kDeepest = 16;
  std::string raw_;

  static Json slice(const char *from, const char *to) {
    Json part;
    part.raw_.assign(from, to);
    return part;
  }

  static const char *blank(const char *p, const char *end) {
    while (p < end && strchr(" \t\r\n", *p) && *p) p++;
    return p;
  }

  static uint32_t hex(const char *p) { return strtoul(std::string(p, 4).c_str(), nullptr, 16); }

  static void utf8(std::string &out, uint32_t code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
      return;
    }
    static const unsigned char first[] = {0, 0xC0, 0xE0, 0xF0};
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    out += static_cast<char>(first[more] | code >> 6 * more);
    while (more--) out += static_cast<char>(0x80 | (code >> 6 * more & 0x3F));
  }

  // The end of the value that starts here; null if it is not valid.
  static const char *skip(const char *p, const char *end, int depth) {
    if (p >= end || depth > kDeepest) return nullptr;
    if (*p == '{' || *p == '[') return skipNested(p, end, depth);
    if (*p == '"') return skipText(p, end);
    for (const char *word : {"true", "false", "null"}) {
      size_t length = strlen(word);
      if (static_cast<size_t>(end - p) >= length && !memcmp(p, word, length)) return p + length;
    }
    if (*p != '-' && (*p < '0' || *p > '9')) return nullptr;
    while (p < end && *p && strchr("+-.0123456789eE", *p)) p++;
    return p;
  }

  static const char *skipText(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++) {
      if (static_cast<unsigned char>(*p) < 0x20) return nullptr;
      if (*p != '\\') continue;
      if (++p >= end || !*p || !strchr("\"\\/bfnrtu", *p)) return nullptr;
      if (*p == 'u') {
        if (end - p < 5 || strspn(p + 1, "0123456789abcdefABCDEF") < 4) return nullptr;
        p += 4;
      }
    }
    return p < end ? p + 1 : nullptr;
  }

  static const char *skipNested(const char *p, const char *end, int depth) {
    char close = *p == '{' ? '}' : ']';
    p = blank(p + 1, end);
    if (p < end && *p == close) return p + 1;
    while (p) {
      if (close == '}') {
        p = p < end && *p == '"' ? skipText(p, end) : nullptr;
        if (p) p = blank(p, end);
        if (!p || p >= end || *p != ':') return nullptr;
        p = blank(p + 1, end);
      }
      p = skip(p, end, depth + 1);
      if (!p) return nullptr;
      p = blank(p, end);
      if (p < end && *p == close) return p + 1;
      p = p < end && *p == ',' ? blank(p + 1, end) : nullptr;
    }
    return nullptr;
  }
};
