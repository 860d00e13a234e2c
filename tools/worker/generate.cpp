#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/data_options.h"
#include "core/enums.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/result.h"
#include "data/instruction.h"
#include "data/source.h"
#include "data/tokenizer.h"
#include "executor/inference.h"
#include "executor/rank_run.h"
#include "tools/facts.h"
#include "tools/job_flags.h"
#include "tools/options.h"
#include "tools/worker/commands.h"
#include "tools/worker/model_in_use.h"

namespace ftplan::tools {
namespace {

// An answer as its tokens come, up to the first stop text in it.
class GrowingText {
 public:
  GrowingText(const data::Tokenizer& tokenizer, const std::vector<std::string>& stops)
      : decoder_(tokenizer), stops_(stops) {}

  /// False when the text has ended.
  bool push(std::int32_t id) {
    add(decoder_.push(id));
    return !ended_;
  }
  void finish() {
    if (!ended_) add(decoder_.finish());
    ended_ = true;
  }
  [[nodiscard]] const std::string& text() const { return text_; }

  /// What no stop text can take back any more and was not taken before.
  std::string take_certain() {
    std::size_t end = text_.size();
    for (const std::string& stop : stops_) {
      if (ended_) break;
      for (std::size_t size = std::min(stop.size() - 1, text_.size()); size > 0; --size) {
        if (!text_.ends_with(std::string_view(stop).substr(0, size))) continue;
        end = std::min(end, text_.size() - size);
        break;
      }
    }
    const std::size_t begin = std::exchange(taken_, std::max(taken_, end));
    return text_.substr(begin, taken_ - begin);
  }

 private:
  void add(const std::string& more) {
    text_ += more;
    for (const std::string& stop : stops_) {
      const std::size_t at = text_.find(stop);
      if (at == std::string::npos) continue;
      text_.resize(at);
      ended_ = true;
    }
  }

  data::StreamDecoder decoder_;
  const std::vector<std::string>& stops_;
  std::string text_;
  std::size_t taken_ = 0;
  bool ended_ = false;
};

class Generate : public Command {
 public:
  void declare(Options& options) override {
    flags_.declare_use(options);
    options.values({"--prompt", "TEXT...", "Text to go on from, as it stands."}, prompts_);
    options.value({"--prompts", "FILE", "Alpaca or Dolly records whose instructions are answered."},
                  file_);
    options.value({"--max-new-tokens", "INT", "At most so many tokens. [64]"}, new_tokens_);
    options.value({"--temperature", "NUMBER", "Of drawing tokens; 0: always the likeliest. [0]"},
                  temperature_);
    options.value({"--top-k", "INT", "Draws from so many likeliest tokens; 0: from all. [0]"},
                  top_k_);
    options.value({"--top-p", "NUMBER", "Draws from this share of the probability. [1]"}, top_p_);
    options.value({"--seed", "INT", "Fixes what is drawn. [0]"}, seed_);
    options.values({"--stop", "TEXT...", "Texts at which an answer ends, without them."}, stops_);
    options.value({"--batch", "INT", "Prompts that are answered at a time. [1]"}, batch_);
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    const auto request = flags_.read();
    if (!request) return request.error();
    const auto texts = read_prompts(request->data);
    if (!texts) return texts.error();
    auto generation = generation_of();
    if (!generation) return generation.error();
    auto model = open_model(*request);
    if (!model) return model.error();
    const auto tokenizer = data::load_tokenizer(tokenizer_source(*request, model->source));
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
    std::vector<GrowingText> answered;
    answered.reserve(prompts.size());
    for (std::size_t i = 0; i < prompts.size(); ++i) answered.emplace_back(tokenizer, stops_);
    const auto show = [&](std::size_t prompt, std::int32_t id) {
      const bool goes_on = answered[prompt].push(id);
      if (streams) print(answered[prompt].take_certain());
      return goes_on;
    };
    const auto made =
        executor::generate(model.job, model.machine, model.loader, prompts, generation, show);
    if (!made) return made.error();
    for (GrowingText& text : answered) text.finish();
    if (streams) {
      print(answered.front().take_certain() + "\n");
      return 0;
    }
    Json answers = Json::array();
    for (std::size_t i = 0; i < answered.size(); ++i) {
      answers.push_back({{"prompt", texts[i]}, {"text", answered[i].text()}});
      if (!json_) print(answered[i].text() + "\n");
    }
    const Json json = {{"format_version", 1}, {"answers", answers}};
    if (json_) std::fputs((render_json(json) + "\n").c_str(), stdout);
    return 0;
  }

