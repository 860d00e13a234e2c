#include "executor/metrics.h"

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <ostream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/run_result.h"
#include "models/files.h"

namespace ftplan::executor {
namespace {

constexpr const char* kLines = "/metrics.jsonl";

// The stream keeps no reason, but the call below it has left one.
Error cannot_write(const std::string& path) {
  return run_failed(path, "cannot be written: " + models::system_text(errno));
}

// CRC-32C, as records of events are checked by, rotated and offset so that sums of sums differ.
std::uint32_t masked_sum(std::string_view bytes) {
  static const auto kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit)
        value = (value >> 1U) ^ ((value & 1U) != 0 ? 0x82F63B78U : 0U);
      table[i] = value;
    }
    return table;
  }();
  std::uint32_t sum = ~0U;
  for (const char c : bytes)
    sum = kTable[(sum ^ static_cast<std::uint8_t>(c)) & 0xFFU] ^ (sum >> 8U);
  return std::rotr(~sum, 15) + 0xA282EAD8U;
}

template <class T>
void add_little_endian(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>((value >> (8 * i)) & 0xFFU);
}

void add_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U) out += static_cast<char>((value & 0x7FU) | 0x80U);
  out += static_cast<char>(value);
}

enum WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void add_tag(std::string& out, std::uint32_t field, WireType type) {
  add_varint(out, (field << 3U) | type);
}

void add_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
  add_tag(out, field, kBytes);
  add_varint(out, bytes.size());
  out += bytes;
}

// Event: wall_time 1, step 2.
std::string event_at(std::int64_t step, double seconds) {
  std::string event;
  add_tag(event, 1, kFixed64);
  add_little_endian(event, std::bit_cast<std::uint64_t>(seconds));
  add_tag(event, 2, kVarint);
  add_varint(event, static_cast<std::uint64_t>(step));
  return event;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<EventFile> EventFile::create(const std::string& folder, std::int64_t step, double seconds) {
  EventFile file;
  const std::string name =
      folder + "/events.out.tfevents." + std::to_string(static_cast<std::int64_t>(seconds));
  file.path_ = name + ".ftplan";
  std::error_code ignored;
  for (int again = 1; std::filesystem::exists(file.path_, ignored); ++again)
    file.path_ = name + ".ftplan." + std::to_string(again);
  file.out_.open(file.path_, std::ios::binary);
  std::string version = event_at(0, seconds);
  add_bytes(version, 3, "brain.Event:2");  // file_version
  if (auto ok = file.append(version); !ok) return ok.error();
  std::string session = event_at(step + 1, seconds);
  add_bytes(session, 7, {"\x08\x01", 2});  // session_log: status START
  if (auto ok = file.append(session); !ok) return ok.error();
  return file;
}

Result<void> EventFile::write(std::int64_t step, double seconds,
                              const std::vector<std::pair<std::string_view, double>>& values) {
  std::string summary;
  for (const auto& [tag, value] : values) {
    std::string entry;
    add_bytes(entry, 1, tag);
    add_tag(entry, 2, kFixed32);  // simple_value
    add_little_endian(entry, std::bit_cast<std::uint32_t>(static_cast<float>(value)));
    add_bytes(summary, 1, entry);
  }
  std::string event = event_at(step, seconds);
  add_bytes(event, 5, summary);
  return append(event);
}

Result<void> EventFile::append(const std::string& event) {
  std::string record;
  add_little_endian(record, static_cast<std::uint64_t>(event.size()));
  add_little_endian(record, masked_sum(record));
  record += event;
  add_little_endian(record, masked_sum(event));
  out_ << record << std::flush;
  if (!out_) return cannot_write(path_);
  return {};
}

Result<MetricsFiles> MetricsFiles::open(const std::string& folder, std::int64_t step) {
  MetricsFiles files;
  files.folder_ = folder;
  files.step_ = step;
  const std::string path = folder + kLines;
  std::string kept;
  std::ifstream before(path);
  for (std::string line; std::getline(before, line);) {
    const auto json = parse_json(line, path);
    if (!json || !json->is_object() || json->value("step", std::int64_t{0}) > step) break;
    kept += line + "\n";
  }
  if (auto ok = models::write_text_file(path, kept); !ok) return ok.error();
  files.lines_.open(path, std::ios::app);
  return files;
}

Result<void> MetricsFiles::write(const StepMetrics& metrics) {
  Json json = to_json(metrics);
  std::vector<std::pair<std::string_view, double>> values;
  for (auto it = json.begin(); it != json.end();) {
    if (it->is_null()) {
      it = json.erase(it);
      continue;
    }
    if (it.key() != "step") values.emplace_back(it.key(), it->get<double>());
    ++it;
  }
  lines_ << json.dump() << "\n" << std::flush;
  if (!lines_) return cannot_write(folder_ + kLines);
  if (!events_) {
    auto events = EventFile::create(folder_, step_, seconds_now());
    if (!events) return events.error();
    events_ = *std::move(events);
  }
  return events_->write(metrics.step, seconds_now(), values);
}

}  // namespace ftplan::executor
