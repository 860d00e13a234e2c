#include "models/safetensors_json.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "models/files.h"
#include "models/safetensors_header.h"

namespace ftplan::models {
namespace {

using Sax = nlohmann::json_sax<Json>;

// Follows the text through its three levels: header, one tensor (or the metadata), a list of
// integers. Every handler returns whether to go on; the first complaint ends the parse.
class HeaderHandler final : public Sax {
 public:
  [[nodiscard]] Header& header() { return header_; }
  [[nodiscard]] const std::string& complaint() const { return complaint_; }

  bool start_object(std::size_t /*size*/) override {
    if (skipped_ > 0) return skip(+1);
    switch (place_) {
      case Place::kBefore:
        return enter(Place::kHeader);
      case Place::kMetadataValue:
        return enter(Place::kMetadata);
      case Place::kTensorValue:
        return enter(Place::kTensor);
      case Place::kUnknownValue:
        return skip(+1);
      default:
        return unexpected("an object");
    }
  }

  bool end_object() override {
    if (skipped_ > 0) return skip(-1);
    switch (place_) {
      case Place::kMetadata:
        return enter(Place::kHeader);
      case Place::kTensor:
        return end_tensor();
      default:
        return enter(Place::kAfter);
    }
  }

  bool start_array(std::size_t /*size*/) override {
    if (skipped_ > 0) return skip(+1);
    switch (place_) {
      case Place::kShapeValue:
        return enter(Place::kShape);
      case Place::kOffsetsValue:
        return enter(Place::kOffsets);
      case Place::kUnknownValue:
        return skip(+1);
      default:
        return unexpected("a list");
    }
  }

  bool end_array() override {
    if (skipped_ > 0) return skip(-1);
    if (place_ == Place::kOffsets && offsets_.size() != 2) {
      return complain("data_offsets has " + std::to_string(offsets_.size()) +
                      " numbers, expected 2");
    }
    return enter(Place::kTensor);
  }

  bool key(std::string& name) override {
    if (skipped_ > 0) return true;
    switch (place_) {
      case Place::kHeader:
        return header_key(name);
      case Place::kMetadata:
        return metadata_key(name);
      default:
        return tensor_key(name);
    }
  }

  bool string(std::string& text) override {
    if (skipped_ > 0) return true;
    switch (place_) {
      case Place::kMetadataText:
        header_.metadata.back().second = text;
        return enter(Place::kMetadata);
      case Place::kDTypeValue:
        return dtype(text);
      case Place::kUnknownValue:
        return enter(Place::kTensor);
      default:
        return unexpected(in_quotes(text));
    }
  }

  bool number_unsigned(std::uint64_t value) override {
    if (skipped_ > 0) return true;
    if (place_ == Place::kUnknownValue) return enter(Place::kTensor);
    if (place_ != Place::kShape && place_ != Place::kOffsets)
      return unexpected(std::to_string(value));
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return complain(std::to_string(value) + " is beyond 63 bits");
    }
    auto& list = place_ == Place::kShape ? tensor_.extents : offsets_;
    list.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool number_integer(std::int64_t value) override { return other(std::to_string(value)); }
  bool number_float(double /*value*/, const std::string& text) override { return other(text); }
  bool null() override { return other("null"); }
  bool boolean(bool value) override { return other(value ? "true" : "false"); }
  bool binary(Json::binary_t& /*value*/) override { return other("binary"); }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) override {
    return complain("not valid UTF-8 JSON at byte " + std::to_string(position) + " of the header");
  }

 private:
  enum class Place {
    kBefore,
    kHeader,
    kMetadataValue,
    kMetadata,
    kMetadataText,
    kTensorValue,
    kTensor,
    kDTypeValue,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kUnknownValue,
    kAfter,
  };

  bool enter(Place place) {
    place_ = place;
    return true;
  }

  // Inside the value of a key that the format does not know, as the reference does.
  bool skip(int change) {
    skipped_ += change;
    if (skipped_ == 0) place_ = Place::kTensor;
    return true;
  }

