#include "tools/environment.h"

#include <cstdlib>
#include <string>

#include "models/hub_cache.h"

namespace ftplan::tools {
namespace {

std::string variable(const char* name) { return environment_variable(name); }

}  // namespace

std::string environment_variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

models::HubEnvironment hub_environment() {
  return {.hf_hub_cache = variable("HF_HUB_CACHE"),
          .hf_home = variable("HF_HOME"),
          .xdg_cache_home = variable("XDG_CACHE_HOME"),
          .home = variable("HOME")};
}

std::string cache_folder() {
  // A relative path is to be ignored. @source XDG Base Directory Specification 0.8
  if (const std::string cache = variable("XDG_CACHE_HOME"); cache.starts_with("/"))
    return cache + "/ftplan";
  const std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.cache/ftplan";
}

}  // namespace ftplan::tools
