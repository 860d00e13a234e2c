#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>

#include "core/result.h"

/// Bytes between two ranks.
namespace ftplan::executor {

/// How errors name a rank.
inline std::string rank_name(int rank) { return "rank " + std::to_string(rank); }

/// A peer has ended, or sent nothing for as long as one may wait.
class PeerLost : public std::exception {
 public:
  PeerLost(int rank, bool silent, const std::string& why)
      : rank_(rank), silent_(silent), why_(why), text_(error().text()) {}

  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }
  [[nodiscard]] int rank() const { return rank_; }
  /// It may still be there.
  [[nodiscard]] bool silent() const { return silent_; }
  [[nodiscard]] Error error() const { return run_failed(rank_name(rank_), why_); }

 private:
  int rank_;
  bool silent_;
  std::string why_;
  std::string text_;
};

/// A transfer that was begun. Its bytes stay where they are until `wait` has returned.
class Transfer {
 public:
  Transfer() = default;
  virtual ~Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  /// @throws PeerLost
  virtual void wait() = 0;
};

/// Sends and receives of one rank. What one rank sends with a tag another receives with the same;
/// transfers of equal tags between two ranks keep their order.
class Transport {
 public:
  Transport() = default;
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int ranks() const = 0;
  /// @throws PeerLost
  virtual std::unique_ptr<Transfer> send(int to, std::int32_t tag,
                                         std::span<const std::byte> bytes) = 0;
  /// @throws PeerLost
  virtual std::unique_ptr<Transfer> receive(int from, std::int32_t tag,
                                            std::span<std::byte> bytes) = 0;
  /// Ends all waits, on whatever thread: they throw.
  virtual void abort() = 0;
};

}  // namespace ftplan::executor
