#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "core/json.h"

/// What ftplan knows of other trainers' keys.
namespace ftplan::tools {

/// The value for ftplan; null leaves it open; nothing: not understood.
using Translate = std::optional<Json> (*)(const Json& value);

/// One key, by its JSON pointer in the file. A row for an object stands for all below it.
struct ImportRow {
  const char* key;
  const char* place;  ///< JSON pointer in a `JobRequest`; null when it sets nothing there
  Translate translate;
};

struct Trainer {
  const char* name;
  std::span<const char* const> tells;  ///< one of these keys is in every such file
  const char* defaults;  ///< JSON of a `JobRequest`: what it does where a key is missing
  std::span<const ImportRow> rows;
};

/// In the order in which they are recognised. axolotl's are recognised by their file ending.
std::span<const Trainer> json_trainers();
const Trainer& axolotl();

/// A key of any of these files that changes no bytes on a device: of rates, data, output, logging.
bool is_without_bytes(std::string_view key);

}  // namespace ftplan::tools
