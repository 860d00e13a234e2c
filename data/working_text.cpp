#include "data/working_text.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ftplan::data {

WorkingText::WorkingText(const Part& part, Tracking tracking)
    : bytes_(part.text), tracking_(tracking) {
  if (tracking_ == Tracking::kOff) return;
  for (std::size_t i = 1; i <= bytes_.size(); ++i) ends_.push_back(part.end_of(i));
}

Part WorkingText::part() const {
  return {bytes_, tracking_ == Tracking::kOn ? ends_.data() : nullptr, 0};
}

void WorkingText::prepend(std::string_view text) {
  bytes_.insert(0, text);
  if (!ends_.empty()) ends_.insert(ends_.begin(), text.size(), ends_.front());
}

void WorkingText::replace_all(std::string_view from, std::string_view to) {
  std::size_t found = bytes_.find(from);
  if (found == std::string::npos) return;
  std::string bytes;
  std::vector<std::size_t> ends;
  const auto copy = [&](std::size_t begin, std::size_t end) {
    bytes.append(bytes_, begin, end - begin);
    if (ends_.empty()) return;
    ends.insert(ends.end(), ends_.begin() + static_cast<std::ptrdiff_t>(begin),
                ends_.begin() + static_cast<std::ptrdiff_t>(end));
  };
  std::size_t done = 0;
  for (; found != std::string::npos; found = bytes_.find(from, done)) {
    copy(done, found);
    bytes += to;
    done = found + from.size();
    if (!ends_.empty()) ends.insert(ends.end(), to.size(), ends_[done - 1]);
  }
  copy(done, bytes_.size());
  bytes_ = std::move(bytes);
  ends_ = std::move(ends);
}

}  // namespace ftplan::data
