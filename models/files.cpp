#include "models/files.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "models/output_file.h"

namespace ftplan::models {
namespace {

// The largest text of a model is its tokenizer.json, some 20 MB.
constexpr Bytes kLargestText = 256 * kMiB;

}  // namespace

bool is_file(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

std::string join_path(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::string absolute_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.string();
}

std::string last_part(const std::string& path) {
  const std::filesystem::path clean = std::filesystem::path(path).lexically_normal();
  return clean.has_filename() ? clean.filename().string() : clean.parent_path().filename().string();
}

bool stays_inside(std::string_view name) {
  const std::filesystem::path path(name);
  if (path.empty() || path.is_absolute()) return false;
  for (const auto& part : path) {
    if (part == "..") return false;
  }
  return true;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string shown(text.substr(0, kLongest));
  if (text.size() > kLongest) shown += "...";
  return Json(shown).dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

Result<std::string> read_text_file(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return bad_input(path, "cannot be read: " + error.message());
  if (size > static_cast<std::uintmax_t>(kLargestText.value)) {
    return bad_input(path, "is larger than " + format_bytes(kLargestText) + ": not a text file");
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size()))) {
    return bad_input(path, "cannot be read");
  }
  return text;
}

Result<void> write_text_file(const std::string& path, std::string_view text) {
  auto file = OutputFile::create(path, Bytes{static_cast<std::int64_t>(text.size())});
  if (!file) return file.error();
  if (auto written = file->write_at(Bytes{0}, std::as_bytes(std::span(text))); !written) {
    return written;
  }
  return file->commit();
}

Result<void> make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return run_failed(path, "cannot be made: " + error.message());
  return {};
}

std::string system_text(int error_number) {
  return std::error_code(error_number, std::generic_category()).message();
}

}  // namespace ftplan::models
