#include "models/safetensors_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/json.h"
#include "core/result.h"
#include "core/units.h"
#include "models/files.h"
#include "models/safetensors_json.h"

namespace ftplan::models {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little endian");

constexpr std::int64_t kLengthBytes = 8;
constexpr std::int64_t kLongestHeader = 100'000'000;

// In the reference's order, which is that of alignment; files are sorted by it.
constexpr std::array kFileDTypes = {
    FileDType{"BOOL", 8, DType::kBool},
    FileDType{"F4", 4, {}},
    FileDType{"F6_E2M3", 6, {}},
    FileDType{"F6_E3M2", 6, {}},
    FileDType{"U8", 8, DType::kU8},
    FileDType{"I8", 8, DType::kI8},
    FileDType{"F8_E5M2", 8, {}},
    FileDType{"F8_E4M3", 8, {}},
    FileDType{"F8_E8M0", 8, {}},
    FileDType{"F8_E4M3FNUZ", 8, {}},
    FileDType{"F8_E5M2FNUZ", 8, {}},
    FileDType{"I16", 16, DType::kI16},
    FileDType{"U16", 16, {}},
    FileDType{"F16", 16, DType::kF16},
    FileDType{"BF16", 16, DType::kBf16},
    FileDType{"I32", 32, DType::kI32},
    FileDType{"U32", 32, {}},
    FileDType{"F32", 32, DType::kF32},
    FileDType{"C64", 64, {}},
    FileDType{"F64", 64, DType::kF64},
    FileDType{"I64", 64, DType::kI64},
    FileDType{"U64", 64, {}},
};

std::ptrdiff_t alignment_rank(DType dtype) {
  const auto* row = std::find_if(kFileDTypes.begin(), kFileDTypes.end(),
                                 [&](const FileDType& entry) { return entry.dtype == dtype; });
  return row - kFileDTypes.begin();
}

Error wrong_tensor(const std::string& where, const TensorInfo& tensor, const std::string& what) {
  return bad_input(where, "tensor " + in_quotes(tensor.name) + ": " + what);
}

// Bytes of the shape, with the reference's checks against overflow and broken bytes.
Result<std::int64_t> bytes_of(const TensorInfo& tensor, const std::string& where) {
  std::uint64_t bits = 1;
  bool overflow = false;
  for (const std::int64_t extent : tensor.extents) {
    overflow |= __builtin_mul_overflow(bits, static_cast<std::uint64_t>(extent), &bits);
  }
  overflow |= __builtin_mul_overflow(bits, static_cast<std::uint64_t>(tensor.dtype->bits), &bits);
  if (overflow) return wrong_tensor(where, tensor, "its shape has more bytes than 64 bits count");
  if (bits % 8 != 0) {
    return wrong_tensor(where, tensor,
                        std::string("its ") + tensor.dtype->name + " elements end inside a byte");
  }
  return static_cast<std::int64_t>(bits / 8);
}

// Each tensor begins where the one before it ends, and has the bytes of its shape.
Result<void> check_ranges(const std::vector<TensorInfo>& tensors, const std::string& where) {
  std::int64_t end = 0;
  for (const TensorInfo& tensor : tensors) {
    const std::string offsets =
        "offsets [" + std::to_string(tensor.begin) + ", " + std::to_string(tensor.end) + "]";
    if (tensor.end < tensor.begin)
      return wrong_tensor(where, tensor, offsets + " end before they begin");
    if (tensor.begin != end) {
      const std::string what = tensor.begin < end ? "overlap another tensor" : "leave a hole";
      return wrong_tensor(where, tensor,
                          offsets + " " + what + ", expected to begin at " + std::to_string(end));
    }
    const auto bytes = bytes_of(tensor, where);
    if (!bytes) return bytes.error();
    if (tensor.end - tensor.begin != *bytes) {
      return wrong_tensor(where, tensor,
                          offsets + ", but its shape and " + tensor.dtype->name + " need " +
                              std::to_string(*bytes) + " bytes");
    }
    end = tensor.end;
  }
  return {};
}

Result<void> check_names(const std::vector<TensorInfo>& tensors, const std::string& where) {
  std::unordered_set<std::string_view> names;
  for (const TensorInfo& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      return wrong_tensor(where, tensor, "two tensors have this name");
    }
  }
  return {};
}

