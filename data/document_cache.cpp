#include "data/document_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/digest.h"
#include "core/enums.h"
#include "data/atomic_file.h"
#include "data/documents.h"
#include "data/mapped_file.h"
#include "data/source.h"
#include "data/tokenizer.h"

namespace ftplan::data {
namespace {

// To be raised when the layout of the file changes, or what is made of a record.
constexpr std::string_view kMagic = "ftplan documents 1\n";
static_assert(std::endian::native == std::endian::little, "the file is little-endian");

// After the magic; the arrays follow in the order of their counts.
struct Header {
  std::array<char, 32> digest{};  // of the arrays
  std::uint64_t tokens = 0;
  std::uint64_t documents = 0;
  std::uint64_t files = 0;
};

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string digest_of(const Documents& documents) {
  Digester digester;
  digester.add(bytes_of(documents.ids));
  digester.add(bytes_of(documents.labels));
  digester.add(bytes_of(documents.ends));
  digester.add(bytes_of(documents.file_ends));
  return digester.hex();
}

template <class T>
std::vector<T> take(std::string_view& bytes, std::uint64_t count) {
  std::vector<T> values(count);
  const std::string_view source = bytes.substr(0, count * sizeof(T));
  std::ranges::copy(source, reinterpret_cast<char*>(values.data()));
  bytes.remove_prefix(count * sizeof(T));
  return values;
}

// Whether the counts make up exactly `size` bytes, without overflow.
bool is_size(const Header& header, std::uint64_t size) {
  constexpr std::uint64_t kToken = 2 * sizeof(std::int32_t);
  constexpr std::uint64_t kEnd = sizeof(std::int64_t);
  if (header.tokens > size / kToken || header.documents > size / kEnd || header.files > size) {
    return false;
  }
  return header.tokens * kToken + (header.documents + header.files) * kEnd == size;
}

}  // namespace

DocumentCache::DocumentCache(std::string folder, std::span<const SourceFile> sources,
                             const Tokenizer& tokenizer, const ReadOptions& options) {
  if (folder.empty()) return;
  std::string key(kMagic);
  key += tokenizer.digest() + (options.train_on_prompt ? " prompt" : " answer");
  if (options.instruction) key += " instruction " + options.instruction->digest();
  if (options.chat) key += " chat " + options.chat->digest();
  for (const SourceFile& source : sources) {
    key += '\n' + std::string(to_text(source.format)) + ' ' +
           std::to_string(static_cast<int>(source.layout)) + ' ' + digest(source.text());
  }
  path_ = (std::filesystem::path(std::move(folder)) / ("documents-" + digest(key))).string();
}

std::optional<Documents> DocumentCache::find() const {
  if (path_.empty()) return std::nullopt;
  const auto file = MappedFile::open(path_);
  if (!file) return std::nullopt;
  std::string_view bytes = file->bytes();
  Header header;
  if (bytes.size() < kMagic.size() + sizeof header || !bytes.starts_with(kMagic)) {
    return std::nullopt;
  }
  bytes.remove_prefix(kMagic.size());
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes.remove_prefix(sizeof header);
  if (!is_size(header, bytes.size())) return std::nullopt;
  // The digest covers all that is read, so offsets in it need no check of their own.
  if (digest(bytes) != std::string_view(header.digest.data(), header.digest.size())) {
    return std::nullopt;
  }
  Documents documents;
  documents.ids = take<std::int32_t>(bytes, header.tokens);
  documents.labels = take<std::int32_t>(bytes, header.tokens);
  documents.ends = take<std::int64_t>(bytes, header.documents);
  documents.file_ends = take<std::int64_t>(bytes, header.files);
  return documents;
}

bool DocumentCache::store(const Documents& documents) const {
  if (path_.empty()) return false;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), error);
  auto file = AtomicFile::create(path_);
  if (!file) return false;
  Header header{.digest = {},
                .tokens = documents.ids.size(),
                .documents = documents.ends.size(),
                .files = documents.file_ends.size()};
  const std::string hex = digest_of(documents);
  std::memcpy(header.digest.data(), hex.data(), header.digest.size());
  file->write(kMagic);
  file->write({reinterpret_cast<const char*>(&header), sizeof header});
  file->write(bytes_of(documents.ids));
  file->write(bytes_of(documents.labels));
  file->write(bytes_of(documents.ends));
  file->write(bytes_of(documents.file_ends));
  return file->commit().ok();
}

}  // namespace ftplan::data
