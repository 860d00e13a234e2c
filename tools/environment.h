#pragma once

#include <string>

#include "models/hub_cache.h"

/// The user's environment variables.
namespace ftplan::tools {

models::HubEnvironment hub_environment();

/// Folder for what ftplan measured: `$XDG_CACHE_HOME/ftplan`, else `~/.cache/ftplan`; empty where there is neither.
std::string cache_folder();

}  // namespace ftplan::tools
