#include "models/folder_text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/tokenizer_files.h"
#include "models/adapter_config.h"
#include "models/config_quantization.h"
#include "models/config_reader.h"
#include "models/files.h"
#include "models/int8.h"

namespace ftplan::models {
namespace {

bool is_companion(std::string_view name) {
  constexpr std::array kEndings = {".json", ".model", ".jinja", ".txt"};
  constexpr std::array kBeginnings = {"LICENSE", "NOTICE", "USE_POLICY"};
  if (name == kConfigFile || name == kAdapterConfigFile || name.ends_with(".index.json"))
    return false;
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](auto end) { return name.ends_with(end); }) ||
         std::any_of(kBeginnings.begin(), kBeginnings.end(),
                     [&](auto begin) { return name.starts_with(begin); });
}

// @source transformers 5.23 utils/quantization_config.py, BitsAndBytesConfig.to_dict
Json quantization_config(StoredLinears stored, DType compute) {
  const bool int8 = stored == StoredLinears::kInt8;
  return {{"_load_in_4bit", !int8},
          {"_load_in_8bit", int8},
          {"bnb_4bit_compute_dtype", dtype_name(compute)},
          {"bnb_4bit_quant_storage", "uint8"},
          {"bnb_4bit_quant_type", int8 ? "fp4" : "nf4"},
          {"bnb_4bit_use_double_quant", stored == StoredLinears::kNf4Double},
          {"llm_int8_enable_fp32_cpu_offload", false},
          {"llm_int8_has_fp16_weight", false},
          {"llm_int8_skip_modules", nullptr},
          {"llm_int8_threshold", kInt8Threshold},
          {"load_in_4bit", !int8},
          {"load_in_8bit", int8},
          {"quant_method", "bitsandbytes"}};
}

}  // namespace

std::vector<std::string> companions(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (is_companion(name) && is_file(entry.path().string())) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::set<std::string> tokenizer_files(const std::string& folder) {
  std::set<std::string> names;
  for (const char* name : kTokenizerFiles) {
    if (is_file(join_path(folder, name))) names.insert(name);
  }
  return names;
}

Result<std::string> config_with_vocabulary(const std::string& text, const std::string& where,
                                           std::int64_t rows) {
  auto config = parse_json(text, where);
  if (!config) return config.error();
  if (!config->is_object()) return json_detail::wrong(where, *config, "an object");
  (*config)["vocab_size"] = rows;
  return config->dump(2) + "\n";
}

std::string render_config(Json config, StoredLinears stored, std::optional<DType> dtype,
                          DType compute) {
  config.erase(kQuantizationKey);
  if (stored != StoredLinears::kPlain)
    config[kQuantizationKey] = quantization_config(stored, compute);
  if (dtype) config[config.contains("torch_dtype") ? "torch_dtype" : "dtype"] = dtype_name(*dtype);
  return config.dump(2) + "\n";
}

}  // namespace ftplan::models
