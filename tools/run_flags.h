#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "tools/options.h"

/// What `run` takes: read by ftplan, which starts the ranks, and by each of them.
namespace ftplan::tools {

struct RunFlags {
  std::string plan;
  std::optional<std::string> model, adapter, output;
  std::vector<std::string> data;
  std::optional<std::string> join_timeout, step_timeout;  ///< seconds
  std::optional<std::string> interface;
  bool json = false;

  void declare(Options& options);
};

/// For how long ranks wait for each other.
struct Timeouts {
  std::chrono::milliseconds join{1'800'000};
  std::chrono::milliseconds step{1'800'000};
};
/// @error bad input: no number of seconds
Result<Timeouts> timeouts_of(const RunFlags& flags);

}  // namespace ftplan::tools
