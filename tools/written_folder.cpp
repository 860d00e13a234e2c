#include "tools/written_folder.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "models/load.h"
#include "models/merge.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/host.h"
#include "tools/options.h"
#include "tools/table.h"

namespace ftplan::tools {
namespace {

struct Numbers {
  const char* name;
  StoredLinears linears;
  std::optional<DType> dtype;
};
constexpr std::array kNumbers = {Numbers{"fp32", StoredLinears::kPlain, DType::kF32},
                                 Numbers{"bf16", StoredLinears::kPlain, DType::kBf16},
                                 Numbers{"fp16", StoredLinears::kPlain, DType::kF16},
                                 Numbers{"nf4", StoredLinears::kNf4, std::nullopt},
                                 Numbers{"int8", StoredLinears::kInt8, std::nullopt}};

Result<Numbers> numbers_of(const std::string& name) {
  std::vector<std::string> names;
  for (const Numbers& numbers : kNumbers) {
    if (name == numbers.name) return numbers;
    names.emplace_back(numbers.name);
  }
  return bad_input("--into", "got \"" + name + "\", expected " + join(names, " | "));
}

void show_progress(const models::MergeProgress& progress) {
  if (isatty(STDERR_FILENO) == 0) return;
  const std::string line = "\r\033[K" + format_bytes(progress.done) + " of " +
                           format_bytes(progress.total) + "  " + progress.file;
  std::fputs(line.c_str(), stderr);
}

std::string format_significant(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g", value);
  return text.data();
}

// What rounding took, of each linear and of all; none for those that were copied.
std::vector<models::MergeRounding> with_sum(const models::MergeSummary& summary) {
  std::vector<models::MergeRounding> rows;
  models::MergeRounding all{.linear = "all"};
  for (const models::MergeRounding& row : summary.roundings) {
    if (row.rounding.meant <= 0) continue;
    rows.push_back(row);
    all.rounding.add(row.rounding);
  }
  if (!rows.empty()) rows.push_back(all);
  return rows;
}

std::string text_of(const std::vector<models::MergeRounding>& rows, const std::string& numbers) {
  Table table{.head = {"rounded to " + numbers, "largest error", "relative rms"}};
  for (const models::MergeRounding& row : rows) {
    table.rows.push_back({"  " + row.linear, format_significant(row.rounding.largest),
                          format_significant(row.rounding.relative_rms())});
  }
  return render_table(table);
}

}  // namespace

void WrittenFolder::declare(Options& options) {
  options.value(
      {"--model", "FOLDER", "The base model, or org/name in the local Hugging Face cache."},
      model_);
  options.value({"-o,--output", "FOLDER", "Where the model is written."}, output_);
  options.value(
      {"--into", "fp32 | bf16 | fp16 | nf4 | int8",
       "In which numbers: all weights in floats, or the linears of the layers as codes of "
       "bitsandbytes. [as in the model, codes as floats]"},
      into_);
  options.toggle({"--double-quantization,!--no-double-quantization", "",
                  "Whether the scales of 4-bit blocks are quantized too. [as in the model, else "
                  "true]"},
                 twice_);
  options.toggle({"--json", "", "Prints what was done as JSON."}, json_);
}

Result<models::MergeRequest> WrittenFolder::open() {
  if (!model_) return bad_input("--model", "missing: name the base model's folder");
  if (!output_) return bad_input("--output", "missing: name the folder to write");
  const auto source = models::load_model_config(*model_, hub_environment());
  if (!source) return source.error();
  if (source->folder.empty()) {
    return bad_input("--model",
                     "got the preset " + *model_ + ", which has no weights: name a model folder");
  }
  base_ = source->config.stored_linears;
  floats_ = source->config.stored;
  models::MergeRequest request{
      .base = source->folder, .output = *output_, .threads = static_cast<int>(usable_cpus())};
  if (!into_) return request;
  const auto numbers = numbers_of(*into_);
  if (!numbers) return numbers.error();
  request.dtype = numbers->dtype;
  request.into = numbers->linears == StoredLinears::kNf4 ? nf4() : numbers->linears;
  return request;
}

StoredLinears WrittenFolder::nf4() const {
  return twice_.value_or(base_ != StoredLinears::kNf4) ? StoredLinears::kNf4Double
                                                       : StoredLinears::kNf4;
}

Result<int> WrittenFolder::write(const models::MergeRequest& request,
                                 const std::string& note) const {
  const auto summary = models::merge_adapter(request, show_progress);
  if (isatty(STDERR_FILENO) != 0) std::fputs("\r\033[K", stderr);
  if (!summary) return summary.error();
  const std::vector<models::MergeRounding> roundings = with_sum(*summary);
  if (json_) {
    Json rows = Json::array();
    for (const models::MergeRounding& row : roundings) {
      rows.push_back({{"linear", row.linear},
                      {"largest_error", row.rounding.largest},
                      {"relative_rms", row.rounding.relative_rms()}});
    }
    print(render_json({{"format_version", 1},
                       {"merged", summary->merged},
                       {"converted", summary->converted},
                       {"copied", summary->copied},
                       {"written_bytes", summary->written.value},
                       {"rounding", rows},
                       {"note", note}}));
    return 0;
  }
  const std::string converted =
      summary->converted > 0 ? std::to_string(summary->converted) + " converted, " : "";
  print(*output_ + ": " + std::to_string(summary->merged) + " weights merged, " + converted +
        std::to_string(summary->copied) + " copied, " + format_bytes(summary->written) + "\n");
  const bool codes = request.into != StoredLinears::kPlain || base_ != StoredLinears::kPlain ||
                     request.trained != StoredLinears::kPlain;
  if (codes && !roundings.empty()) {
    const bool exact = roundings.back().rounding.largest == 0;
    const std::string into = request.into == StoredLinears::kPlain
                                 ? to_text(request.dtype.value_or(floats_))
                                 : to_text(request.into);
    print(exact ? "nothing was rounded\n" : text_of(roundings, into));
  }
  if (!note.empty()) print(note + "\n");
  return 0;
}

}  // namespace ftplan::tools
