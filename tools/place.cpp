#include "tools/place.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "core/result.h"

namespace ftplan::tools {
namespace {

constexpr std::int64_t kMostRanks = 65536;

Result<std::int64_t> number_of(const Variables& variables, const std::string& name,
                               std::int64_t least, std::int64_t most) {
  const std::string text = variables(name);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= least && number <= most)
    return number;
  return bad_input(name, "got \"" + text + "\", expected a number of " + std::to_string(least) +
                             ".." + std::to_string(most));
}

Result<void> read(const Variables& variables, const std::string& name, std::int64_t least,
                  std::int64_t most, std::int64_t& to) {
  const auto number = number_of(variables, name, least, most);
  if (!number) return number.error();
  to = *number;
  return {};
}

// Where the ranks meet: MASTER_ADDR and MASTER_PORT, or PET's.
Result<void> read_meeting(const Variables& variables, const std::string& prefix,
                          std::string& address, std::uint16_t& port) {
  address = variables(prefix + "MASTER_ADDR");
  if (address.empty()) {
    return bad_input(prefix + "MASTER_ADDR",
                     "is not set: give the host of rank 0, where the ranks meet");
  }
  const auto number = number_of(variables, prefix + "MASTER_PORT", 1, 65535);
  if (!number) return number.error();
  port = static_cast<std::uint16_t>(*number);
  return {};
}

Result<void> read_place(const Variables& variables, const std::string& rank,
                        const std::string& ranks, LaunchedRank& place) {
  if (auto ok = read(variables, ranks, 1, kMostRanks, place.ranks); !ok) return ok;
  return read(variables, rank, 0, place.ranks - 1, place.rank);
}

Result<std::optional<LaunchedRank>> by_torchrun(const Variables& variables) {
  LaunchedRank place{.launcher = "torchrun"};
  if (auto ok = read_place(variables, "RANK", "WORLD_SIZE", place); !ok) return ok.error();
  place.local_ranks = place.ranks;
  if (!variables("LOCAL_WORLD_SIZE").empty()) {
    auto ok = read(variables, "LOCAL_WORLD_SIZE", 1, place.ranks, place.local_ranks);
    if (!ok) return ok.error();
  }
  if (auto ok = read_meeting(variables, "", place.address, place.port); !ok) return ok.error();
  place.launcher_listens = variables("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (const std::string count = variables("TORCHELASTIC_RESTART_COUNT"); !count.empty())
    place.attempt = count;
  return std::optional(place);
}

// Tasks of this node: the number at the start of `8(x2),4`, the last for the last nodes.
std::int64_t slurm_local_ranks(const Variables& variables) {
  const std::string text = variables("SLURM_STEP_TASKS_PER_NODE");
  std::int64_t number = 1;
  (void)std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Result<std::optional<LaunchedRank>> by_slurm(const Variables& variables) {
  LaunchedRank place{.launcher = "slurm"};
  const std::string ranks =
      variables("SLURM_STEP_NUM_TASKS").empty() ? "SLURM_NTASKS" : "SLURM_STEP_NUM_TASKS";
  if (auto ok = read_place(variables, "SLURM_PROCID", ranks, place); !ok) return ok.error();
  place.local_ranks = slurm_local_ranks(variables);
  place.address = variables("MASTER_ADDR");
  const std::string steps = variables("SLURM_STEP_NODELIST");
  if (place.address.empty())
    place.address = first_host(steps.empty() ? variables("SLURM_JOB_NODELIST") : steps);
  if (place.address.empty())
    return bad_input("SLURM_STEP_NODELIST", "is not set: set MASTER_ADDR to the host of rank 0");
  std::int64_t port = 0;
  if (!variables("MASTER_PORT").empty()) {
    if (auto ok = read(variables, "MASTER_PORT", 1, 65535, port); !ok) return ok.error();
  } else {
    auto ok = read(variables, "SLURM_JOB_ID", 0, INT64_MAX, port);
    if (!ok) return ok.error();
    port = 10000 + port % 50000;  // jobs of one host differ
  }
  place.port = static_cast<std::uint16_t>(port);
  const std::string restart = variables("SLURM_RESTART_COUNT");
  place.attempt = (restart.empty() ? "0" : restart) + "." + variables("SLURM_STEP_ID");
  return std::optional(place);
}

Result<std::optional<LaunchedRank>> by_mpi(const Variables& variables, const std::string& launcher,
                                           const std::string& rank, const std::string& ranks,
                                           const std::string& local) {
  LaunchedRank place{.launcher = launcher};
  if (auto ok = read_place(variables, rank, ranks, place); !ok) return ok.error();
  place.local_ranks = place.ranks;
  if (!variables(local).empty()) {
    if (auto ok = read(variables, local, 1, place.ranks, place.local_ranks); !ok) return ok.error();
  }
  if (auto ok = read_meeting(variables, "", place.address, place.port); !ok) return ok.error();
  return std::optional(place);
}

}  // namespace

Result<std::optional<LaunchedRank>> launched_rank(const Variables& variables) {
  const auto is_set = [&](const char* name) { return !variables(name).empty(); };
  if (is_set("RANK") && is_set("WORLD_SIZE") && is_set("LOCAL_RANK")) return by_torchrun(variables);
  if (is_set("SLURM_PROCID") && is_set("SLURM_STEP_ID") && variables("SLURM_NTASKS") != "1")
    return by_slurm(variables);
  if (is_set("OMPI_COMM_WORLD_RANK")) {
    return by_mpi(variables, "mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                  "OMPI_COMM_WORLD_LOCAL_SIZE");
  }
  if (is_set("PMI_RANK"))
    return by_mpi(variables, "pmi", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS");
  return std::optional<LaunchedRank>{};
}

Result<std::optional<LaunchedNode>> launched_node(const Variables& variables) {
  if (variables("PET_NODE_RANK").empty()) return std::optional<LaunchedNode>{};
  LaunchedNode node;
  if (auto ok = read(variables, "PET_NNODES", 1, kMostRanks, node.nodes); !ok) return ok.error();
  if (auto ok = read(variables, "PET_NODE_RANK", 0, node.nodes - 1, node.node); !ok)
    return ok.error();
  const std::string per_node = variables("PET_NPROC_PER_NODE");
  // "auto", "gpu" and "cpu" leave it to the plan.
  if (!per_node.empty() && per_node.find_first_not_of("0123456789") == std::string::npos) {
    std::int64_t ranks = 0;
    if (auto ok = read(variables, "PET_NPROC_PER_NODE", 1, kMostRanks, ranks); !ok)
      return ok.error();
    node.ranks_per_node = ranks;
  }
  if (auto ok = read_meeting(variables, "PET_", node.address, node.port); !ok) return ok.error();
  return std::optional(node);
}

std::string first_host(const std::string& list) {
  const auto end = list.find_first_of("[,");
  if (end == std::string::npos || list[end] == ',') return list.substr(0, end);
  const auto numbers = std::string_view(list).substr(end + 1);
  const std::string first(numbers.substr(0, numbers.find_first_of(",-]")));
  const auto close = list.find(']', end);
  const std::string rest = close == std::string::npos ? "" : list.substr(close + 1);
  return list.substr(0, end) + first + rest.substr(0, rest.find(','));
}

}  // namespace ftplan::tools
