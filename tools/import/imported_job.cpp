#include "tools/import/imported_job.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/job.h"
#include "core/json.h"
#include "core/result.h"
#include "models/files.h"
#include "tools/import/import_rows.h"
#include "tools/import/yaml.h"

namespace ftplan::tools {
namespace {

constexpr const char* kExpected =
    "expected axolotl's .yml, a DeepSpeed configuration, training_args.json of TrainingArguments, "
    "or "
    "an adapter_config.json";
constexpr std::size_t kLongestValue = 60;

bool is_yaml(std::string_view name) { return name.ends_with(".yml") || name.ends_with(".yaml"); }

const Trainer* trainer_of(const Json& json, bool yaml) {
  const auto tells = [&](const Trainer& trainer) {
    return std::any_of(trainer.tells.begin(), trainer.tells.end(),
                       [&](const char* key) { return json.contains(key); });
  };
  if (yaml) return tells(axolotl()) ? &axolotl() : nullptr;
  const auto trainers = json_trainers();
  const auto found = std::find_if(trainers.begin(), trainers.end(), tells);
  return found == trainers.end() ? nullptr : &*found;
}

// Text of a file of somebody else, on one line.
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kLongestValue) text = text.substr(0, kLongestValue) + "...";
  return text;
}

class Importer {
 public:
  explicit Importer(const Trainer& trainer) : trainer_(trainer) {
    imported_.trainer = trainer.name;
    imported_.request = Json::parse(trainer.defaults);
  }

  ImportedJob run(const Json& json) {
    // In the order of the table, where a later row has the last word.
    for (const ImportRow& row : trainer_.rows) {
      const Json::json_pointer key(row.key);
      if (json.contains(key) && !says_nothing(json.at(key))) read_row(row, json.at(key));
    }
    list_unknown(json, "");
    const auto file = json.find("deepspeed");
    if (file != json.end() && file->is_string()) imported_.deepspeed = file->get<std::string>();
    // A product of the two, by whatever devices that trainer had.
    if (imported_.sets("/training/micro_batch") && imported_.sets("/training/accumulation"))
      imported_.request["training"].erase("global_batch");
    return std::move(imported_);
  }

 private:
  void list_unknown(const Json& object, const std::string& place) {
    for (const auto& entry : object.items()) {
      const std::string key = place + "/" + entry.key();
      if (is_off(entry.value()) || has_row(key)) continue;
      if (place.empty() && is_without_bytes(entry.key())) continue;
      if (entry.value().is_object() && is_above_a_row(key)) {
        list_unknown(entry.value(), key);
      } else {
        leave_out(key, entry.value());
      }
    }
  }

  static bool says_nothing(const Json& value) { return value.is_null() || value == "auto"; }

  // What these trainers write for an option that is not used.
  static bool is_off(const Json& value) {
    const bool empty = (value.is_structured() && value.empty()) || value == "";
    return says_nothing(value) || empty || value == false || value == 0;
  }

  [[nodiscard]] bool has_row(std::string_view key) const {
    return std::any_of(trainer_.rows.begin(), trainer_.rows.end(),
                       [&](const ImportRow& row) { return key == row.key; });
  }
  [[nodiscard]] bool is_above_a_row(const std::string& key) const {
    return std::any_of(trainer_.rows.begin(), trainer_.rows.end(), [&](const ImportRow& row) {
      return std::string_view(row.key).starts_with(key + "/");
    });
  }

  void read_row(const ImportRow& row, const Json& value) {
    const auto translated = row.translate(value);
    if (!translated) return leave_out(row.key, value);
    if (translated->is_null() || row.place == nullptr) return;
    imported_.request[Json::json_pointer(row.place)] = *translated;
    std::erase_if(imported_.origins, [&](const auto& origin) { return origin.first == row.place; });
    imported_.origins.emplace_back(row.place, row.key);
  }

  void leave_out(const std::string& place, const Json& value) {
    std::string key = shown(Json(place.substr(1)));
    key = key.substr(1, key.size() - 2);
    std::replace(key.begin(), key.end(), '/', '.');
    imported_.left_out.push_back(key + " = " + shown(value));
  }

  const Trainer& trainer_;
  ImportedJob imported_;
};

// The file that `name` stands for in the configuration at `path`; empty where there is none.
std::string named_file(const std::string& name, const std::string& path) {
  std::string beside = models::join_path(models::folder_of(path), name);
  if (models::is_file(beside)) return beside;
  return models::is_file(name) ? name : "";
}

void add_deepspeed(const ImportedJob& deepspeed, ImportedJob& imported) {
  std::erase_if(imported.left_out,
                [](const std::string& text) { return text.starts_with("deepspeed = "); });
  for (const auto& [place, key] : deepspeed.origins) {
    if (imported.sets(place)) continue;
    const Json::json_pointer at(place);
    imported.request[at] = deepspeed.request.at(at);
    imported.origins.emplace_back(place, "/deepspeed" + key);
  }
  for (const std::string& text : deepspeed.left_out)
    imported.left_out.push_back("deepspeed." + text);
}

}  // namespace

bool ImportedJob::sets(const std::string& place) const {
  return request.contains(Json::json_pointer(place));
}

Result<ImportedJob> import_job(const std::string& path) {
  const auto text = models::read_text_file(path);
  if (!text) return text.error();
  auto imported = import_job(*text, path);
  if (!imported) return imported;
  const std::string file = named_file(imported->deepspeed, path);
  if (imported->deepspeed.empty() || file.empty()) return imported;
  const auto more = models::read_text_file(file);
  if (!more) return more.error();
  const auto deepspeed = import_job(*more, file);
  if (!deepspeed) return deepspeed.error();
  add_deepspeed(*deepspeed, *imported);
  return imported;
}

Result<ImportedJob> import_job(std::string_view text, const std::string& where) {
  const auto json = is_yaml(where) ? parse_yaml(text, where) : parse_json(text, where);
  if (!json) return json.error();
  if (!json->is_object()) return bad_input(where, kExpected);
  const Trainer* trainer = trainer_of(*json, is_yaml(where));
  if (trainer == nullptr) {
    return bad_input(where, std::string("is no configuration that ftplan knows: ") + kExpected);
  }
  return Importer(*trainer).run(*json);
}

Result<JobRequest> request_of(const ImportedJob& imported, const std::string& where) {
  auto request = from_json<JobRequest>(imported.request, where);
  if (request) return request;
  Error error = request.error();
  for (const auto& [place, origin] : imported.origins) {
    if (error.where == where + "#" + place) error.where = where + "#" + origin;
  }
  return error;
}

}  // namespace ftplan::tools
