#include "tools/run_flags.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <system_error>

#include "core/result.h"
#include "tools/options.h"

namespace ftplan::tools {
namespace {

constexpr double kLeastSeconds = 0.1;
constexpr double kMostSeconds = 1e7;

Result<void> read_seconds(const char* flag, const std::optional<std::string>& text,
                          std::chrono::milliseconds& to) {
  if (!text) return {};
  double seconds = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  const bool number = error == std::errc() && end == text->data() + text->size();
  if (!number || !(seconds >= kLeastSeconds && seconds <= kMostSeconds))
    return bad_input(flag, "got \"" + *text + "\", expected 0.1..1e7 seconds");
  to = std::chrono::milliseconds(std::llround(seconds * 1000));
  return {};
}

}  // namespace

void RunFlags::declare(Options& options) {
  options.argument({"plan", "FILE", "What ftplan plan wrote."}, plan);
  options.value({"--model", "FOLDER", "Folder with the weights. [that of the plan]"}, model);
  options.values({"--data", "FILE...", "The plan's data, where it lies now. [that of the plan]"},
                 data);
  options.value({"--adapter", "FOLDER", "The adapter to continue from, where it lies now."},
                adapter);
  options.value({"-o,--output", "FOLDER", "Run folder. [the plan's name with -run]"}, output);
  const char* several = "Several ranks";
  options.value({"--join-timeout", "SECONDS",
                 "For how long ranks wait until all are there and have loaded. [1800]", several},
                join_timeout);
  options.value({"--step-timeout", "SECONDS",
                 "For how long a rank may say nothing during a step or a save. [1800]", several},
                step_timeout);
  options.value({"--interface", "NAME",
                 "Network interface of the ranks. [the one that leads to rank 0]", several},
                interface);
  options.toggle({"--json", "", "Prints measured.json at the end."}, json);
}

Result<Timeouts> timeouts_of(const RunFlags& flags) {
  Timeouts timeouts;
  if (auto ok = read_seconds("--join-timeout", flags.join_timeout, timeouts.join); !ok)
    return ok.error();
  if (auto ok = read_seconds("--step-timeout", flags.step_timeout, timeouts.step); !ok)
    return ok.error();
  return timeouts;
}

}  // namespace ftplan::tools
