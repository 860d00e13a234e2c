#include "tests/models/support.h"

#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/config_reader.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/safetensors_header.h"
#include "models/safetensors_writer.h"

namespace ftplan::models {

TempFolder::TempFolder() {
  path_ = (std::filesystem::temp_directory_path() / "ftplan-models-XXXXXX").string();
  EXPECT_NE(::mkdtemp(path_.data()), nullptr);
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TempFolder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void put(const std::string& path, std::string_view text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

std::string get(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string safetensors_bytes(std::string_view json, std::size_t data) {
  const std::uint64_t length = json.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + std::string(json) + std::string(data, '\0');
}

std::string toy_config_json() {
  return R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 10,
  "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
  "num_key_value_heads": 1, "max_position_embeddings": 16, "torch_dtype": "float32"})";
}

ModelConfig toy_model() { return *read_config(toy_config_json(), "config.json"); }

std::vector<float> toy_values(const TensorSpec& spec) {
  std::uint32_t state = 1;
  for (const char c : spec.name) state = state * 31 + static_cast<unsigned char>(c);
  std::vector<float> values(static_cast<std::size_t>(spec.shape.elements()));
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(static_cast<int>(state >> 25) - 64) / 64.0F;
  }
  return values;
}

std::vector<std::byte> toy_bytes(const TensorSpec& spec) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(spec.bytes().value));
  if (is_float(spec.dtype)) {
    from_f32(toy_values(spec), spec.dtype, bytes);
  } else {
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 2);
  }
  return bytes;
}

void put_safetensors(const std::string& path, const std::vector<TensorSpec>& specs,
                     const Metadata& metadata) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  auto writer = SafetensorsWriter::create(path, specs, metadata);
  ASSERT_EQ(error_text(writer), "ok");
  for (const TensorSpec& spec : specs)
    ASSERT_EQ(error_text(writer->write(spec.name, toy_bytes(spec))), "ok");
  ASSERT_EQ(error_text(writer->finish()), "ok");
}

std::vector<TensorSpec> model_specs(const ModelConfig& config, DType dtype) {
  std::vector<TensorSpec> specs;
  for (const Weight& weight : all_weights(make_blueprint(config), config)) {
    specs.push_back({weight.name, dtype, weight.shape});
  }
  return specs;
}

void put_toy_model(const std::string& folder, DType dtype) {
  put(folder + "/config.json", toy_config_json());
  put_safetensors(folder + "/model.safetensors", model_specs(toy_model(), dtype));
}

}  // namespace ftplan::models
