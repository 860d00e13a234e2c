#pragma once

#include <string>
#include <string_view>

namespace ftplan {

/// 128-bit XXH3 of `bytes` as 32 hexadecimal digits. Finds differences, not attackers.
std::string digest(std::string_view bytes);

/// The same over parts that are fed one after the other.
class Digester {
 public:
  Digester();
  ~Digester();
  Digester(const Digester&) = delete;
  Digester& operator=(const Digester&) = delete;

  void add(std::string_view bytes);
  [[nodiscard]] std::string hex() const;

 private:
  void* state_;
};

}  // namespace ftplan
