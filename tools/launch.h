#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"

/// The ranks of a run on this host, each a worker.
namespace ftplan::tools {

struct LocalRanks {
  std::int64_t first = 0;             ///< rank of the first here
  std::int64_t count = 1;             ///< here
  std::int64_t ranks = 1;             ///< of the run
  std::string address = "127.0.0.1";  ///< where ranks meet
  std::uint16_t port = 0;             ///< 0: any that is free, for ranks of one host
};

/// Starts the ranks, passes signals on and waits for all. When one fails the others have a while to
/// find out why; then they are ended.
/// @return exit code of the run; @error of the first rank that is to blame, with its name in front
/// where ranks differ
Result<int> launch_ranks(const std::vector<std::string>& arguments, const LocalRanks& local);

/// What a worker whose launcher reads it does with its error; false where none does.
bool report_to_launcher(const Error& error);
/// Of rank 0, from its launcher: the socket where ranks meet.
std::optional<int> inherited_socket();

}  // namespace ftplan::tools
