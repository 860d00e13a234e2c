#include "tools/import/import_rows.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "core/json.h"

namespace ftplan::tools {
namespace {

constexpr const char* kNameCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

using Found = std::optional<Json>;

Found same(const Json& value) { return value; }

// Changes no bytes, whatever it says.
Found nothing(const Json& /*value*/) { return Json(nullptr); }

// Without effect where it is off: false, 0, none or empty.
Found only_off(const Json& value) {
  const bool off = value.empty() || value == false || value == 0 || value == "none" || value == "";
  return off ? Found(nullptr) : std::nullopt;
}

// YAML that Python reads leaves 2e-4 a text.
Found number(const Json& value) {
  if (!value.is_string()) return value;
  const auto& text = value.get_ref<const std::string&>();
  double parsed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return Json(parsed);
}

Found positive(const Json& value) {
  if (!value.is_number()) return std::nullopt;
  return value.get<double>() > 0 ? Found(value) : Found(nullptr);
}

Found word(const Json& value, const std::map<std::string_view, const char*>& words) {
  if (!value.is_string()) return std::nullopt;
  const auto found = words.find(value.get_ref<const std::string&>());
  if (found == words.end()) return std::nullopt;
  return found->second == nullptr ? Json(nullptr) : Json(found->second);
}

// A switch that stands for `on`; off leaves the key as other rows set it.
Found when_on(const Json& value, const Json& on) {
  if (!value.is_boolean()) return std::nullopt;
  return value.get<bool>() ? on : Json(nullptr);
}

Found checkpointing(const Json& value) {
  if (!value.is_boolean()) return std::nullopt;
  return Json(value.get<bool>() ? "full" : "none");
}
Found bf16(const Json& value) { return when_on(value, "bf16"); }
Found fp16(const Json& value) { return when_on(value, "fp16"); }
Found nf4(const Json& value) { return when_on(value, "qlora"); }
Found int8(const Json& value) { return when_on(value, "int8-lora"); }
Found packed(const Json& value) { return when_on(value, "isolated"); }
Found all_linear(const Json& value) { return when_on(value, Json::array({"all-linear"})); }

// A text is all-linear, or a regular expression.
Found targets(const Json& value) {
  if (value.is_array()) return value;
  return value.is_string() ? Found(Json::array({value})) : std::nullopt;
}

// Of names; what is more is left out, as its ranks cannot be told.
Found pattern(const Json& value) {
  if (!value.is_object()) return only_off(value);
  Json entries = Json::array();
  for (const auto& entry : value.items()) {
    if (!entry.value().is_number() ||
        entry.key().find_first_not_of(kNameCharacters) != std::string::npos)
      return std::nullopt;
    entries.push_back(entry.key() + "=" + entry.value().dump());
  }
  return entries;
}

Found adapter_method(const Json& value) {
  return word(value, {{"lora", "lora"}, {"qlora", "qlora"}, {"", "full"}});
}
Found peft_type(const Json& value) { return word(value, {{"LORA", "lora"}}); }

Found optimizer(const Json& value) {
  return word(value, {{"adamw_torch", "adamw"},
                      {"adamw_torch_fused", "adamw"},
                      {"adamw_hf", "adamw"},
                      {"adamw_apex_fused", "adamw"},
                      {"adamw_bnb_8bit", "adamw8bit"},
                      {"adamw_8bit", "adamw8bit"},
                      {"paged_adamw_8bit", "paged-adamw8bit"},
                      {"sgd", "sgd"},
                      {"Adam", "adamw"},
                      {"AdamW", "adamw"}});
}

Found only_no_bias(const Json& value) { return word(value, {{"none", nullptr}}); }
Found only_causal(const Json& value) { return word(value, {{"CAUSAL_LM", nullptr}}); }

constexpr auto kAdapterRows = std::to_array<ImportRow>({
    {"/base_model_name_or_path", "/model", same},
    {"/peft_type", "/method/method", peft_type},
    {"/r", "/method/rank", same},
    {"/lora_alpha", "/method/alpha", same},
    {"/lora_dropout", "/method/dropout", same},
    {"/use_rslora", "/method/rslora", same},
    {"/rank_pattern", "/method/rank_pattern", pattern},
    {"/alpha_pattern", "/method/alpha_pattern", pattern},
    {"/target_modules", "/method/targets", targets},
    {"/modules_to_save", "/method/modules_to_save", same},
    {"/ensure_weight_tying", "/method/ensure_weight_tying", same},
    {"/bias", nullptr, only_no_bias},
    {"/task_type", nullptr, only_causal},
    {"/auto_mapping", nullptr, nothing},
    {"/eva_config", nullptr, nothing},
    {"/fan_in_fan_out", nullptr, nothing},
    {"/inference_mode", nullptr, nothing},
    {"/init_lora_weights", nullptr, nothing},
    {"/layer_replication", nullptr, only_off},
    {"/loftq_config", nullptr, only_off},
    {"/megatron_core", nullptr, nothing},
    {"/peft_version", nullptr, nothing},
    {"/revision", nullptr, nothing},
    {"/runtime_config", nullptr, nothing},
});

constexpr auto kTrainingRows = std::to_array<ImportRow>({
    {"/per_device_train_batch_size", "/training/micro_batch", same},
    {"/gradient_accumulation_steps", "/training/accumulation", same},
    {"/max_steps", "/training/steps", positive},
    {"/num_train_epochs", "/training/epochs", same},
    {"/gradient_checkpointing", "/layout/checkpointing", checkpointing},
    {"/gradient_checkpointing_kwargs", nullptr, nothing},
    {"/optim", "/method/optimizer", optimizer},
    {"/bf16", "/method/precision", bf16},
    {"/fp16", "/method/precision", fp16},
    {"/max_length", "/data/seq", same},
    {"/max_seq_length", "/data/seq", same},
    {"/packing", "/data/packing", packed},
    {"/seed", "/training/seed", same},
    {"/deepspeed", nullptr, only_off},
    {"/fsdp", nullptr, only_off},
    {"/torch_compile", nullptr, only_off},
    {"/use_liger_kernel", nullptr, only_off},
    {"/neftune_noise_alpha", nullptr, only_off},
    {"/optim_target_modules", nullptr, only_off},
    {"/torch_empty_cache_steps", nullptr, nothing},
});

constexpr auto kDeepSpeedRows = std::to_array<ImportRow>({
    {"/train_micro_batch_size_per_gpu", "/training/micro_batch", same},
    {"/gradient_accumulation_steps", "/training/accumulation", same},
    {"/train_batch_size", "/training/global_batch", same},
    {"/zero_optimization/stage", "/layout/zero", same},
    {"/zero_optimization/offload_optimizer/device", nullptr, only_off},
    {"/zero_optimization/offload_param/device", nullptr, only_off},
    {"/zero_optimization/offload_optimizer/pin_memory", nullptr, nothing},
    {"/zero_optimization/offload_param/pin_memory", nullptr, nothing},
    {"/zero_optimization/overlap_comm", nullptr, nothing},
    {"/zero_optimization/contiguous_gradients", nullptr, nothing},
    {"/zero_optimization/round_robin_gradients", nullptr, nothing},
    {"/zero_optimization/stage3_gather_16bit_weights_on_model_save", nullptr, nothing},
    {"/bf16/enabled", "/method/precision", bf16},
    {"/fp16/enabled", "/method/precision", fp16},
    {"/fp16", nullptr, nothing},
    {"/optimizer/type", "/method/optimizer", optimizer},
    {"/optimizer/params", nullptr, nothing},
    {"/scheduler", nullptr, nothing},
    {"/gradient_clipping", "/training/clip", same},
    {"/steps_per_print", nullptr, nothing},
    {"/wall_clock_breakdown", nullptr, nothing},
    {"/tensorboard", nullptr, nothing},
    {"/wandb", nullptr, nothing},
    {"/csv_monitor", nullptr, nothing},
    {"/flops_profiler", nullptr, nothing},
    {"/comms_logger", nullptr, nothing},
});

constexpr auto kAxolotlRows = std::to_array<ImportRow>({
    {"/base_model", "/model", same},
    {"/adapter", "/method/method", adapter_method},
    {"/load_in_4bit", "/method/method", nf4},
    {"/load_in_8bit", "/method/method", int8},
    {"/lora_r", "/method/rank", same},
    {"/lora_alpha", "/method/alpha", number},
    {"/lora_dropout", "/method/dropout", number},
    {"/peft_use_rslora", "/method/rslora", same},
    {"/lora_target_modules", "/method/targets", targets},
    {"/lora_target_linear", "/method/targets", all_linear},
    {"/bnb_config_kwargs/bnb_4bit_use_double_quant", "/method/double_quantization", same},
    {"/sequence_len", "/data/seq", same},
    {"/sample_packing", "/data/packing", packed},
    {"/val_set_size", nullptr, nothing},
    {"/micro_batch_size", "/training/micro_batch", same},
    {"/gradient_accumulation_steps", "/training/accumulation", same},
    {"/num_epochs", "/training/epochs", number},
    {"/max_steps", "/training/steps", positive},
    {"/gradient_checkpointing", "/layout/checkpointing", checkpointing},
    {"/gradient_checkpointing_kwargs", nullptr, nothing},
    {"/optimizer", "/method/optimizer", optimizer},
    {"/bf16", "/method/precision", bf16},
    {"/fp16", "/method/precision", fp16},
    {"/tf32", nullptr, nothing},
    {"/flash_attention", nullptr, nothing},
    {"/sdp_attention", nullptr, nothing},
    {"/seed", "/training/seed", same},
    {"/deepspeed", nullptr, only_off},
    {"/fsdp", nullptr, only_off},
    {"/fsdp_config", nullptr, only_off},
    {"/lora_modules_to_save", "/method/modules_to_save", same},
    {"/peft_ensure_weight_tying", "/method/ensure_weight_tying", same},
    {"/lora_model_dir", nullptr, only_off},
    {"/unfrozen_parameters", nullptr, only_off},
});

// What never changes bytes on a device, in any of these files: rates, data, output, logging.
constexpr auto kWithoutBytes = std::to_array<const char*>({
    "accelerator_config",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "average_tokens_across_devices",
    "base_model_ignore_patterns",
    "batch_eval_metrics",
    "chat_template",
    "data_seed",
    "dataloader_drop_last",
    "dataloader_in_order",
    "dataloader_multiprocessing_context",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "dataset_prepared_path",
    "dataset_processes",
    "datasets",
    "ddp_backend",
    "ddp_timeout",
    "debug",
    "disable_tqdm",
    "do_eval",
    "do_predict",
    "do_train",
    "early_stopping_patience",
    "enable_jit_checkpoint",
    "eval_accumulation_steps",
    "eval_batch_size",
    "eval_delay",
    "eval_do_concat_batches",
    "eval_on_start",
    "eval_sample_packing",
    "eval_steps",
    "eval_strategy",
    "eval_table_size",
    "eval_use_gather_object",
    "evals_per_epoch",
    "evaluation_strategy",
    "full_determinism",
    "greater_is_better",
    "group_by_length",
    "hub_always_push",
    "hub_model_id",
    "hub_private_repo",
    "hub_revision",
    "hub_strategy",
    "hub_token",
    "ignore_data_skip",
    "include_for_metrics",
    "include_num_input_tokens_seen",
    "is_llama_derived_model",
    "is_mistral_derived_model",
    "label_names",
    "learning_rate",
    "length_column_name",
    "load_best_model_at_end",
    "local_rank",
    "log_level",
    "log_level_replica",
    "log_on_each_node",
    "logging_dir",
    "logging_first_step",
    "logging_nan_inf_filter",
    "logging_steps",
    "logging_strategy",
    "lr_scheduler",
    "lr_scheduler_kwargs",
    "lr_scheduler_type",
    "max_grad_norm",
    "megatron_config",
    "metric_for_best_model",
    "model_type",
    "output_dir",
    "overwrite_output_dir",
    "pad_to_sequence_len",
    "per_device_eval_batch_size",
    "prediction_loss_only",
    "project",
    "push_to_hub",
    "qalora_group_size",
    "remove_unused_columns",
    "report_to",
    "restore_callback_states_from_checkpoint",
    "resume_from_checkpoint",
    "run_name",
    "save_on_each_node",
    "save_only_model",
    "save_safetensors",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "saves_per_epoch",
    "shuffle_merged_datasets",
    "skip_memory_metrics",
    "special_tokens",
    "strict",
    "test_datasets",
    "tokenizer_type",
    "trackio_bucket_id",
    "trackio_space_id",
    "trackio_static_space_id",
    "train_on_inputs",
    "train_sampling_strategy",
    "trust_remote_code",
    "val_set_size",
    "wandb_entity",
    "wandb_log_model",
    "wandb_mode",
    "wandb_name",
    "wandb_project",
    "wandb_run_id",
    "wandb_watch",
    "warmup_ratio",
    "warmup_steps",
    "weight_decay",
    "xformers_attention",
});

constexpr auto kAdapterTells = std::to_array<const char*>({"peft_type"});
constexpr auto kTrainingTells =
    std::to_array<const char*>({"per_device_train_batch_size", "output_dir"});
constexpr auto kDeepSpeedTells = std::to_array<const char*>(
    {"zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size"});
constexpr auto kAxolotlTells = std::to_array<const char*>({"base_model"});

// @source PEFT 0.21.2 `tuners/lora/config.py`; transformers 5.23 `training_args.py`, and TRL's
// SFTConfig for max_length and packing; DeepSpeed's configuration JSON; axolotl
// `utils/schemas/config.py`
constexpr auto kJsonTrainers = std::to_array<Trainer>({
    {"PEFT", kAdapterTells, R"({"method": {"rank": 8, "alpha": 8}})", kAdapterRows},
    {"TrainingArguments", kTrainingTells,
     R"({"training": {"micro_batch": 8, "accumulation": 1}, "layout": {"checkpointing": "none"}})",
     kTrainingRows},
    {"DeepSpeed", kDeepSpeedTells, R"({})", kDeepSpeedRows},
});

constexpr Trainer kAxolotl{
    "axolotl", kAxolotlTells,
    R"({"method": {"method": "full"}, "data": {"seq": 512}, "layout": {"checkpointing": "none"}})",
    kAxolotlRows};

}  // namespace

std::span<const Trainer> json_trainers() { return kJsonTrainers; }
const Trainer& axolotl() { return kAxolotl; }

bool is_without_bytes(std::string_view key) {
  return std::find(kWithoutBytes.begin(), kWithoutBytes.end(), key) != kWithoutBytes.end();
}

}  // namespace ftplan::tools