  bool complain(const std::string& what) {
    if (complaint_.empty()) {
      complaint_ = tensor_.name.empty() ? what : "tensor " + in_quotes(tensor_.name) + ": " + what;
    }
    return false;
  }

  bool unexpected(const std::string& got) {
    switch (place_) {
      case Place::kMetadataValue:
        return complain("__metadata__ is " + got + ", expected an object");
      case Place::kMetadataText:
        return complain("__metadata__ holds " + got + ", expected strings");
      case Place::kTensorValue:
        return complain("got " + got + ", expected an object");
      case Place::kDTypeValue:
        return complain("dtype is " + got + ", expected a string");
      case Place::kShapeValue:
        return complain("shape is " + got + ", expected a list");
      case Place::kShape:
        return complain("shape holds " + got + ", expected integers from 0");
      case Place::kOffsetsValue:
        return complain("data_offsets is " + got + ", expected a list");
      case Place::kOffsets:
        return complain("data_offsets holds " + got + ", expected integers from 0");
      default:
        return complain("got " + got + " where a key is expected");
    }
  }

  bool other(const std::string& got) {
    if (skipped_ > 0) return true;
    if (place_ == Place::kUnknownValue) return enter(Place::kTensor);
    return unexpected(got);
  }

  bool header_key(const std::string& name) {
    if (name == "__metadata__") {
      if (std::exchange(has_metadata_, true)) return complain("two keys are named __metadata__");
      return enter(Place::kMetadataValue);
    }
    tensor_ = {.name = name};
    offsets_.clear();
    has_shape_ = has_offsets_ = false;
    return enter(Place::kTensorValue);
  }

  bool metadata_key(const std::string& name) {
    for (const auto& entry : header_.metadata) {
      if (entry.first == name)
        return complain("__metadata__ has two keys named " + in_quotes(name));
    }
    constexpr std::size_t kMostEntries = 4096;  // keeps the search above short
    if (header_.metadata.size() == kMostEntries) return complain("__metadata__ has too many keys");
    header_.metadata.emplace_back(name, "");
    return enter(Place::kMetadataText);
  }

  bool tensor_key(const std::string& name) {
    const bool twice = (name == "dtype" && tensor_.dtype != nullptr) ||
                       (name == "shape" && std::exchange(has_shape_, true)) ||
                       (name == "data_offsets" && std::exchange(has_offsets_, true));
    if (twice) return complain("it has two keys named " + name);
    if (name == "dtype") return enter(Place::kDTypeValue);
    if (name == "shape") return enter(Place::kShapeValue);
    if (name == "data_offsets") return enter(Place::kOffsetsValue);
    // Depth 0 until the value opens one.
    return enter(Place::kUnknownValue);
  }

  bool dtype(const std::string& name) {
    tensor_.dtype = find_file_dtype(name);
    if (tensor_.dtype == nullptr) return complain("dtype " + in_quotes(name) + " is not known");
    return enter(Place::kTensor);
  }

  bool end_tensor() {
    if (tensor_.dtype == nullptr) return complain("its dtype is missing");
    if (!has_shape_) return complain("its shape is missing");
    if (!has_offsets_) return complain("its data_offsets are missing");
    tensor_.begin = offsets_[0];
    tensor_.end = offsets_[1];
    header_.tensors.push_back(std::exchange(tensor_, {}));
    return enter(Place::kHeader);
  }

  Header header_;
  std::string complaint_;
  Place place_ = Place::kBefore;
  int skipped_ = 0;
  bool has_metadata_ = false;
  TensorInfo tensor_;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  std::vector<std::int64_t> offsets_;
};

}  // namespace

Result<Header> parse_header_json(std::string_view text, const std::string& where) {
  // nlohmann/json takes a NUL for the end of the text; here it would hide what follows.
  if (text.find('\0') != std::string_view::npos)
    return bad_input(where, "its header holds a NUL byte");
  HeaderHandler handler;
  if (!Json::sax_parse(text.begin(), text.end(), &handler)) {
    return bad_input(where, handler.complaint());
  }
  return std::move(handler.header());
}

}  // namespace ftplan::models
