#pragma once

#include <optional>
#include <string>

#include "core/dtype.h"
#include "core/model_config.h"
#include "core/result.h"
#include "models/merge.h"
#include "tools/options.h"

/// What `merge` and `convert` share: the folder that is read, the folder that is written, and the
/// numbers in it.
namespace ftplan::tools {

class WrittenFolder {
 public:
  void declare(Options& options);

  /// All of a request but the adapter and what it was trained on.
  /// @error bad input: a flag is missing or has no such value, or the model has no files
  Result<models::MergeRequest> open();

  // @pre opened
  [[nodiscard]] StoredLinears base() const { return base_; }
  /// With or without double quantization: as the flag says, else as the base, else with.
  [[nodiscard]] StoredLinears nf4() const;
  /// Whether `--into` was given.
  [[nodiscard]] bool names_numbers() const { return into_.has_value(); }

  /// Writes the folder and prints what was done.
  [[nodiscard]] Result<int> write(const models::MergeRequest& request,
                                  const std::string& note) const;

 private:
  std::optional<std::string> model_;
  std::optional<std::string> output_;
  std::optional<std::string> into_;
  std::optional<bool> twice_;
  bool json_ = false;
  StoredLinears base_ = StoredLinears::kPlain;
  DType floats_ = DType::kF32;  ///< of the base's weights that are no codes
};

}  // namespace ftplan::tools
