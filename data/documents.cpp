#include "data/documents.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/data_options.h"
#include "core/json.h"
#include "core/result.h"
#include "data/chat.h"
#include "data/instruction.h"
#include "data/source.h"
#include "data/tokenizer.h"

namespace ftplan::data {
namespace {

// Few enough to bound the memory that waits, many enough to make starting threads cheap.
constexpr std::size_t kRecordsAtOnce = 4096;
// Of what is reserved over what is expected.
constexpr double kMargin = 1.1;

// Turns records into documents; one per thread.
class DocumentMaker {
 public:
  DocumentMaker(const Tokenizer& tokenizer, const ReadOptions& options)
      : special_(tokenizer.special()), encoder_(tokenizer.encoder()), options_(options) {}

  Result<void> add(const SourceFile& source, const Record& record, Documents& out) {
    where_ = record_place(source.path, record.number);
    if (options_.chat) return add_chat(record, out);
    if (options_.instruction) return add_instruction(source.format, record, out);
    return add_text(source.layout, record, out);
  }

 private:
  Result<void> add_instruction(DataFormat format, const Record& record, Documents& out) {
    const auto instruction = read_instruction(record.text, format, where_);
    if (!instruction) return instruction.error();
    const auto texts = options_.instruction->fill(*instruction, where_);
    if (!texts) return texts.error();
    // The answer is tokenized behind its prompt, as the model will see it when it answers.
    const auto prompt = encode(texts->prompt);
    if (!prompt) return prompt.error();
    const std::size_t prompt_tokens = special_.before.size() + prompt->size();
    return add_document(texts->prompt + texts->answer, options_.train_on_prompt ? 0 : prompt_tokens,
                        out);
  }

  Result<void> add_chat(const Record& record, Documents& out) {
    const auto messages = read_chat(record.text, where_);
    if (!messages) return messages.error();
    const auto chat = options_.chat->render(*messages, where_);
    if (!chat) return chat.error();
    const auto encoded = encoder_->encode_with_ends(chat->text);
    if (!encoded) return bad_input(where_, encoded.error().text());
    auto learned = chat->learned.begin();
    std::size_t begin = 0;
    for (std::size_t token = 0; token < encoded->ids.size(); ++token) {
      const std::int32_t id = encoded->ids[token];
      const std::size_t end = encoded->ends[token];
      while (learned != chat->learned.end() && learned->end <= begin) ++learned;
      const bool is_learned = learned != chat->learned.end() && end > learned->begin;
      out.ids.push_back(id);
      out.labels.push_back(is_learned || options_.train_on_prompt ? id : kNoLabel);
      begin = end;
    }
    out.close_document();
    return {};
  }

  Result<void> add_text(Layout layout, const Record& record, Documents& out) {
    if (layout == Layout::kPlainText) return add_document(record.text, 0, out);
    const auto json = parse_json(record.text, where_);
    if (!json) return json.error();
    if (!json->is_object() || !json->contains("text")) {
      return bad_input(where_, "expected an object with \"text\"");
    }
    const auto text =
        read_value<std::string>((*json)["text"], where_ + "#/text", Missing::kIsAnError);
    if (!text) return text.error();
    return add_document(*text, 0, out);
  }

  Result<void> add_document(std::string_view text, std::size_t unlearned, Documents& out) {
    const std::size_t begin = out.ids.size();
    const auto body = encode(text);
    if (!body) return body.error();
    out.ids.insert(out.ids.end(), special_.before.begin(), special_.before.end());
    out.ids.insert(out.ids.end(), body->begin(), body->end());
    out.ids.insert(out.ids.end(), special_.after.begin(), special_.after.end());
    const bool has_eos = !special_.after.empty() && special_.after.back() == special_.eos;
    if (special_.eos && !has_eos) out.ids.push_back(*special_.eos);
    out.labels.insert(out.labels.end(), out.ids.begin() + static_cast<std::ptrdiff_t>(begin),
                      out.ids.end());
    const std::size_t masked = std::min(unlearned, out.ids.size() - begin);
    std::fill_n(out.labels.begin() + static_cast<std::ptrdiff_t>(begin), masked, kNoLabel);
    out.close_document();
    return {};
  }

  Result<std::span<const std::int32_t>> encode(std::string_view text) {
    auto ids = encoder_->encode(text);
    if (!ids) return bad_input(where_, ids.error().text());
    return ids;
  }

