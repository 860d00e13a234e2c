#include <cmath>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "data/rows.h"
#include "executor/inference.h"
#include "tools/facts.h"
#include "tools/job_flags.h"
#include "tools/options.h"
#include "tools/worker/commands.h"
#include "tools/worker/model_in_use.h"

namespace ftplan::tools {
namespace {

class Evaluate : public Command {
 public:
  void declare(Options& options) override {
    flags_.declare_use(options);
    flags_.declare_evaluated(options);
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    auto request = flags_.read();
    if (!request) return request.error();
    if (request->data.data.empty())
      return bad_input("--data", "missing: name the files to evaluate");
    request->data.validation = 0;
    // Weights are for learning.
    request->data.weights.clear();
    auto model = open_model(*request);
    if (!model) return model.error();
    const std::vector<std::string> files = request->data.data;
    std::vector<data::RowSet> sets;
    for (const std::string& file : files) {
      request->data.data = {file};
      auto loaded = load_request_data(*request, model->source);
      if (!loaded) return loaded.error();
      sets.push_back(std::move(loaded->set.training));
    }
    const auto evaluated = executor::evaluate_rows(model->job, model->machine, model->loader, sets,
                                                   request->training.eval_batch.value_or(4));
    if (!evaluated) return evaluated.error();
    const std::vector<executor::Evaluation>& found = *evaluated;
    executor::Evaluation all;
    double sum = 0;
    for (const executor::Evaluation& one : found) {
      sum += one.loss * static_cast<double>(one.target_tokens);
      all.rows += one.rows;
      all.target_tokens += one.target_tokens;
    }
    all.loss =
        found.size() == 1 ? found.front().loss : sum / static_cast<double>(all.target_tokens);
    show(all, found, files);
    return 0;
  }

 private:
  void show(const executor::Evaluation& all, const std::vector<executor::Evaluation>& found,
            const std::vector<std::string>& files) const {
    Json json = as_json(all);
    Json sources = Json::array();
    for (std::size_t i = 0; i < found.size(); ++i) {
      Json source = {{"path", files[i]}};
      source.update(as_json(found[i]));
      sources.push_back(std::move(source));
      if (!json_ && found.size() > 1) print_line(found[i], "   " + files[i]);
    }
    if (!json_) return print_line(all, found.size() > 1 ? "   all" : "");
    Json document = {{"format_version", 1}};
    document.update(json);
    document["sources"] = std::move(sources);
    std::fputs((render_json(document) + "\n").c_str(), stdout);
  }

  static Json as_json(const executor::Evaluation& found) {
    return {{"loss", found.loss},
            {"perplexity", std::exp(found.loss)},
            {"rows", found.rows},
            {"target_tokens", found.target_tokens}};
  }

  static void print_line(const executor::Evaluation& found, const std::string& what) {
    std::printf("loss %.6f   perplexity %.4f   %lld rows, %lld target tokens%s\n", found.loss,
                std::exp(found.loss), static_cast<long long>(found.rows),
                static_cast<long long>(found.target_tokens), what.c_str());
  }

  JobFlags flags_;
  bool json_ = false;
};

}  // namespace

CommandRow eval_command() {
  return {"eval", "Loss and perplexity of a model on data, of each file and of all.",
          "ftplan eval --model M --data held_out.jsonl",
          [] { return std::make_unique<Evaluate>(); }};
}

}  // namespace ftplan::tools
