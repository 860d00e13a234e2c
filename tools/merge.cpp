#include "models/merge.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "models/load.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/host.h"
#include "tools/options.h"

namespace ftplan::tools {
namespace {

class Merge : public Command {
 public:
  void declare(Options& options) override {
    options.value(
        {"--model", "FOLDER", "The base model, or org/name in the local Hugging Face cache."},
        model_);
    options.value({"--adapter", "FOLDER", "The PEFT adapter."}, adapter_);
    options.value({"-o,--output", "FOLDER", "Where the merged model is written."}, output_);
    options.toggle({"--json", "", "Prints what was done as JSON."}, json_);
  }

  Result<int> run() override {
    if (!model_) return bad_input("--model", "missing: name the base model's folder");
    if (!adapter_) return bad_input("--adapter", "missing: name the adapter's folder");
    if (!output_) return bad_input("--output", "missing: name the folder to write");
    const auto source = models::load_model_config(*model_, hub_environment());
    if (!source) return source.error();
    if (source->folder.empty()) {
      return bad_input("--model",
                       "got the preset " + *model_ + ", which has no weights: name a model folder");
    }
    const auto summary = models::merge_adapter({.base = source->folder,
                                                .adapter = *adapter_,
                                                .output = *output_,
                                                .threads = static_cast<int>(usable_cpus())},
                                               show_progress);
    if (isatty(STDERR_FILENO) != 0) std::fputs("\r\033[K", stderr);
    if (!summary) return summary.error();
    if (json_) {
      print(render_json({{"format_version", 1},
                         {"merged", summary->merged},
                         {"copied", summary->copied},
                         {"written_bytes", summary->written.value}}));
    } else {
      print(*output_ + ": " + std::to_string(summary->merged) + " weights merged, " +
            std::to_string(summary->copied) + " copied, " + format_bytes(summary->written) + "\n");
    }
    return 0;
  }

 private:
  static void show_progress(const models::MergeProgress& progress) {
    if (isatty(STDERR_FILENO) == 0) return;
    const std::string line = "\r\033[K" + format_bytes(progress.done) + " of " +
                             format_bytes(progress.total) + "  " + progress.file;
    std::fputs(line.c_str(), stderr);
  }

  std::optional<std::string> model_;
  std::optional<std::string> adapter_;
  std::optional<std::string> output_;
  bool json_ = false;
};

}  // namespace

CommandRow merge_command() {
  return {"merge", "Merges an adapter into its base model.",
          "ftplan merge --model M --adapter out/adapter -o merged",
          [] { return std::make_unique<Merge>(); }};
}

}  // namespace ftplan::tools
