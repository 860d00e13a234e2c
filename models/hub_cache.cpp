#include "models/hub_cache.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/result.h"
#include "models/files.h"

namespace ftplan::models {
namespace {

bool is_name_part(std::string_view part) {
  return !part.empty() && part != "." && part != ".." &&
         std::all_of(part.begin(), part.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
         });
}

// `models--org--name`
std::string repository_folder(const std::string& repository) {
  const std::size_t slash = repository.find('/');
  return "models--" + repository.substr(0, slash) + "--" + repository.substr(slash + 1);
}

// Downloads that named a commit leave no `refs/main`; a single snapshot is then the one that is
// meant.
std::string only_snapshot(const std::string& snapshots) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(snapshots, error)) {
    found.push_back(entry.path().string());
  }
  return found.size() == 1 ? found.front() : "";
}

}  // namespace

std::string hub_cache_folder(const HubEnvironment& environment) {
  if (!environment.hf_hub_cache.empty()) return environment.hf_hub_cache;
  if (!environment.hf_home.empty()) return join_path(environment.hf_home, "hub");
  if (!environment.xdg_cache_home.empty()) {
    return join_path(environment.xdg_cache_home, "huggingface/hub");
  }
  return environment.home.empty() ? "" : join_path(environment.home, ".cache/huggingface/hub");
}

bool is_repository_name(std::string_view text) {
  const std::size_t slash = text.find('/');
  return slash != std::string_view::npos && is_name_part(text.substr(0, slash)) &&
         is_name_part(text.substr(slash + 1));
}

Result<std::string> find_snapshot(const std::string& repository,
                                  const HubEnvironment& environment) {
  const std::string cache = hub_cache_folder(environment);
  const std::string folder = join_path(cache, repository_folder(repository));
  const std::string snapshots = join_path(folder, "snapshots");
  std::string snapshot;
  if (const auto commit = read_text_file(join_path(folder, "refs/main")); commit) {
    if (is_name_part(*commit)) snapshot = join_path(snapshots, *commit);
  } else {
    snapshot = only_snapshot(snapshots);
  }
  if (!cache.empty() && !snapshot.empty() && is_folder(snapshot)) return snapshot;
  return bad_input(repository, "is no folder, and not in the local Hugging Face cache" +
                                   (cache.empty() ? "" : " (" + cache + ")") +
                                   ": download it with: hf download " + repository +
                                   " (a gated model after its licence was accepted at "
                                   "https://huggingface.co/" +
                                   repository + ")");
}

}  // namespace ftplan::models
