#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "core/category.h"
#include "core/units.h"
#include "executor/session.h"
#include "program/step_program.h"

namespace ftplan::executor {

/// Measures one run of a program from the addresses that kernels were handed, and from nothing else.
///
/// A byte is live from the step that defines it to the last that uses that value. A byte that is used before anything
/// defined it in this run holds a value across runs: it is live throughout.
class Trace final : public Observer {
 public:
  explicit Trace(const Arenas& arenas) : arenas_(arenas) {}

  void touch(std::int32_t begin, std::int32_t end, const program::Storage& storage, const std::byte* data, Bytes size,
             Access access) override;
  void scratch(program::Stream stream, Bytes used) override;

  /// Live bytes by category when most are live, with the largest scratch of each stream. `unused` and `peak` are left 0.
  [[nodiscard]] PlaceBytes at_peak(Place place) const;
  /// One more than the last byte that was handed out.
  [[nodiscard]] Bytes highest(Place place) const;

 private:
  struct Event {
    std::int32_t begin = 0;
    std::int32_t end = 0;
    std::int64_t from = 0;
    std::int64_t to = 0;
    Category category = Category::kActivations;
    Access access = Access::kRead;
  };
  [[nodiscard]] const std::vector<Event>& events_of(Place place) const {
    return place == Place::kDevice ? device_ : host_;
  }

  const Arenas& arenas_;
  std::mutex mutex_;
  std::vector<Event> device_, host_;
  std::array<Bytes, program::kStreams> scratch_{};
  std::int32_t last_ = 0;
};

}  // namespace ftplan::executor
