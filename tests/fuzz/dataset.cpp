#include <array>
#include <memory>
#include <string>

#include "core/check.h"
#include "core/data_options.h"
#include "data/data_set.h"
#include "data/tokenizer.h"
#include "fuzz.h"

// The first byte chooses the file's ending and the packing, the rest is the file.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const ftplan::FuzzFolder kFolder;
  static const auto kTokenizer = ftplan::data::load_tokenizer(FTPLAN_EXAMPLES "/model");
  FTPLAN_CHECK(kTokenizer.ok());
  constexpr std::array kNames = {"a.json", "a.jsonl", "a.txt"};
  constexpr std::array kPackings = {ftplan::Packing::kNone, ftplan::Packing::kIsolated,
                                    ftplan::Packing::kConcat};
  const std::string path = kFolder.write(kNames[data[0] % 3], ftplan::text_of(data + 1, size - 1));
  ftplan::DataOptions options;
  options.data = {path};
  options.packing = kPackings[data[0] / 3 % 3];
  options.seq = 64;
  const auto set = ftplan::data::load_data(
      options, {.tokenizer = kTokenizer->get(), .vocabulary = (*kTokenizer)->vocabulary()});
  if (!set) return 0;
  FTPLAN_CHECK(set->seq <= 64);
  return 0;
}
