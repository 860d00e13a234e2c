#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"

/// `run`, `eval`, `generate` and `calibrate` are done by `ftplan-worker`, which links LibTorch.
namespace ftplan::tools {

/// The worker beside this executable, or in `../libexec/ftplan`; empty when there is none.
std::string find_worker();

/// What one worker gets beside its arguments.
struct WorkerStart {
  std::vector<std::string> variables{};  ///< `NAME=value`, before those of this process
  std::vector<int> descriptors{};        ///< stay open in it
};

/// How a worker has ended.
struct WorkerEnd {
  std::size_t worker = 0;  ///< in the order of their starts
  int status = 0;          ///< as waitpid gives it
};

/// Workers that run. SIGINT and SIGTERM that other processes send are passed on to all; those of
/// the terminal reach them by themselves. They are asked to stop when this process dies.
class Workers {
 public:
  /// @error bad input: no worker, and how to build it; run failed: none can be started
  static Result<Workers> start(const std::vector<std::string>& arguments,
                               const std::vector<WorkerStart>& starts);

  [[nodiscard]] std::size_t running() const { return running_; }
  /// The next that ends; none when `limit` has passed before. @pre one is running
  std::optional<WorkerEnd> next_end(std::optional<std::chrono::milliseconds> limit = std::nullopt);
  /// To all that run.
  void signal(int number) const;

 private:
  std::vector<pid_t> ids_;  // 0: has ended
  std::size_t running_ = 0;
};

/// Exit code of a worker that has ended.
/// @error run failed: a signal ended it
Result<int> exit_of(const WorkerEnd& end);

/// Runs one worker and returns its exit code.
/// @error as `Workers::start` and `exit_of`
Result<int> spawn_worker(const std::vector<std::string>& arguments);

}  // namespace ftplan::tools