  const SpecialIds& special_;
  std::unique_ptr<Encoder> encoder_;
  ReadOptions options_;
  std::string where_;
};

// Shares records among threads and puts their documents together in order.
class ParallelReader {
 public:
  ParallelReader(const Tokenizer& tokenizer, const ReadOptions& options) {
    const unsigned machine = std::max(1U, std::thread::hardware_concurrency());
    const unsigned threads = options.threads > 0 ? static_cast<unsigned>(options.threads) : machine;
    for (unsigned i = 0; i < threads; ++i) makers_.emplace_back(tokenizer, options);
  }

  Result<void> read(const SourceFile& source, Documents& out) {
    RecordReader reader(source);
    const std::size_t before = out.ids.size();
    std::vector<Record> records;
    std::optional<Error> broken;
    for (bool more = true; more;) {
      records.clear();
      while (more && records.size() < kRecordsAtOnce) {
        const auto next = reader.next();
        if (!next) broken = next.error();
        const std::optional<Record> record = next ? *next : std::nullopt;
        if (record) records.push_back(*record);
        more = record.has_value();
      }
      if (auto made = make(source, records, out); !made) return made.error();
      reserve(before, reader.progress(), out);
    }
    if (broken) return *broken;
    return {};
  }

 private:
  // Room for the tokens that the rest of the file will probably have: growing by doubling would
  // need three times the memory while it copies.
  static void reserve(std::size_t before, double progress, Documents& out) {
    const std::size_t tokens = out.ids.size() - before;
    if (progress <= 0 || progress >= 1 || out.ids.capacity() > out.ids.size() + tokens) return;
    const auto wanted = static_cast<std::size_t>(kMargin * static_cast<double>(tokens) / progress);
    out.ids.reserve(before + wanted);
    out.labels.reserve(before + wanted);
  }

  Result<void> make(const SourceFile& source, std::span<const Record> records, Documents& out) {
    const std::size_t share = (records.size() + makers_.size() - 1) / makers_.size();
    std::vector<Documents> parts(makers_.size());
    std::vector<Result<void>> results(makers_.size());
    const auto work = [&](std::size_t i) {
      const std::size_t begin = std::min(i * share, records.size());
      const std::size_t end = std::min(begin + share, records.size());
      for (const Record& record : records.subspan(begin, end - begin)) {
        results[i] = makers_[i].add(source, record, parts[i]);
        if (!results[i]) return;
      }
    };
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 1; i * share < records.size(); ++i) threads.emplace_back(work, i);
      work(0);
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (!results[i]) return results[i].error();
      out.append(parts[i]);
    }
    return {};
  }

  std::vector<DocumentMaker> makers_;
};

}  // namespace

std::int64_t Documents::begin(std::int64_t document) const {
  return document == 0 ? 0 : ends[static_cast<std::size_t>(document) - 1];
}

std::int64_t Documents::length(std::int64_t document) const {
  return ends[static_cast<std::size_t>(document)] - begin(document);
}

std::span<const std::int32_t> Documents::ids_of(std::int64_t document) const {
  return std::span(ids).subspan(static_cast<std::size_t>(begin(document)),
                                static_cast<std::size_t>(length(document)));
}

std::span<const std::int32_t> Documents::labels_of(std::int64_t document) const {
  return std::span(labels).subspan(static_cast<std::size_t>(begin(document)),
                                   static_cast<std::size_t>(length(document)));
}

void Documents::append(const Documents& other) {
  const auto offset = static_cast<std::int64_t>(ids.size());
  ids.insert(ids.end(), other.ids.begin(), other.ids.end());
  labels.insert(labels.end(), other.labels.begin(), other.labels.end());
  for (const std::int64_t end : other.ends) ends.push_back(offset + end);
}

Result<Documents> read_documents(std::span<const SourceFile> sources, const Tokenizer& tokenizer,
                                 const ReadOptions& options) {
  ParallelReader reader(tokenizer, options);
  Documents documents;
  for (const SourceFile& source : sources) {
    FTPLAN_CHECK(source.layout != Layout::kJsonObject);
    FTPLAN_CHECK(options.chat.has_value() == (source.format == DataFormat::kChat));
    FTPLAN_CHECK(options.instruction.has_value() == is_instruction_format(source.format));
    if (is_instruction_format(source.format) && !tokenizer.special().eos) {
      return bad_input(source.path,
                       "each answer must end with EOS, which the model's tokenizer does not name: "
                       "set eos_token in its tokenizer_config.json");
    }
    if (auto read = reader.read(source, documents); !read) return read.error();
    documents.close_file();
  }
  return documents;
}

std::string document_place(const Documents& documents, std::span<const SourceFile> sources,
                           std::int64_t document) {
  std::size_t file = 0;
  while (documents.file_ends[file] <= document) ++file;
  const std::int64_t first = file == 0 ? 0 : documents.file_ends[file - 1];
  return record_place(sources[file].path, document - first + 1);
}

}  // namespace ftplan::data
