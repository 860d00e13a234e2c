#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/model_config.h"
#include "core/result.h"
#include "models/checkpoint.h"
#include "models/family.h"
#include "models/safetensors.h"

/// Linears that bitsandbytes has quantized, as transformers saves them.
///
/// NF4: `NAME.weight` holds the packed values, U8 [bytes, 1]. Beside it stand `NAME.weight.absmax`,
/// F32 or with double quantization U8, `.quant_map`, the 16 values, and
/// `.quant_state.bitsandbytes__nf4`, U8 that are JSON; with double quantization also
/// `.nested_absmax` and `.nested_quant_map`.
/// int8: `NAME.weight` holds the codes, I8 [out, in], `NAME.SCB` their scales, F32 [out], and
/// `NAME.weight_format`, U8 [], is 0, for rows.
/// @source bitsandbytes 0.50.0 functional.py (QuantState.as_dict), nn/modules.py (Linear4bit,
///   Linear8bitLt); transformers 5.23 quantizers/quantizer_bnb_4bit.py, quantizer_bnb_8bit.py
namespace ftplan::models {

inline constexpr const char* kAbsmaxSuffix = ".absmax";
inline constexpr const char* kMapSuffix = ".quant_map";
inline constexpr const char* kStateSuffix = ".quant_state.bitsandbytes__nf4";
inline constexpr const char* kNestedAbsmaxSuffix = ".nested_absmax";
inline constexpr const char* kNestedMapSuffix = ".nested_quant_map";

/// The way out of what is not read.
inline constexpr const char* kGiveUnquantized =
    "give the 16-bit model that was quantized; --method qlora quantizes it";

/// `NAME` of `NAME.weight`.
std::string linear_name(std::string_view weight);

/// `NAME.SCB` and `NAME.weight_format` of `NAME.weight`.
std::string scales_name(std::string_view weight);
std::string format_name(std::string_view weight);

/// Names of all tensors that hold the linear `weight`, that one first.
std::vector<std::string> stored_names(const std::string& weight, StoredLinears stored);

struct StoredNf4 {
  const TensorView* packed = nullptr;
  const TensorView* absmax = nullptr;  ///< F32; with double quantization U8
  const TensorView* nested = nullptr;  ///< null without double quantization
  float offset = 0;
};

struct StoredInt8 {
  const TensorView* codes = nullptr;
  const TensorView* scales = nullptr;
};

/// A matrix of a layer; `weight` has its full name. Values are looked at where they are used.
/// @error bad input that names the tensor: missing, of other type or shape, cut into other blocks,
///   or with another map than ftplan's
Result<StoredNf4> stored_nf4(const Checkpoint& checkpoint, const Weight& weight, bool twice);
Result<StoredInt8> stored_int8(const Checkpoint& checkpoint, const Weight& weight);

/// Either of the two, only checked.
Result<void> check_stored_linear(const Checkpoint& checkpoint, const Weight& weight,
                                 StoredLinears stored);

}  // namespace ftplan::models
