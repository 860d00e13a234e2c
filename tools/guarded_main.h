#pragma once

#include <functional>

/// What is around everything that a program does.
namespace ftplan::tools {

/// Runs `run` and returns its exit code. What no call returns as an error ends in one line too: the
/// end of memory and bytes that a mapped file has lost as a failed run, any other exception as a
/// bug.
int guarded_main(const std::function<int()>& run);

}  // namespace ftplan::tools
