// Our side of tokenize_vs_tokenizers, and the time that packing takes.
//   data_bench tokenize FOLDER DATA THREADS   tokenizes DATA once for each line on stdin
//   data_bench pack DOCUMENTS                 packs so many documents in each way
// Answers are JSON, one a line.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/data_options.h"
#include "core/enums.h"
#include "core/json.h"
#include "core/result.h"
#include "data/documents.h"
#include "data/rows.h"
#include "data/source.h"
#include "data/tokenizer.h"

namespace {

using ftplan::Json;
using ftplan::Packing;
using ftplan::data::Documents;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Of this program alone: ru_maxrss begins with that of the one that started it.
std::int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kib = 0;
    if (word == "VmHWM:" && status >> kib) return kib * 1024;
  }
  return 0;
}

template <class T>
T need(ftplan::Result<T> result) {
  if (result) return *std::move(result);
  std::cerr << "data_bench: " << result.error().text() << "\n";
  std::exit(2);
}

int tokenize(const std::string& folder, const std::string& path, int threads) {
  const auto tokenizer = need(ftplan::data::load_tokenizer(folder));
  std::cout << Json{{"peak_bytes", peak_bytes()}}.dump() << "\n" << std::flush;
  for (std::string line; std::getline(std::cin, line);) {
    const auto begin = std::chrono::steady_clock::now();
    const auto sources = need(ftplan::data::open_sources({path}, {}));
    const Documents documents =
        need(ftplan::data::read_documents(sources, *tokenizer, {.threads = threads}));
    const double seconds = seconds_since(begin);
    std::uint64_t sum = 0;
    for (const std::int32_t id : documents.ids) sum = sum * 31 + static_cast<std::uint32_t>(id);
    std::cout << Json{{"seconds", seconds},
                      {"tokens", documents.ids.size()},
                      {"documents", documents.count()},
                      {"check", sum % 1'000'000'007},
                      {"peak_bytes", peak_bytes()}}
                     .dump()
              << "\n"
              << std::flush;
  }
  return 0;
}

// Lengths as of chat data: log-normal, median 150, most below 1,000.
Documents documents_of(std::int64_t count) {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> length(std::log(150.0), 0.9);
  Documents documents;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto tokens = static_cast<std::size_t>(std::max(2.0, std::min(4000.0, length(random))));
    documents.ids.resize(documents.ids.size() + tokens, static_cast<std::int32_t>(i % 1000));
    documents.close_document();
  }
  documents.labels = documents.ids;
  documents.close_file();
  return documents;
}

int pack(std::int64_t count) {
  const Documents documents = documents_of(count);
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  for (const Packing packing : {Packing::kNone, Packing::kIsolated, Packing::kConcat}) {
    const auto begin = std::chrono::steady_clock::now();
    const auto packed = ftplan::data::pack(documents, all, {.seq = 2048, .packing = packing});
    const double seconds = seconds_since(begin);
    const double filled =
        static_cast<double>(packed.rows.tokens()) / static_cast<double>(packed.rows.rows() * 2048);
    std::cout << Json{{"packing", ftplan::to_text(packing)},
                      {"seconds", seconds},
                      {"documents", count},
                      {"tokens", documents.ids.size()},
                      {"rows", packed.rows.rows()},
                      {"filled", filled}}
                     .dump()
              << "\n";
  }
  return 0;
}

}  // namespace

int main(int count, char** arguments) {  // NOLINT(bugprone-exception-escape)
  const std::string command = count > 1 ? arguments[1] : "";
  if (command == "tokenize" && count == 5)
    return tokenize(arguments[2], arguments[3], std::stoi(arguments[4]));
  if (command == "pack" && count == 3) return pack(std::stoll(arguments[2]));
  std::cerr << "data_bench: tokenize FOLDER DATA THREADS | pack DOCUMENTS\n";
  return 2;
}
