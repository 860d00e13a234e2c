#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/job.h"
#include "core/json.h"
#include "core/result.h"

/// What the configuration of another trainer asks for, in ftplan's words.
namespace ftplan::tools {

struct ImportedJob {
  std::string trainer;            ///< whose file it is: `axolotl`
  Json request = Json::object();  ///< the keys of a `JobRequest` that it sets
  /// Of those keys, where they came from: `/method/rank` from `/lora_r`.
  std::vector<std::pair<std::string, std::string>> origins;
  /// What may change bytes and was not understood, as `key = value`.
  std::vector<std::string> left_out;
  std::string deepspeed;  ///< the file of a DeepSpeed configuration that it names

  [[nodiscard]] bool sets(const std::string& place) const;
};

/// Reads an axolotl YAML file, or JSON that is a DeepSpeed configuration, Hugging Face
/// `TrainingArguments` or a PEFT `adapter_config.json`; which of them is told by its keys. What a
/// DeepSpeed file says that it names, from its own folder or from here, holds where it says
/// nothing.
/// @error bad input: cannot be read, is none of these
Result<ImportedJob> import_job(const std::string& path);

/// The same from text; `where` names it, and YAML by its ending.
Result<ImportedJob> import_job(std::string_view text, const std::string& where);

/// The request, with errors that name the place in the other trainer's file.
Result<JobRequest> request_of(const ImportedJob& imported, const std::string& where);

}  // namespace ftplan::tools