  [[nodiscard]] Result<std::vector<std::string>> read_prompts(const DataOptions& options) const {
    std::vector<std::string> texts = prompts_;
    if (file_) {
      const auto source = data::open_source(*file_, options.format);
      if (!source) return source.error();
      if (!data::is_instruction_format(source->format)) {
        return bad_input(*file_, std::string("holds ") + to_text(source->format) +
                                     ", expected records of instructions: alpaca or dolly");
      }
      const auto shape = options.prompt_template
                             ? data::InstructionTemplate::load(*options.prompt_template)
                             : Result(data::InstructionTemplate::of_format(source->format));
      if (!shape) return shape.error();
      data::RecordReader reader(*source);
      while (true) {
        const auto record = reader.next();
        if (!record) return record.error();
        if (!*record) break;
        const std::string where = data::record_place(*file_, (*record)->number);
        const auto asked = data::read_instruction((*record)->text, source->format, where);
        if (!asked) return asked.error();
        auto filled = shape->fill(*asked, where);
        if (!filled) return filled.error();
        texts.push_back(std::move(filled->prompt));
      }
    }
    if (texts.empty())
      return bad_input("--prompt", "missing: give --prompt TEXT or --prompts FILE");
    return texts;
  }

  static void print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

  [[nodiscard]] Result<executor::Generation> generation_of() const {
    executor::Generation generation;
    executor::Sampling& sampling = generation.sampling;
    for (const auto& read :
         {set("--max-new-tokens", new_tokens_, {1, 1 << 24}, "tokens", generation.new_tokens),
          set("--temperature", temperature_, {0, 100}, "", sampling.temperature),
          set("--top-k", top_k_, {0, 1 << 24}, "tokens", sampling.top_k),
          set("--top-p", top_p_, {1e-9, 1}, "", sampling.top_p),
          set("--seed", seed_, {0, 1e15}, "", sampling.seed),
          set("--batch", batch_, {1, 1 << 16}, "prompts", generation.batch)}) {
      if (!read) return read.error();
    }
    const bool draws = top_k_ || top_p_ || seed_;
    if (draws && sampling.temperature == 0) {
      return bad_input("--temperature",
                       "missing: --top-k, --top-p and --seed are of use where tokens are drawn");
    }
    for (const std::string& stop : stops_) {
      if (stop.empty()) return bad_input("--stop", "got an empty text");
    }
    return generation;
  }

  template <class T>
  static Result<void> set(const char* flag, const std::optional<std::string>& text, Range range,
                          const char* unit, T& target) {
    if (!text) return {};
    Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_number()) json = *text;
    if constexpr (std::is_same_v<T, double>) {
      const auto value = json_detail::read_number(json, flag, range, unit);
      if (!value) return value.error();
      target = *value;
    } else {
      const auto value = json_detail::read_integer(json, flag, range, unit);
      if (!value) return value.error();
      target = *value;
    }
    return {};
  }

  JobFlags flags_;
  std::vector<std::string> prompts_;
  std::vector<std::string> stops_;
  std::optional<std::string> file_, new_tokens_, temperature_, top_k_, top_p_, seed_, batch_;
  bool json_ = false;
};

}  // namespace

CommandRow generate_command() {
  return {"generate", "Text from a model and an adapter.",
          "ftplan generate --model M --prompt \"Once\"",
          [] { return std::make_unique<Generate>(); }};
}

}  // namespace ftplan::tools
