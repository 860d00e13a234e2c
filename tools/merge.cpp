#include "models/merge.h"

#include <memory>
#include <optional>
#include <string>

#include "core/dtype.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/method.h"
#include "core/model_config.h"
#include "core/plan.h"
#include "core/result.h"
#include "models/files.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/written_folder.h"

namespace ftplan::tools {
namespace {

// What the run says that made the adapter; empty where nothing does.
std::optional<Method> trained_by(const std::string& adapter) {
  const std::string path =
      models::join_path(models::folder_of(models::absolute_path(adapter)), "plan.json");
  if (!models::is_file(path)) return std::nullopt;
  const auto text = models::read_text_file(path);
  if (!text) return std::nullopt;
  const auto plan = read_plan(*text, path);
  return plan ? std::optional(plan->job.method.method) : std::nullopt;
}

class Merge : public Command {
 public:
  void declare(Options& options) override {
    folder_.declare(options);
    options.value({"--adapter", "FOLDER", "The PEFT adapter."}, adapter_);
    options.value({"--method", "lora | qlora | int8-lora",
                   "How it was trained: with qlora and int8-lora the base has the values of its "
                   "codes. [lora, or as the model is stored]"},
                  method_);
  }

  Result<int> run() override {
    auto request = folder_.open();
    if (!request) return request.error();
    if (!adapter_) return bad_input("--adapter", "missing: name the adapter's folder");
    request->adapter = *adapter_;
    const auto trained = trained_on();
    if (!trained) return trained.error();
    if (folder_.base() == StoredLinears::kPlain) request->trained = *trained;
    return folder_.write(*request, note(*request, *trained));
  }

 private:
  // What the linears of the base were in training.
  [[nodiscard]] Result<StoredLinears> trained_on() const {
    const StoredLinears base = folder_.base();
    if (!method_) return base;
    const auto method = from_text<Method>(*method_);
    if (!method || *method == Method::kFull)
      return bad_input("--method", "got \"" + *method_ + "\", expected lora | qlora | int8-lora");
    if (base == StoredLinears::kPlain) {
      if (*method == Method::kLora) return base;
      return *method == Method::kQlora ? folder_.nf4() : StoredLinears::kInt8;
    }
    if (*method == method_for(base)) return base;
    return bad_input("--method", "got " + *method_ + ", but the model holds its linears as " +
                                     to_text(base) + ": leave this flag away");
  }

  [[nodiscard]] std::string note(const models::MergeRequest& request, StoredLinears trained) const {
    if (trained == StoredLinears::kPlain) return other_base_note();
    if (request.into != StoredLinears::kPlain) return {};
    return request.dtype == DType::kF32
               ? "the function that was trained: the values of the base's codes and the adapter"
               : "the function that was trained, rounded once more: --into fp32 keeps it";
  }

  // An adapter that belongs to codes is added to a base without them.
  [[nodiscard]] std::string other_base_note() const {
    if (method_) return {};
    const auto method = trained_by(*adapter_);
    if (!method) {
      return "if the adapter was trained with --method qlora or int8-lora, its base was another: "
             "the same --method here gives the function that was trained";
    }
    if (!is_quantized(*method)) return {};
    return std::string("the adapter was trained with --method ") + to_text(*method) +
           ", so its base was another: the same --method here gives the function that was trained";
  }

  WrittenFolder folder_;
  std::optional<std::string> adapter_;
  std::optional<std::string> method_;
};

}  // namespace

CommandRow merge_command() {
  return {"merge", "Merges an adapter into its base model.",
          "ftplan merge --model M --adapter out/adapter -o merged",
          [] { return std::make_unique<Merge>(); }};
}

}  // namespace ftplan::tools
