#include "core/category.h"

#include <array>
#include <cstddef>

#include "core/units.h"

namespace ftplan {
namespace {

// In the order of `Category`.
constexpr std::array<Bytes PlaceBytes::*, kCategories> kMembers = {
    &PlaceBytes::weights,   &PlaceBytes::adapters,    &PlaceBytes::gradients,
    &PlaceBytes::optimizer, &PlaceBytes::activations, &PlaceBytes::checkpoints,
    &PlaceBytes::logits,    &PlaceBytes::gathered,    &PlaceBytes::buckets,
    &PlaceBytes::scratch,   &PlaceBytes::inputs};

}  // namespace

Bytes& PlaceBytes::operator[](Category category) {
  return this->*kMembers[static_cast<std::size_t>(category)];
}

Bytes PlaceBytes::operator[](Category category) const {
  return this->*kMembers[static_cast<std::size_t>(category)];
}

Bytes PlaceBytes::live() const {
  Bytes sum;
  for (const auto member : kMembers) sum += this->*member;
  return sum;
}

PlaceBytes operator+(PlaceBytes a, const PlaceBytes& b) {
  for (const auto member : kMembers) a.*member += b.*member;
  a.runtime += b.runtime;
  a.unused += b.unused;
  a.peak += b.peak;
  return a;
}

}  // namespace ftplan