// The JSON text of the header, after the checks on its length.
Result<std::string_view> header_text(std::span<const std::byte> file, const std::string& where) {
  const auto size = static_cast<std::int64_t>(file.size());
  if (size < kLengthBytes) {
    return bad_input(where,
                     "has " + std::to_string(size) + " bytes, a safetensors file has at least 8");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  if (length > static_cast<std::uint64_t>(kLongestHeader)) {
    return bad_input(where, "its header claims " + std::to_string(length) + " bytes, more than " +
                                std::to_string(kLongestHeader) + ": not a safetensors file");
  }
  if (static_cast<std::int64_t>(length) > size - kLengthBytes) {
    return bad_input(where, "its header claims " + std::to_string(length) + " bytes of a file of " +
                                std::to_string(size) + ": the file is cut off");
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes,
                              static_cast<std::size_t>(length));
  if (text.empty() || text.front() != '{') {
    return bad_input(where, "its header does not begin with '{'");
  }
  return text;
}

bool is_before(const TensorSpec& a, const TensorSpec& b) {
  const auto rank_a = alignment_rank(a.dtype);
  const auto rank_b = alignment_rank(b.dtype);
  return rank_a != rank_b ? rank_a > rank_b : a.name < b.name;
}

std::vector<const TensorSpec*> pointers_to(const std::vector<TensorSpec>& specs) {
  std::vector<const TensorSpec*> pointers;
  pointers.reserve(specs.size());
  for (const TensorSpec& spec : specs) pointers.push_back(&spec);
  return pointers;
}

// Names of tensors need no escapes; others go the long way.
void append_text(std::string& json, const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= ' ' && c <= '~' && c != '"' && c != '\\';
  });
  json += plain ? '"' + text + '"' : Json(text).dump();
}

void append_entry(std::string& json, const TensorSpec& spec, std::int64_t begin) {
  append_text(json, spec.name);
  json += R"(:{"dtype":")";
  json += to_text(spec.dtype);
  json += R"(","shape":[)";
  for (int axis = 0; axis < spec.shape.rank(); ++axis) {
    if (axis > 0) json += ',';
    json += std::to_string(spec.shape[axis]);
  }
  json += R"(],"data_offsets":[)";
  json += std::to_string(begin) + "," + std::to_string(begin + spec.bytes().value) + "]}";
}

std::string render(const std::vector<const TensorSpec*>& in_order, const Metadata& metadata) {
  constexpr std::size_t kUsualEntry = 160;
  std::string header(kLengthBytes, '\0');
  header.reserve(kUsualEntry * (in_order.size() + 1));
  header += '{';
  if (!metadata.empty()) {
    header += R"("__metadata__":{)";
    for (const auto& [key, value] : metadata) {
      if (header.back() != '{') header += ',';
      append_text(header, key);
      header += ':';
      append_text(header, value);
    }
    header += '}';
  }
  std::int64_t begin = 0;
  for (const TensorSpec* spec : in_order) {
    if (header.back() != '{') header += ',';
    append_entry(header, *spec, begin);
    begin += spec->bytes().value;
  }
  header += '}';
  header.resize(
      static_cast<std::size_t>(round_up(static_cast<std::int64_t>(header.size()), kLengthBytes)),
      ' ');
  const auto length = static_cast<std::uint64_t>(header.size()) - kLengthBytes;
  std::memcpy(header.data(), &length, sizeof length);
  return header;
}

}  // namespace

const FileDType* find_file_dtype(std::string_view name) {
  const auto* row = std::find_if(kFileDTypes.begin(), kFileDTypes.end(),
                                 [&](const FileDType& entry) { return name == entry.name; });
  return row == kFileDTypes.end() ? nullptr : row;
}

Result<Header> parse_header(std::span<const std::byte> file, const std::string& where) {
  const auto text = header_text(file, where);
  if (!text) return text.error();
  auto header = parse_header_json(*text, where);
  if (!header) return header.error();
  header->size = Bytes{kLengthBytes + static_cast<std::int64_t>(text->size())};
  std::stable_sort(header->tensors.begin(), header->tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  if (auto checked = check_names(header->tensors, where); !checked) return checked.error();
  if (auto checked = check_ranges(header->tensors, where); !checked) return checked.error();
  const std::int64_t data = header->tensors.empty() ? 0 : header->tensors.back().end;
  const auto size = static_cast<std::int64_t>(file.size());
  if (header->size.value + data != size) {
    return bad_input(where, "its tensors end at byte " + std::to_string(header->size.value + data) +
                                ", the file at " + std::to_string(size) +
                                (header->size.value + data > size ? ": the file is cut off" : ""));
  }
  return header;
}

std::vector<TensorSpec> file_order(std::vector<TensorSpec> specs) {
  std::sort(specs.begin(), specs.end(), is_before);
  return specs;
}

std::string value_of(const Metadata& metadata, std::string_view key) {
  for (const auto& [name, value] : metadata) {
    if (name == key) return value;
  }
  return {};
}

std::string render_header(const std::vector<TensorSpec>& in_order, const Metadata& metadata) {
  return render(pointers_to(in_order), metadata);
}

Bytes header_size(const std::vector<TensorSpec>& specs, const Metadata& metadata) {
  std::vector<const TensorSpec*> in_order = pointers_to(specs);
  std::sort(in_order.begin(), in_order.end(),
            [](const TensorSpec* a, const TensorSpec* b) { return is_before(*a, *b); });
  return Bytes{static_cast<std::int64_t>(render(in_order, metadata).size())};
}

Bytes file_size(const std::vector<TensorSpec>& specs, const Metadata& metadata) {
  Bytes size = header_size(specs, metadata);
  for (const TensorSpec& spec : specs) size += spec.bytes();
  return size;
}

}  // namespace ftplan::models
