#include "models/family.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/digest.h"
#include "core/enums.h"
#include "core/model_config.h"
#include "models/family_row.h"

namespace ftplan::models {

std::int64_t Blueprint::width(Value value, const ModelConfig& config) const {
  switch (value) {
    case Value::kResidual:
    case Value::kNormed:
    case Value::kMlpNormed:
    case Value::kBranch:
      return config.hidden;
    case Value::kQuery:
    case Value::kAttended:
      return config.heads * config.head_size;
    case Value::kKey:
    case Value::kValue:
      return config.kv_heads * config.head_size;
    case Value::kGate:
    case Value::kUp:
    case Value::kActivated:
      return config.intermediate;
    case Value::kQueryKeyValue:
    case Value::kGateUp:
      break;
  }
  std::int64_t sum = 0;
  for (const Value part : parts_of(value)) sum += width(part, config);
  return sum;
}

std::vector<Value> parts_of(Value value) {
  if (value == Value::kQueryKeyValue) return {Value::kQuery, Value::kKey, Value::kValue};
  if (value == Value::kGateUp) return {Value::kGate, Value::kUp};
  return {};
}

Blueprint make_blueprint(const ModelConfig& config) {
  return row_of(config.family).blueprint(config);
}

std::string layer_weight_name(const Blueprint& blueprint, const Weight& weight,
                              std::int64_t layer) {
  return blueprint.layer_prefix + std::to_string(layer) + "." + weight.name;
}

std::vector<Weight> all_weights(const Blueprint& blueprint, const ModelConfig& config) {
  std::vector<Weight> all;
  all.reserve(blueprint.layer.size() * static_cast<std::size_t>(config.layers) + 4);
  all.push_back(blueprint.embedding);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const Weight& weight : blueprint.layer) {
      all.push_back(weight);
      all.back().name = layer_weight_name(blueprint, weight, layer);
    }
  }
  all.push_back(blueprint.final_norm);
  if (blueprint.final_norm_bias) all.push_back(*blueprint.final_norm_bias);
  if (!config.tied_embeddings) all.push_back(blueprint.head);
  return all;
}

std::int64_t count_parameters(const ModelConfig& config) {
  const Blueprint blueprint = make_blueprint(config);
  std::int64_t layer = 0;
  for (const Weight& weight : blueprint.layer) layer += weight.shape.elements();
  const std::int64_t head = config.tied_embeddings ? 0 : blueprint.head.shape.elements();
  const auto& bias = blueprint.final_norm_bias;
  return blueprint.embedding.shape.elements() + config.layers * layer +
         blueprint.final_norm.shape.elements() + (bias ? bias->shape.elements() : 0) + head;
}

ModelConfig with_vocabulary(ModelConfig config, std::int64_t rows) {
  FTPLAN_CHECK(rows >= config.vocabulary);
  const ModelConfig stored = as_stored(config);
  config.stored_vocabulary = rows > stored.vocabulary ? stored.vocabulary : 0;
  config.vocabulary = rows;
  return config;
}

ModelConfig as_stored(ModelConfig config) {
  if (config.stored_vocabulary > 0) config.vocabulary = config.stored_vocabulary;
  config.stored_vocabulary = 0;
  return config;
}

std::string weight_table_digest(const ModelConfig& grown) {
  const ModelConfig config = as_stored(grown);
  Digester digester;
  digester.add(to_text(config.stored));
  if (config.stored_linears != StoredLinears::kPlain) digester.add(to_text(config.stored_linears));
  for (const Weight& weight : all_weights(make_blueprint(config), config)) {
    digester.add(weight.name + weight.shape.text() + ";");
  }
  return digester.hex();
}

}  // namespace ftplan::models
