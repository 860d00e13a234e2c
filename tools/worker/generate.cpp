#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/json.h"
#include "core/result.h"
#include "data/alpaca.h"
#include "data/source.h"
#include "data/tokenizer.h"
#include "executor/inference.h"
#include "tools/job_flags.h"
#include "tools/options.h"
#include "tools/worker/commands.h"
#include "tools/worker/model_in_use.h"

namespace ftplan::tools {
namespace {

class Generate : public Command {
 public:
  void declare(Options& options) override {
    flags_.declare_use(options);
    options.values({"--prompt", "TEXT...", "Text to go on from, as it stands."}, prompts_);
    options.value({"--prompts", "FILE", "Alpaca records whose instructions are answered."}, file_);
    options.value({"--max-new-tokens", "INT", "At most so many tokens. [64]"}, new_tokens_);
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    const auto request = flags_.read();
    if (!request) return request.error();
    const auto texts = read_prompts();
    if (!texts) return texts.error();
    auto generation = limits();
    if (!generation) return generation.error();
    auto model = open_model(*request);
    if (!model) return model.error();
    const auto tokenizer = data::load_tokenizer(model->source.folder);
    if (!tokenizer) return tokenizer.error();
    generation->stops = (*tokenizer)->special().stop;
    std::vector<std::vector<std::int32_t>> prompts;
    for (const std::string& text : *texts) {
      auto ids = (*tokenizer)->encode(text);
      if (!ids) return ids.error();
      prompts.push_back(*std::move(ids));
    }
    return answer(*model, **tokenizer, *texts, prompts, *generation);
  }

 private:
  Result<int> answer(ModelInUse& model, const data::Tokenizer& tokenizer,
                     const std::vector<std::string>& texts,
                     const std::vector<std::vector<std::int32_t>>& prompts,
                     const executor::Generation& generation) {
    const bool streams = !json_ && prompts.size() == 1;
    data::StreamDecoder decoder(tokenizer);
    const auto show = [&](std::size_t, std::int32_t id) {
      if (!streams) return;
      std::fputs(decoder.push(id).c_str(), stdout);
      std::fflush(stdout);
    };
    const auto made = executor::generate_greedy(model.job, model.machine, model.loader, prompts,
                                                generation, show);
    if (!made) return made.error();
    if (streams) {
      std::fputs((decoder.finish() + "\n").c_str(), stdout);
      return 0;
    }
    Json answers = Json::array();
    for (std::size_t i = 0; i < made->size(); ++i) {
      const std::string text = tokenizer.decode((*made)[i]);
      answers.push_back({{"prompt", texts[i]}, {"text", text}});
      if (!json_) std::printf("%s\n", text.c_str());
    }
    const Json json = {{"format_version", 1}, {"answers", answers}};
    if (json_) std::fputs((render_json(json) + "\n").c_str(), stdout);
    return 0;
  }

  [[nodiscard]] Result<std::vector<std::string>> read_prompts() const {
    std::vector<std::string> texts = prompts_;
    if (file_) {
      const auto source = data::open_source(*file_, DataFormat::kAlpaca);
      if (!source) return source.error();
      data::RecordReader reader(*source);
      while (true) {
        const auto record = reader.next();
        if (!record) return record.error();
        if (!*record) break;
        auto asked =
            data::read_alpaca((*record)->text, data::record_place(*file_, (*record)->number));
        if (!asked) return asked.error();
        texts.push_back(std::move(asked->prompt));
      }
    }
    if (texts.empty())
      return bad_input("--prompt", "missing: give --prompt TEXT or --prompts FILE");
    return texts;
  }

  [[nodiscard]] Result<executor::Generation> limits() const {
    executor::Generation generation;
    if (!new_tokens_) return generation;
    const char* end = new_tokens_->data() + new_tokens_->size();
    const auto [at, error] = std::from_chars(new_tokens_->data(), end, generation.new_tokens);
    if (error != std::errc() || at != end || generation.new_tokens < 1) {
      return bad_input("--max-new-tokens",
                       "got " + *new_tokens_ + ", expected a number of at least 1");
    }
    return generation;
  }

  JobFlags flags_;
  std::vector<std::string> prompts_;
  std::optional<std::string> file_, new_tokens_;
  bool json_ = false;
};

}  // namespace

CommandRow generate_command() {
  return {"generate", "Text from a model and an adapter.",
          "ftplan generate --model M --prompt \"Once\"",
          [] { return std::make_unique<Generate>(); }};
}

}  // namespace ftplan::tools
