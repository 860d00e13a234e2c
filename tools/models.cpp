#include <memory>
#include <string>
#include <utility>

#include "core/json.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "models/presets.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/table.h"

namespace ftplan::tools {
namespace {

class ListModels : public Command {
 public:
  void declare(Options& options) override { options.toggle({"--json", "", "Prints JSON."}, json_); }

  Result<int> run() override {
    print(json_ ? render_json(as_json()) : table());
    return 0;
  }

 private:
  static std::string table() {
    Table table{.head = {"model", "repository", "parameters", "GiB in 16 bit", "layers", "hidden",
                         "positions"},
                .left = 2};
    for (const models::Preset& preset : models::presets()) {
      const ModelConfig& c = preset.config;
      table.rows.push_back({preset.name, preset.repository, format_count(preset.parameters),
                            format_gib(Bytes{2 * preset.parameters}), std::to_string(c.layers),
                            std::to_string(c.hidden), std::to_string(c.positions)});
    }
    return render_table(table) +
           "\n--model also takes a model folder, a config.json, or org/name in the local Hugging "
           "Face cache.\n";
  }

  static Json as_json() {
    Json list = Json::array();
    for (const models::Preset& preset : models::presets()) {
      list.push_back({{"name", preset.name},
                      {"repository", preset.repository},
                      {"source", preset.source},
                      {"parameters", preset.parameters},
                      {"config", to_json(preset.config)}});
    }
    return {{"format_version", 1}, {"models", std::move(list)}};
  }

  bool json_ = false;
};

}  // namespace

CommandRow models_command() {
  return {"models", "Models that ftplan knows without their files.", "ftplan models --json",
          [] { return std::make_unique<ListModels>(); }};
}

}  // namespace ftplan::tools
