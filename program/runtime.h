#pragma once

#include <string>
#include <string_view>

#include "core/dtype.h"
#include "core/result.h"

/// Runtime profiles: how other trainers compute the same step, as switches of the pass `expand`.
namespace ftplan::program {

enum class HfAttention : std::uint8_t { kSdpa, kEager };

/// `ftplan` itself expands nothing. Every switch of another runtime names the code that it
/// describes, in `configs/runtimes/NAME.json`.
struct RuntimeProfile {
  std::string name = "ftplan";
  bool expands = false;
  HfAttention attention = HfAttention::kSdpa;
  bool sdpa_repeats_keys =
      false;  ///< grouped keys and values are copied for every head before sdpa
  bool autocast_full =
      false;  ///< full 16-bit = f32 weights and residual stream, products in 16 bits
  bool casts_adapter_input =
      false;  ///< adapters stay f32 and so is their input; else they are cast to its type
  bool logits_in_f32 = false;  ///< the loss is made from an f32 copy of the logits
  bool holds_logits = false;   ///< the logits stay alive through the backward
};

/// The profile of a name that `validate` accepts.
const RuntimeProfile& runtime_profile(const std::string& name);

/// Reads one file of `configs/runtimes/`.
/// @error bad input that names the switch: unknown, missing, given twice, without source, or of a
/// value not known
Result<RuntimeProfile> read_runtime(std::string_view json_text, const std::string& where);

}  // namespace ftplan::program
