#include "executor/verdict.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "executor/transport.h"

namespace ftplan::executor {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPause{20};
constexpr double kOfTheClosed = 0.1;
constexpr const char* kVerdict = "verdict";

std::string key_of(std::int64_t rank) { return "failed/" + std::to_string(rank); }

std::optional<Failure> read_failure(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  const auto json = parse_json(*text, kVerdict);
  if (!json) return std::nullopt;
  auto failure = from_json<Failure>(*json, kVerdict);
  return failure ? std::optional(*std::move(failure)) : std::nullopt;
}

std::string text_of(const Failure& failure) { return to_json(failure).dump(); }

// A rank that says nothing, in the words of one who waited for it.
Failure guilty_by(const Failure& accuser) {
  return {.rank = *accuser.lost,
          .code = static_cast<std::int64_t>(ErrorCode::kRunFailed),
          .message = accuser.message,
          .lost = accuser.lost};
}

}  // namespace

std::optional<Failure> find_guilty(
    const Failure& own, const std::function<std::optional<Failure>(std::int64_t rank)>& post,
    double waited) {
  Failure at = own;
  std::vector<std::int64_t> visited = {own.rank};
  std::optional<Failure> silent;  // the first who was blamed for silence
  while (at.lost) {
    if (at.silent && !silent) silent = guilty_by(at);
    if (std::find(visited.begin(), visited.end(), *at.lost) != visited.end())
      return silent ? *silent : guilty_by(own);
    visited.push_back(*at.lost);
    const auto next = post(*at.lost);
    if (!next) {
      const bool enough = waited >= (at.silent ? 1 : kOfTheClosed);
      return enough ? std::optional(guilty_by(at)) : std::nullopt;
    }
    at = *next;
  }
  return at;
}

Failure settle(SharedTable& table, const Failure& own, const Settling& settling) {
  try {
    table.set(key_of(own.rank), text_of(own));
    if (settling.close) settling.close();
    const auto post = [&](std::int64_t rank) { return read_failure(table.find(key_of(rank))); };
    const auto begin = Clock::now();
    std::optional<Failure> verdict = read_failure(table.find(kVerdict));
    while (!verdict) {
      verdict = find_guilty(own, post,
                            (Clock::now() - begin) / std::chrono::duration<double>(settling.grace));
      if (verdict) break;
      std::this_thread::sleep_for(kPause);
      verdict = read_failure(table.find(kVerdict));
    }
    return read_failure(table.put_if_absent(kVerdict, text_of(*verdict))).value_or(own);
  } catch (const TableLost&) {
    if (settling.close) settling.close();
    if (!own.lost || !settling.table_rank || *own.lost == *settling.table_rank) return own;
    return {.rank = *settling.table_rank,
            .code = own.code,
            .message = "its connection was lost: it has ended, or its machine has",
            .lost = settling.table_rank};
  }
}

std::optional<Failure> failure_of_others(SharedTable& table, std::int64_t rank,
                                         std::int64_t ranks) {
  for (std::int64_t other = 0; other < ranks; ++other) {
    if (other == rank) continue;
    if (auto failure = read_failure(table.find(key_of(other)))) return failure;
  }
  return std::nullopt;
}

Error error_for(std::int64_t rank, const Failure& failure) {
  Error error{static_cast<ErrorCode>(failure.code), failure.where, failure.message};
  if (failure.rank == rank) return error;
  return {error.code, rank_name(static_cast<int>(failure.rank)), error.text()};
}

}  // namespace ftplan::executor
