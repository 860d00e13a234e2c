#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "executor/communicator.h"
#include "executor/ring.h"
#include "executor/torch_group.h"
#include "executor/transport.h"

/// The ranks of a run, each a process.
namespace ftplan::executor {

/// This process's place among them. Every call but `rank` is made by all ranks, in one order, and
/// waits for the others no longer than the time-out of what is going on.
class ProcessGroup {
 public:
  /// Waits until all ranks are there.
  /// @param plan_digest of what the rank is about to run: all must bring the same
  /// @param stop ends the wait; may be null
  /// @error run failed: who did not come in time; bad input: a rank of another plan; what another
  /// rank has failed by; interrupted
  static Result<std::unique_ptr<ProcessGroup>> join(const Membership& membership,
                                                    const std::string& plan_digest,
                                                    const std::atomic<bool>* stop);

  [[nodiscard]] int rank() const { return membership_.rank; }
  [[nodiscard]] int ranks() const { return membership_.ranks; }
  [[nodiscard]] Communicator& communicator() { return *communicator_; }
  [[nodiscard]] Transport& transport() { return group_->transport(); }

  /// From now on waits are those of steps, no longer those of joining.
  void begin_steps() { group_->set_timeout(membership_.step_timeout); }

  /// The numbers of each rank, rank by rank. @pre all bring as many
  Result<std::vector<double>> gather(std::span<const double> own);
  /// The text of each rank.
  Result<std::vector<std::string>> gather(const std::string& own);
  /// Rank r's equal part of `whole` reaches all.
  Result<void> gather_parts(std::span<std::byte> whole);
  /// Returns when all ranks have come here.
  Result<void> meet();

  /// Why the run ends, as all ranks agree: `error` as it is, or that of the rank that is to blame
  /// with its name in front. Nothing but the destructor may be called afterwards.
  Error settle(const Error& error);
  /// When all is done: whoever holds the table leaves last.
  void leave();

 private:
  ProcessGroup(const Membership& membership, std::unique_ptr<TorchGroup> group,
               const std::atomic<bool>* stop)
      : membership_(membership), group_(std::move(group)), stop_(stop) {}

  Result<void> wait_for_all(const std::string& plan_digest);
  void outlast_others(std::optional<std::int64_t> gone = std::nullopt);

  Membership membership_;
  std::unique_ptr<TorchGroup> group_;
  const std::atomic<bool>* stop_;
  bool told_ = false;  // how it ends was heard from another rank
  std::unique_ptr<RingCommunicator> communicator_;
};

}  // namespace ftplan::executor
