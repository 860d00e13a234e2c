#include "tools/scratch_cache.h"

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/fields.h"
#include "core/json.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/units.h"
#include "models/files.h"

namespace ftplan {
namespace tools {
namespace {

struct ScratchFile {
  std::int64_t format_version = 1;
  std::vector<MeasuredScratch> scratch;
};

}  // namespace
}  // namespace tools

template <>
inline constexpr auto fields<tools::ScratchFile> =
    std::tuple{Field{"format_version", &tools::ScratchFile::format_version, "", Range{1, 1.5},
                     "Version of this file's form."},
               Field{"scratch", &tools::ScratchFile::scratch, "Measured scratch of operations."}};

namespace tools {

std::string scratch_file(const std::string& folder, const Machine& machine) {
  return models::join_path(folder, "scratch-" + machine_digest(machine) + ".json");
}

Result<std::vector<MeasuredScratch>> load_scratch(const std::string& folder,
                                                  const Machine& machine) {
  const std::string path = scratch_file(folder, machine);
  if (folder.empty() || !models::is_file(path)) return std::vector<MeasuredScratch>{};
  const auto text = models::read_text_file(path);
  if (!text) return text.error();
  const auto json = parse_json(*text, path);
  if (!json) return json.error();
  const auto file = from_json<ScratchFile>(*json, path, Missing::kIsAnError);
  if (!file) return file.error();
  std::map<std::string, Bytes> sorted;
  for (const MeasuredScratch& entry : file->scratch) sorted[entry.operation] = entry.bytes;
  std::vector<MeasuredScratch> entries;
  for (const auto& [operation, bytes] : sorted) entries.push_back({operation, bytes});
  return entries;
}

Result<void> save_scratch(const std::string& folder, const Machine& machine,
                          const std::vector<MeasuredScratch>& entries) {
  if (folder.empty()) return run_failed("cache", "no folder: set XDG_CACHE_HOME or HOME");
  const auto known = load_scratch(folder, machine);
  if (!known) return known.error();
  std::map<std::string, Bytes> sorted;
  for (const auto* list : {&*known, &entries}) {
    for (const MeasuredScratch& entry : *list) sorted[entry.operation] = entry.bytes;
  }
  ScratchFile file;
  for (const auto& [operation, bytes] : sorted) file.scratch.push_back({operation, bytes});
  if (auto made = models::make_folder(folder); !made) return made.error();
  return models::write_text_file(scratch_file(folder, machine), render_json(to_json(file)));
}

}  // namespace tools
}  // namespace ftplan
