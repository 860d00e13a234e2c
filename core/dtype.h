#pragma once

#include <cstdint>

#include "core/enums.h"
#include "core/units.h"

namespace ftplan {

/// Element types of tensors, in files and in memory. Names are those of safetensors.
enum class DType : std::uint8_t { kF32, kBf16, kF16, kF64, kI64, kI32, kI16, kI8, kU8, kBool };

template <>
inline constexpr auto names<DType> =
    std::array{Name{DType::kF32, "F32"},  Name{DType::kBf16, "BF16"}, Name{DType::kF16, "F16"},
               Name{DType::kF64, "F64"},  Name{DType::kI64, "I64"},   Name{DType::kI32, "I32"},
               Name{DType::kI16, "I16"},  Name{DType::kI8, "I8"},     Name{DType::kU8, "U8"},
               Name{DType::kBool, "BOOL"}};

/// Bytes of one element.
constexpr Bytes size_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return {8};
    case DType::kF32:
    case DType::kI32:
      return {4};
    case DType::kBf16:
    case DType::kF16:
    case DType::kI16:
      return {2};
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return {1};
  }
  return {0};
}

}  // namespace ftplan
