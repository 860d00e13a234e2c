#include "models/safetensors_header.h"

#include <span>

#include "core/check.h"
#include "fuzz.h"

// What is accepted covers the file exactly, so that no byte lies outside of it.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto header = ftplan::models::parse_header(bytes, "fuzz");
  if (!header) return 0;
  std::int64_t end = 0;
  for (const auto& tensor : header->tensors) {
    FTPLAN_CHECK(tensor.begin == end);
    FTPLAN_CHECK(tensor.end >= tensor.begin);
    end = tensor.end;
  }
  FTPLAN_CHECK(header->size.value + end == static_cast<std::int64_t>(size));
  return 0;
}
