#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/model_config.h"
#include "core/result.h"
#include "models/safetensors_header.h"

/// Toy models and throw-away folders for the tests of models/.
namespace ftplan::models {

/// A folder of its own, removed with everything in it.
class TempFolder {
 public:
  TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Names in it, sorted.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  std::string path_;
};

/// Writes `text`, making the folders above it.
void put(const std::string& path, std::string_view text);

/// The whole file.
std::string get(const std::string& path);

/// Header length, `json`, and `data` zero bytes: a safetensors file by hand.
std::string safetensors_bytes(std::string_view json, std::size_t data);

/// 2 layers, hidden 8, 2 heads of 4 with 1 key head, intermediate 12, vocabulary 10.
ModelConfig toy_model();
/// Its `config.json`.
std::string toy_config_json();

/// A tensor of numbers that differ from each other and from those of other tensors: small multiples
/// of 1/64, exact in every float type.
std::vector<float> toy_values(const TensorSpec& spec);
/// The same in the spec's element type.
std::vector<std::byte> toy_bytes(const TensorSpec& spec);

/// Writes `specs` with their toy values.
void put_safetensors(const std::string& path, const std::vector<TensorSpec>& specs,
                     const Metadata& metadata = torch_metadata());

/// `model.safetensors` and `config.json` of the toy model.
void put_toy_model(const std::string& folder, DType dtype = DType::kF32);

/// The weights of a model as they would be stored.
std::vector<TensorSpec> model_specs(const ModelConfig& config, DType dtype);

/// The error's line with `folder` cut away, so that tests can name it whole; "ok" without an error.
template <class T>
std::string error_text(const Result<T>& result, const std::string& folder = "") {
  if (result) return "ok";
  std::string text = result.error().text();
  if (const auto at = text.find(folder + "/"); !folder.empty() && at != std::string::npos) {
    text.erase(at, folder.size() + 1);
  }
  return text;
}

}  // namespace ftplan::models
