#pragma once

#include <string>

#include "models/hub_cache.h"

/// The user's environment variables.
namespace ftplan::tools {

models::HubEnvironment hub_environment();

/// Empty where it is not set.
std::string environment_variable(const std::string& name);

/// Folder for what ftplan measured or tokenized: `$XDG_CACHE_HOME/ftplan`, else `~/.cache/ftplan`;
/// empty where neither is known.
std::string cache_folder();

}  // namespace ftplan::tools
