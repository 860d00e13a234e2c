#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

/// The folder in which Hugging Face tools keep what they have downloaded.
/// @source huggingface_hub 1.33 `constants.py`, `file_download.py` (try_to_load_from_cache)
namespace ftplan::models {

/// Environment variables of the user, empty where not set; the caller reads them.
struct HubEnvironment {
  std::string hf_hub_cache;    ///< HF_HUB_CACHE: the cache itself
  std::string hf_home;         ///< HF_HOME: the cache is `hub/` in it
  std::string xdg_cache_home;  ///< XDG_CACHE_HOME: HF_HOME is `huggingface/` in it
  std::string home;            ///< HOME: XDG_CACHE_HOME is `.cache/` in it
};

/// The cache folder; empty when nothing in the environment leads to one.
std::string hub_cache_folder(const HubEnvironment& environment);

/// Whether the text has the form `org/name` of a repository.
bool is_repository_name(std::string_view text);

/// The folder of the snapshot of `repository` that its `main` points to.
/// @error bad input: it has not been downloaded, the command that does, and the page of its licence
Result<std::string> find_snapshot(const std::string& repository, const HubEnvironment& environment);

}  // namespace ftplan::models
