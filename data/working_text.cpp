#include "data/working_text.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/nfc.h"

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

template <class Next>
void WorkingText::rebuild(const Next& next) {
  std::string bytes;
  std::vector<std::size_t> ends;
  const auto copy = [&](std::size_t begin, std::size_t end) {
    bytes.append(bytes_, begin, end - begin);
    if (ends_.empty()) return;
    ends.insert(ends.end(), ends_.begin() + static_cast<std::ptrdiff_t>(begin),
                ends_.begin() + static_cast<std::ptrdiff_t>(end));
  };
  std::size_t done = 0;
  bool changed = false;
  for (auto change = next(done); change; change = next(done)) {
    changed = true;
    copy(done, change->begin);
    bytes += change->text;
    done = change->end;
    if (!ends_.empty()) ends.insert(ends.end(), change->text.size(), ends_[done - 1]);
  }
  if (!changed) return;
  copy(done, bytes_.size());
  bytes_ = std::move(bytes);
  ends_ = std::move(ends);
}

void WorkingText::replace_all(std::string_view from, std::string_view to) {
  rebuild([&](std::size_t done) -> std::optional<Change> {
    const std::size_t found = bytes_.find(from, done);
    if (found == std::string::npos) return std::nullopt;
    return Change{found, found + from.size(), to};
  });
}

void WorkingText::compose() {
  const std::vector<Replacement> changes = nfc_changes(bytes_);
  auto next = changes.begin();
  rebuild([&](std::size_t /*done*/) -> std::optional<Change> {
    if (next == changes.end()) return std::nullopt;
    const Replacement& one = *next++;
    return Change{one.begin, one.end, one.text};
  });
}

}  // namespace ftplan::data
