#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>

#include "core/fields.h"
#include "core/result.h"

/// Which rank made a run of several fail. A rank that fails writes why into a table that all share,
/// and only then closes its connections: whoever is gone without a word is to blame itself.
namespace ftplan::executor {

/// The table cannot be reached, or does not answer.
class TableLost : public std::exception {
 public:
  [[nodiscard]] const char* what() const noexcept override {
    return "the table that ranks share cannot be reached";
  }
};

/// Texts by key. Every call takes bounded time.
class SharedTable {
 public:
  SharedTable() = default;
  virtual ~SharedTable() = default;
  SharedTable(const SharedTable&) = delete;
  SharedTable& operator=(const SharedTable&) = delete;

  /// @throws TableLost
  virtual void set(const std::string& key, const std::string& value) = 0;
  /// @throws TableLost
  virtual std::optional<std::string> find(const std::string& key) = 0;
  /// What is there afterwards.
  /// @throws TableLost
  virtual std::string put_if_absent(const std::string& key, const std::string& value) = 0;
};

/// Why a rank failed: something of its own, or a peer that it lost.
struct Failure {
  std::int64_t rank = 0;
  std::int64_t code = 0;  ///< an `ErrorCode`
  std::string where, message;
  std::optional<std::int64_t> lost;  ///< the peer; `rank` itself: it was gone without a word
  bool silent = false;               ///< which sent nothing, but may still be there

  friend bool operator==(const Failure&, const Failure&) = default;
};
/// Follows who blames whom from `own` on: the rank that failed by itself, or that says nothing.
/// Empty while a rank that was lost may still say why.
/// @param post what a rank has said so far
/// @param waited share of the grace that has passed: who was only silent has all of it, who has
/// closed its connections should have spoken before
std::optional<Failure> find_guilty(
    const Failure& own, const std::function<std::optional<Failure>(std::int64_t rank)>& post,
    double waited);

struct Settling {
  std::chrono::milliseconds grace{2000};   ///< in which those who live say what they know
  std::optional<std::int64_t> table_rank;  ///< with which the table ends; none: with no rank
  std::function<void()> close;             ///< closes this rank's connections
};

/// Tells all ranks of `own` and returns what all agree on. Takes little more than the grace.
Failure settle(SharedTable& table, const Failure& own, const Settling& settling);

/// What another rank has said, if any did: for those who have not failed themselves.
/// @throws TableLost
std::optional<Failure> failure_of_others(SharedTable& table, std::int64_t rank, std::int64_t ranks);

/// In the words of `rank`: its own error as it is, another's with the name of its rank in front.
Error error_for(std::int64_t rank, const Failure& failure);

}  // namespace ftplan::executor

namespace ftplan {

template <>
inline constexpr auto fields<executor::Failure> = std::tuple{
    Field{"rank", &executor::Failure::rank, "", Range{0, 1e9}, "Who failed."},
    Field{"code", &executor::Failure::code, "", Range{0, 100}, "Kind of error."},
    Field{"where", &executor::Failure::where, "Where."},
    Field{"message", &executor::Failure::message, "What."},
    Field{"lost", &executor::Failure::lost, "", Range{0, 1e9}, "The peer that was lost."},
    Field{"silent", &executor::Failure::silent, "It may still be there."}};

}  // namespace ftplan
