#include "tools/worker/find_place.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "core/job.h"
#include "core/machine.h"
#include "core/plan.h"
#include "core/result.h"
#include "executor/torch_group.h"
#include "tools/environment.h"
#include "tools/launch.h"
#include "tools/network.h"
#include "tools/place.h"
#include "tools/run_flags.h"

namespace ftplan::tools {
namespace {

Result<std::string> own_address(const RunFlags& flags, const LaunchedRank& rank) {
  if (flags.interface) return address_of_interface(*flags.interface);
  // What other programs over Gloo are told by.
  const std::string named = environment_variable("GLOO_SOCKET_IFNAME");
  if (!named.empty()) return address_of_interface(named);
  return address_towards(rank.address);
}

Result<executor::Membership> membership_of(const LaunchedRank& rank, const RunFlags& flags) {
  const auto timeouts = timeouts_of(flags);
  if (!timeouts) return timeouts.error();
  auto own = own_address(flags, rank);
  if (!own) return own.error();
  executor::Membership membership{.rank = static_cast<int>(rank.rank),
                                  .ranks = static_cast<int>(rank.ranks),
                                  .address = rank.address,
                                  .port = rank.port,
                                  .own_address = *std::move(own),
                                  .attempt = rank.attempt,
                                  .join_timeout = timeouts->join,
                                  .step_timeout = timeouts->step};
  if (rank.launcher_listens) return membership;
  membership.table_rank = 0;
  if (rank.rank > 0) return membership;
  membership.listening = inherited_socket();
  if (membership.listening) return membership;
  const auto socket = bind_socket(rank.address, rank.port);
  if (!socket) return socket.error();
  membership.listening = socket->descriptor;
  return membership;
}

}  // namespace

Result<Place> find_place(const Plan& plan, const Job& job, const RunFlags& flags) {
  if (plan.machine.backend != Backend::kCpu) return Place{};  // is refused with its own words
  const auto rank = launched_rank(environment_variable);
  if (!rank) return rank.error();
  const std::int64_t ranks = *rank ? (*rank)->ranks : 1;
  if (!*rank && job.ranks() > 1) {
    return bad_input("--gpus", "a plan for " + std::to_string(job.ranks()) +
                                   " ranks is started by ftplan run, torchrun, srun or mpirun");
  }
  if (ranks != job.ranks()) {
    return bad_input("--gpus", "the plan is for " + std::to_string(job.ranks()) + " ranks, " +
                                   (*rank)->launcher + " has started " + std::to_string(ranks));
  }
  if (ranks == 1) return Place{};
  auto membership = membership_of(**rank, flags);
  if (!membership) return membership.error();
  return Place{*membership, (*rank)->local_ranks};
}

}  // namespace ftplan::tools
