#include "program/runtime.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "core/check.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/result.h"
#include "program/runtime_files.h"

namespace ftplan {
namespace program {
namespace {

struct Switch {
  std::string name;
  std::string value;
  std::string source;
};

struct RuntimeFile {
  std::string name;
  std::string describes;
  std::vector<Switch> switches;
};

}  // namespace
}  // namespace program

template <>
inline constexpr auto fields<program::Switch> =
    std::tuple{Field{"name", &program::Switch::name, "What it decides."},
               Field{"value", &program::Switch::value, "What the trainer does."},
               Field{"source", &program::Switch::source, "The code that does it."}};

template <>
inline constexpr auto fields<program::RuntimeFile> = std::tuple{
    Field{"name", &program::RuntimeFile::name, "Word of --runtime."},
    Field{"describes", &program::RuntimeFile::describes, "Trainer and versions."},
    Field{"switches", &program::RuntimeFile::switches, "What it does otherwise than ftplan."}};

namespace program {
namespace {

// One switch: its values, and what each does to a profile.
struct Rule {
  const char* name;
  std::array<const char*, 2> values;
  void (*set)(RuntimeProfile&, bool first);
};

constexpr std::array<const char*, 2> kYesNo = {"yes", "no"};
constexpr Rule kRules[] = {
    {"attention",
     {"sdpa", "eager"},
     [](RuntimeProfile& p, bool first) {
       p.attention = first ? HfAttention::kSdpa : HfAttention::kEager;
     }},
    {"sdpa_repeats_keys", kYesNo, [](RuntimeProfile& p, bool yes) { p.sdpa_repeats_keys = yes; }},
    {"autocast_full", kYesNo, [](RuntimeProfile& p, bool yes) { p.autocast_full = yes; }},
    {"casts_adapter_input", kYesNo,
     [](RuntimeProfile& p, bool yes) { p.casts_adapter_input = yes; }},
    {"logits_in_f32", kYesNo, [](RuntimeProfile& p, bool yes) { p.logits_in_f32 = yes; }},
    {"holds_logits", kYesNo, [](RuntimeProfile& p, bool yes) { p.holds_logits = yes; }}};

Result<void> apply(const Switch& given, const std::string& where, RuntimeProfile& profile) {
  const auto rule = std::find_if(std::begin(kRules), std::end(kRules),
                                 [&](const Rule& r) { return given.name == r.name; });
  if (rule == std::end(kRules)) return bad_input(where, "\"" + given.name + "\" is no switch");
  if (given.source.empty()) return bad_input(where, given.name + " names no source");
  const auto value = std::find(rule->values.begin(), rule->values.end(), given.value);
  if (value == rule->values.end()) {
    return bad_input(where, given.name + ": got \"" + given.value + "\", expected " +
                                rule->values[0] + " | " + rule->values[1]);
  }
  rule->set(profile, value == rule->values.begin());
  return {};
}

}  // namespace

Result<RuntimeProfile> read_runtime(std::string_view json_text, const std::string& where) {
  const auto json = parse_json(json_text, where);
  if (!json) return json.error();
  const auto file = from_json<RuntimeFile>(*json, where, Missing::kIsAnError);
  if (!file) return file.error();
  RuntimeProfile profile{.name = file->name, .expands = true};
  for (const Switch& given : file->switches) {
    if (auto ok = apply(given, where, profile); !ok) return ok.error();
  }
  for (const Rule& rule : kRules) {
    const auto times = std::count_if(file->switches.begin(), file->switches.end(),
                                     [&](const Switch& given) { return given.name == rule.name; });
    if (times != 1)
      return bad_input(where, std::string(rule.name) + " is there " + std::to_string(times) +
                                  " times, expected once");
  }
  return profile;
}

const RuntimeProfile& runtime_profile(const std::string& name) {
  static const std::vector<RuntimeProfile> all = [] {
    std::vector<RuntimeProfile> profiles(1);
    for (const EmbeddedFile& file : runtime_files()) {
      auto profile = read_runtime(file.text, std::string(file.name) + ".json");
      FTPLAN_CHECK(profile.ok());
      profiles.push_back(*profile);
    }
    return profiles;
  }();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const RuntimeProfile& p) { return p.name == name; });
  FTPLAN_CHECK(found != all.end());
  return *found;
}

}  // namespace program
}  // namespace ftplan
