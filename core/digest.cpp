#include "core/digest.h"

#include <xxhash.h>

#include <array>
#include <cstdio>
#include <string>
#include <string_view>

namespace ftplan {
namespace {

std::string hex_of(XXH128_hash_t hash) {
  std::array<char, 33> text{};
  std::snprintf(text.data(), text.size(), "%016llx%016llx",
                static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text.data();
}

XXH3_state_t* as_state(void* state) { return static_cast<XXH3_state_t*>(state); }

}  // namespace

std::string digest(std::string_view bytes) {
  return hex_of(XXH3_128bits(bytes.data(), bytes.size()));
}

Digester::Digester() : state_(XXH3_createState()) { XXH3_128bits_reset(as_state(state_)); }
Digester::~Digester() { XXH3_freeState(as_state(state_)); }
void Digester::add(std::string_view bytes) {
  XXH3_128bits_update(as_state(state_), bytes.data(), bytes.size());
}
std::string Digester::hex() const { return hex_of(XXH3_128bits_digest(as_state(state_))); }

}  // namespace ftplan
