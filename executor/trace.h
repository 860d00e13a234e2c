#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/units.h"
#include "executor/session.h"
#include "program/step_program.h"

namespace ftplan::executor {

/// Measures one run of a program from the addresses that kernels were handed, and from nothing
/// else.
///
/// A value is live from the step that defines it to the last that uses it. Values of one storage
/// that overlap in time are held together, as one block of memory: all its lines that were handed
/// out, while any of them is live. What lives across runs, or is used before anything in this run
/// defined it, is live throughout. Of the program, only the names of storages and their categories
/// are used; sizes are those of the addresses.
class Trace final : public Observer {
 public:
  Trace(const program::StepProgram& program, const Arenas& arenas)
      : program_(program), arenas_(arenas) {}

  void touch(std::int32_t begin, std::int32_t end, program::StorageId storage, std::int32_t copy,
             const std::byte* data, Bytes size, Access access) override;
  void scratch(program::Stream stream, Bytes used) override;

  /// Live bytes by category when most are live, with the largest scratch of each stream. `unused`
  /// and `peak` are left 0.
  [[nodiscard]] PlaceBytes at_peak(Place place) const;
  /// One more than the last byte that was handed out.
  [[nodiscard]] Bytes highest(Place place) const;

 private:
  struct Event {
    std::int32_t begin = 0;
    std::int32_t end = 0;
    std::int64_t from = 0;
    std::int64_t to = 0;
    Access access = Access::kRead;
  };
  using Owner = std::pair<program::StorageId, std::int32_t>;  // and copy
  const program::StepProgram& program_;
  const Arenas& arenas_;
  std::mutex mutex_;
  std::map<Owner, std::vector<Event>> events_;
  std::array<Bytes, program::kStreams> scratch_{};
  std::int32_t last_ = 0;
};

}  // namespace ftplan::executor
