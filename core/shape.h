#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/check.h"

namespace ftplan {

/// Extents of a tensor, row major, at most four dimensions; `{}` is a scalar with one element.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<std::int64_t> extents) {
    FTPLAN_CHECK(extents.size() <= kMaxRank);
    for (std::int64_t extent : extents) push_back(extent);
  }

  constexpr void push_back(std::int64_t extent) {
    FTPLAN_CHECK(rank_ < kMaxRank && extent >= 0);
    extents_[static_cast<std::size_t>(rank_++)] = extent;
  }

  [[nodiscard]] constexpr int rank() const { return rank_; }
  constexpr std::int64_t operator[](int axis) const {
    FTPLAN_CHECK(axis >= 0 && axis < rank_);
    return extents_[static_cast<std::size_t>(axis)];
  }
  [[nodiscard]] constexpr std::int64_t elements() const {
    std::int64_t product = 1;
    for (int axis = 0; axis < rank_; ++axis) product *= extents_[static_cast<std::size_t>(axis)];
    return product;
  }
  /// Extent of the last dimension; 1 for a scalar.
  [[nodiscard]] constexpr std::int64_t width() const { return rank_ == 0 ? 1 : (*this)[rank_ - 1]; }
  /// Number of rows of `width()` elements.
  [[nodiscard]] constexpr std::int64_t rows() const {
    return width() == 0 ? 0 : elements() / width();
  }

  friend constexpr bool operator==(const Shape&, const Shape&) = default;

  /// `[2048, 4096]`
  [[nodiscard]] std::string text() const {
    std::string out = "[";
    for (int axis = 0; axis < rank_; ++axis) {
      if (axis > 0) out += ", ";
      out += std::to_string((*this)[axis]);
    }
    return out + "]";
  }

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace ftplan
