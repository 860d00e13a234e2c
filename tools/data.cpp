#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "core/json.h"
#include "core/result.h"
#include "data/description.h"
#include "data/tokens_json.h"
#include "models/load.h"
#include "tools/commands.h"
#include "tools/environment.h"
#include "tools/facts.h"
#include "tools/job_flags.h"
#include "tools/options.h"

namespace ftplan::tools {
namespace {

constexpr std::int64_t kSamples = 2;

class ShowData : public Command {
 public:
  void declare(Options& options) override {
    flags_.declare_data(options);
    options.value({"-o,--out", "FILE", "Writes the training rows as tokens data."}, out_);
    options.value({"--samples", "INT", "Rows that are shown. [2]"}, samples_);
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    const auto request = flags_.read();
    if (!request) return request.error();
    if (request->data.data.empty()) return bad_input("--data", "missing: name the files to read");
    const auto samples = sample_count();
    if (!samples) return samples.error();
    auto source = models::load_model_config(request->model, hub_environment());
    if (!source) return source.error();
    auto grown = grown_model(*request, *source);
    if (!grown) return grown.error();
    source->config = *std::move(grown);
    const auto loaded = load_request_data(*request, *source);
    if (!loaded) return loaded.error();
    if (out_) {
      if (auto written = data::write_tokens(loaded->set.training, *out_); !written)
        return write_error("--out", *out_, written.error());
    }
    const data::DataDescription description =
        data::describe(loaded->set, request->data.packing, loaded->tokenizer.get(), *samples);
    print(json_ ? render_json(to_json(description)) : data::render(description));
    return 0;
  }

 private:
  [[nodiscard]] Result<std::int64_t> sample_count() const {
    if (!samples_) return kSamples;
    std::int64_t count = -1;
    const auto [end, error] =
        std::from_chars(samples_->data(), samples_->data() + samples_->size(), count);
    if (error != std::errc() || end != samples_->data() + samples_->size() || count < 0) {
      return bad_input("--samples", "got " + *samples_ + ", expected a number of rows");
    }
    return count;
  }

  JobFlags flags_;
  std::optional<std::string> out_;
  std::optional<std::string> samples_;
  bool json_ = false;
};

}  // namespace

CommandRow data_command() {
  return {"data",
          "What data becomes: rows, lengths, packing, truncation, samples with what is learned of "
          "them.",
          "ftplan data --model M --data my.jsonl --out rows.json",
          [] { return std::make_unique<ShowData>(); }};
}

}  // namespace ftplan::tools
