#include <cmath>
#include <cstdio>
#include <memory>
#include <string>

#include "core/json.h"
#include "core/result.h"
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
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    auto request = flags_.read();
    if (!request) return request.error();
    if (request->data.data.empty())
      return bad_input("--data", "missing: name the files to evaluate");
    request->data.validation = 0;
    auto model = open_model(*request);
    if (!model) return model.error();
    const auto loaded = load_request_data(*request, model->source);
    if (!loaded) return loaded.error();
    const auto found =
        executor::evaluate_rows(model->job, model->machine, model->loader, loaded->set.training,
                                request->training.eval_batch.value_or(4));
    if (!found) return found.error();
    const double perplexity = std::exp(found->loss);
    if (json_) {
      const Json json = {{"format_version", 1},
                         {"loss", found->loss},
                         {"perplexity", perplexity},
                         {"rows", found->rows},
                         {"target_tokens", found->target_tokens}};
      std::fputs((render_json(json) + "\n").c_str(), stdout);
    } else {
      std::printf("loss %.6f   perplexity %.4f   %lld rows, %lld target tokens\n", found->loss,
                  perplexity, static_cast<long long>(found->rows),
                  static_cast<long long>(found->target_tokens));
    }
    return 0;
  }

 private:
  JobFlags flags_;
  bool json_ = false;
};

}  // namespace

CommandRow eval_command() {
  return {"eval", "Loss and perplexity of a model on data.",
          "ftplan eval --model M --data held_out.jsonl",
          [] { return std::make_unique<Evaluate>(); }};
}

}  // namespace ftplan::tools
