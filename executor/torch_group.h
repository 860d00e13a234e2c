#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "executor/transport.h"
#include "executor/verdict.h"

/// What c10d does of a run on several ranks: its TCPStore is the table, Gloo over TCP carries
/// bytes.
namespace ftplan::executor {

/// How a process takes part in a run of several ranks.
struct Membership {
  int rank = 0;
  int ranks = 1;
  std::string address = "127.0.0.1";  ///< of the table
  std::uint16_t port = 0;
  std::optional<int> listening;           ///< a bound socket: this rank holds the table
  std::optional<int> table_rank;          ///< which rank does; none: a launcher does
  std::string own_address = "127.0.0.1";  ///< where this rank is reached
  std::string attempt = "0";  ///< a restart must not find what an earlier attempt has left
  std::chrono::milliseconds join_timeout{1'800'000};
  std::chrono::milliseconds step_timeout{1'800'000};
};

class TorchGroup {
 public:
  TorchGroup(const TorchGroup&) = delete;
  TorchGroup& operator=(const TorchGroup&) = delete;
  virtual ~TorchGroup() = default;

  /// Opens the table, on the rank that holds it, or reaches it.
  /// @param stop ends the attempts; may be null
  /// @error run failed: nobody listens there for as long as one may wait for ranks to join;
  /// interrupted
  static Result<std::unique_ptr<TorchGroup>> open(const Membership& membership,
                                                  const std::atomic<bool>* stop);

  [[nodiscard]] virtual SharedTable& table() = 0;

  /// Connects every rank with every other. @pre all are there
  virtual Result<void> connect(std::chrono::milliseconds timeout) = 0;
  /// @pre `connect`
  [[nodiscard]] virtual Transport& transport() = 0;
  /// For how long a transfer may take from now on.
  virtual void set_timeout(std::chrono::milliseconds timeout) = 0;
  /// The first peer that a transfer of this rank has lost.
  [[nodiscard]] virtual std::optional<PeerLost> lost() const = 0;
  /// Ends all transfers and closes the connections.
  virtual void close() = 0;

 protected:
  TorchGroup() = default;
};

}  // namespace ftplan::executor
