#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"

/// The small files of a model folder that is made from another.
namespace ftplan::models {

/// Names in `folder` of what belongs to a model beside its weights, its index and its
/// `config.json`: tokenizer, templates, licences.
std::vector<std::string> companions(const std::string& folder);

/// `config.json` with other numbers: `quantization_config` as transformers writes it, or none; the
/// element type where one is given.
/// @param compute what transformers shall multiply 4-bit weights in
std::string render_config(Json config, StoredLinears stored, std::optional<DType> dtype,
                          DType compute);

/// Names of the files in a folder that make a tokenizer, with its chat template.
std::set<std::string> tokenizer_files(const std::string& folder);

/// The text of a `config.json` with another number of rows in embedding and head.
/// @error bad input: no JSON object
Result<std::string> config_with_vocabulary(const std::string& text, const std::string& where,
                                           std::int64_t rows);

}  // namespace ftplan::models
