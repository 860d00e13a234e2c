#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/result.h"

/// Where a launcher has put this process.
namespace ftplan::tools {

/// A variable of the environment; empty where it is not set.
using Variables = std::function<std::string(const std::string& name)>;

/// One rank of a run, as its launcher says.
struct LaunchedRank {
  std::string launcher;
  std::int64_t rank = 0;
  std::int64_t ranks = 1;
  std::int64_t local_ranks = 1;  ///< on this host
  std::string address;           ///< where ranks meet
  std::uint16_t port = 0;
  bool launcher_listens = false;  ///< there; else rank 0 does
  std::string attempt = "0";      ///< grows with each restart

  friend bool operator==(const LaunchedRank&, const LaunchedRank&) = default;
};

/// A node whose ranks ftplan starts itself, as Kubeflow's Trainer says by `PET_*`.
struct LaunchedNode {
  std::int64_t node = 0;
  std::int64_t nodes = 1;
  std::optional<std::int64_t> ranks_per_node;  ///< none: as the plan says
  std::string address;
  std::uint16_t port = 0;

  friend bool operator==(const LaunchedNode&, const LaunchedNode&) = default;
};

/// torchrun's RANK and WORLD_SIZE, Slurm's inside of srun, Open MPI's or PMI's, in this order; none
/// where no launcher has started this process as one of several.
/// @error bad input: variables that are no numbers, or lack where ranks meet
/// @source torch/distributed/elastic/agent/server/local_elastic_agent.py of torch 2.11; sbatch(1)
/// and srun(1) of Slurm 23; mpirun(1) of Open MPI 4
Result<std::optional<LaunchedRank>> launched_rank(const Variables& variables);

/// @source kubeflow/trainer, pkg/constants and plugins/torch: PET_* are arguments of torchrun
Result<std::optional<LaunchedNode>> launched_node(const Variables& variables);

/// The first host of a list such as `gpu[07,10-12],login1`.
std::string first_host(const std::string& list);

}  // namespace ftplan::tools
