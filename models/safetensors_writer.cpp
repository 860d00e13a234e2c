#include "models/safetensors_writer.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/result.h"
#include "core/units.h"
#include "models/output_file.h"
#include "models/safetensors_header.h"

namespace ftplan::models {

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path,
                                                    const std::vector<TensorSpec>& specs,
                                                    const Metadata& metadata) {
  const std::vector<TensorSpec> in_order = file_order(specs);
  const std::string header = render_header(in_order, metadata);
  auto file = OutputFile::create(path, file_size(specs, metadata));
  if (!file) return file.error();

  SafetensorsWriter writer(*std::move(file));
  auto next = static_cast<std::int64_t>(header.size());
  for (const TensorSpec& spec : in_order) {
    const std::int64_t end = next + spec.bytes().value;
    FTPLAN_CHECK(writer.cursors_.try_emplace(spec.name, Cursor{next, end}).second);
    next = end;
    writer.missing_ += spec.bytes();
  }
  if (auto written = writer.file_.write_at(Bytes{0}, std::as_bytes(std::span(header))); !written) {
    return written.error();
  }
  return writer;
}

Result<void> SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto entry = cursors_.find(std::string(name));
  const auto size = static_cast<std::int64_t>(bytes.size());
  FTPLAN_CHECK(entry != cursors_.end() && entry->second.next + size <= entry->second.end);
  if (auto written = file_.write_at(Bytes{entry->second.next}, bytes); !written) return written;
  entry->second.next += size;
  missing_ -= Bytes{size};
  return {};
}

Result<void> SafetensorsWriter::finish() {
  FTPLAN_CHECK(complete());
  return file_.commit();
}

}  // namespace ftplan::models
