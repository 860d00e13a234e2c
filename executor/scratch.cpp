#include "executor/scratch.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/units.h"
#include "program/step_program.h"

namespace ftplan::executor {

ScratchExceeded::ScratchExceeded(std::string operation, Bytes declared, Bytes wanted)
    : operation_(std::move(operation)),
      text_(operation_ + " asked for " + std::to_string(wanted.value) +
            " bytes of scratch, declared are " + std::to_string(declared.value) +
            ": run `ftplan calibrate`, then plan again") {}

std::byte* Scratch::take(std::int64_t size) {
  const std::int64_t rounded = round_up(size, program::kAlignment.value);
  std::int64_t begin = 0;
  int at = 0;
  while (at < count_ && blocks_[static_cast<std::size_t>(at)].begin - begin < rounded) {
    begin = blocks_[static_cast<std::size_t>(at)].end;
    ++at;
  }
  const std::int64_t end = begin + rounded;
  // The last block needs no padding behind it.
  const std::int64_t needed = begin + size;
  if (needed > static_cast<std::int64_t>(bytes_.size()) || count_ == kMostBlocks) {
    throw ScratchExceeded(operation_, Bytes{static_cast<std::int64_t>(bytes_.size())},
                          Bytes{needed});
  }
  auto* first = blocks_.begin();
  std::move_backward(first + at, first + count_, first + count_ + 1);
  blocks_[static_cast<std::size_t>(at)] = {begin, end};
  ++count_;
  used_ = std::max(used_, Bytes{needed});
  return bytes_.data() + begin;
}

bool Scratch::give_back(const void* block) {
  const auto* bytes = static_cast<const std::byte*>(block);
  if (bytes < bytes_.data() || bytes > bytes_.data() + bytes_.size()) return false;
  const std::int64_t begin = bytes - bytes_.data();
  auto* first = blocks_.begin();
  auto* found =
      std::find_if(first, first + count_, [&](const Block& b) { return b.begin == begin; });
  if (found == first + count_) return false;
  std::move(found + 1, first + count_, found);
  --count_;
  return true;
}

}  // namespace ftplan::executor
