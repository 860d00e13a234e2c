#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/run_result.h"

/// What a run tells while it goes on.
namespace ftplan::executor {

/// Scalars for TensorBoard. Every process of a run writes a file of its own.
/// @source tensorflow `core/util/event.proto`, `core/framework/summary.proto`,
/// `core/lib/io/record_writer.h`
class EventFile {
 public:
  /// Makes `FOLDER/events.out.tfevents.SECONDS.ftplan`. TensorBoard forgets what earlier files say
  /// of steps after `step`.
  static Result<EventFile> create(const std::string& folder, std::int64_t step, double seconds);

  Result<void> write(std::int64_t step, double seconds,
                     const std::vector<std::pair<std::string_view, double>>& values);

 private:
  Result<void> append(const std::string& event);

  std::string path_;
  std::ofstream out_;
};

/// `metrics.jsonl` and the event file beside it.
class MetricsFiles {
 public:
  /// Continues after `step`: lines of later steps are dropped. An event file is made when there is
  /// something to write, so that a finished run is left as it is.
  static Result<MetricsFiles> open(const std::string& folder, std::int64_t step);

  /// @error run failed: the disk is full
  Result<void> write(const StepMetrics& metrics);

 private:
  std::string folder_;
  std::int64_t step_ = 0;
  std::ofstream lines_;
  std::optional<EventFile> events_;
};

}  // namespace ftplan::executor
