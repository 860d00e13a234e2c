#include "support.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ios>
#include <memory>
#include <numeric>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/result.h"
#include "data/documents.h"
#include "data/tokenizer.h"

namespace ftplan::data {
namespace {

std::atomic<std::int64_t> texts_encoded{0};

class ByteEncoder : public Encoder {
 public:
  Result<std::span<const std::int32_t>> encode(std::string_view text) override {
    ++texts_encoded;
    ids_.clear();
    for (const char c : text) ids_.push_back(static_cast<unsigned char>(c));
    return std::span<const std::int32_t>(ids_);
  }
  Result<EncodedText> encode_with_ends(std::string_view text) override {
    static_cast<void>(encode(text));
    ends_.resize(ids_.size());
    std::iota(ends_.begin(), ends_.end(), std::size_t{1});
    return EncodedText{ids_, ends_};
  }

 private:
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> ends_;
};

SpecialIds special_ids(bool has_eos, std::optional<std::int32_t> pad) {
  SpecialIds special;
  special.bos = ByteTokenizer::kBos;
  special.before = {ByteTokenizer::kBos};
  if (has_eos) special.eos = ByteTokenizer::kEos;
  special.pad = pad;
  return special;
}

}  // namespace

TestFolder::TestFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "ftplan_data.XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("no temporary folder");
  folder_ = path;
}

TestFolder::~TestFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string TestFolder::write(const std::string& name, std::string_view content) const {
  const std::string file = path(name);
  std::ofstream(file, std::ios::binary) << content;
  return file;
}

ByteTokenizer::ByteTokenizer(std::string digest, bool has_eos, std::optional<std::int32_t> pad)
    : Tokenizer(special_ids(has_eos, pad), std::move(digest)) {}

std::unique_ptr<Encoder> ByteTokenizer::encoder() const { return std::make_unique<ByteEncoder>(); }

std::string ByteTokenizer::decode(std::span<const std::int32_t> ids, SpecialText special) const {
  std::string text;
  for (const std::int32_t id : ids) {
    if (id < kBos || special == SpecialText::kShow) text += bytes(id);
  }
  return text;
}

std::string ByteTokenizer::bytes(std::int32_t id) const {
  if (id < kBos) return std::string(1, static_cast<char>(id));
  return id == kBos ? "<s>" : "</s>";
}

std::int64_t ByteTokenizer::encoded() { return texts_encoded; }

std::vector<std::int32_t> ids_of_text(std::string_view text) {
  std::vector<std::int32_t> ids{ByteTokenizer::kBos};
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  ids.push_back(ByteTokenizer::kEos);
  return ids;
}

std::string read_file(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

Documents documents_of_lengths(const std::vector<std::int64_t>& lengths, std::int64_t unlearned) {
  Documents documents;
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    for (std::int64_t t = 0; t < lengths[d]; ++t) {
      const auto id = static_cast<std::int32_t>(1000 * static_cast<std::int64_t>(d) + t);
      documents.ids.push_back(id);
      documents.labels.push_back(t < unlearned ? kNoLabel : id);
    }
    documents.close_document();
  }
  documents.close_file();
  return documents;
}

std::vector<std::int64_t> all(std::int64_t count) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace ftplan::data
