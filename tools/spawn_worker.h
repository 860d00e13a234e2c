#pragma once

#include <string>
#include <vector>

#include "core/result.h"

/// `run`, `eval`, `generate` and `calibrate` are done by `ftplan-worker`, which links LibTorch.
namespace ftplan::tools {

/// The worker beside this executable, or in `../libexec/ftplan`; empty when there is none.
std::string find_worker();

/// Runs the worker with `arguments` and returns its exit code. SIGINT and SIGTERM that other
/// processes send are passed on; those of the terminal reach the worker by themselves. The worker
/// is asked to stop when this process dies.
/// @error bad input: no worker, and how to build it; run failed: it was ended by a signal
Result<int> spawn_worker(const std::vector<std::string>& arguments);

}  // namespace ftplan::tools
