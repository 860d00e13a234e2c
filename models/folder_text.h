#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/json.h"
#include "core/model_config.h"

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

}  // namespace ftplan::models
