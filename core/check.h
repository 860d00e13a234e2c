#pragma once

/// `FTPLAN_CHECK(condition)` ends the process with the place when a bug in ftplan makes `condition`
/// false. On in all builds. Never used for what a user or a file can get wrong: that is a `Result`.
namespace ftplan {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace ftplan

#define FTPLAN_CHECK(condition) \
  ((condition) ? (void)0 : ::ftplan::check_failed(#condition, __FILE__, __LINE__))
