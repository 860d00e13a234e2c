#include "tools/job_flags.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/enums.h"
#include "core/fields.h"
#include "core/job.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "core/training.h"
#include "models/files.h"
#include "tools/options.h"

namespace ftplan::tools {
namespace {

template <class T>
struct Inner {
  using type = T;
};
template <class T>
struct Inner<std::optional<T>> : Inner<T> {};
template <class T>
struct Inner<std::vector<T>> : Inner<T> {};
template <class T>
using InnerOf = typename Inner<T>::type;

std::string flag_of(const std::string& name) {
  std::string flag = "--" + name;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

template <class Value>
std::string type_text() {
  using T = InnerOf<Value>;
  std::string text = "TEXT";
  if constexpr (std::is_integral_v<T>) {
    text = "INT";
  } else if constexpr (std::is_floating_point_v<T>) {
    text = "NUMBER";
  } else if constexpr (NamedEnum<T>) {
    text = expected_text<T>();
  } else if constexpr (TextCoded<T>) {
    text = expected_text(static_cast<const T*>(nullptr));
  }
  if (json_detail::is_vector<Value>) text += ",...";
  return text;
}

// Numbers are JSON numbers, everything else is a string; the strict reader says what is wrong with
// it.
template <class T>
Json token(const std::string& text) {
  if constexpr (std::is_arithmetic_v<T>) {
    Json number = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (number.is_number()) return number;
  }
  return text;
}

template <class Value>
std::string default_text(const Value& value) {
  const Json json = to_json(value);
  if (json.is_null()) return "";
  if (json.is_array()) {
    std::vector<std::string> items;
    for (const Json& item : json)
      items.push_back(item.is_string() ? item.get<std::string>() : item.dump());
    return join(items, ",");
  }
  return json.is_string() ? json.get<std::string>() : json.dump();
}

// Files among them stand for their lines.
Result<std::vector<std::string>> read_tokens(const std::vector<std::string>& given) {
  std::vector<std::string> tokens;
  for (const std::string& item : given) {
    if (!models::is_file(item)) {
      tokens.push_back(item);
      continue;
    }
    const auto text = models::read_text_file(item);
    if (!text) return text.error();
    for (std::string& line : split(*text, '\n')) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (!line.empty()) tokens.push_back(std::move(line));
    }
  }
  if (std::find(tokens.begin(), tokens.end(), "") != tokens.end())
    return bad_input("--add-tokens", "got an empty token");
  return tokens;
}

}  // namespace

template <class Value, class Access>
void JobFlags::add(const char* name, const char* unit, Range range, const char* help,
                   const char* group, Access access) {
  auto flag = std::make_unique<Flag>();
  flag->name = name;
  flag->text = {flag_of(name), type_text<Value>(), help, group};
  JobRequest defaults;
  const std::string standard = default_text(access(defaults));
  if (!standard.empty()) flag->text.help += " [" + standard + "]";
  if constexpr (std::is_same_v<Value, bool>) {
    flag->is_switch = true;
    flag->text.flag += ",!--no-" + flag->text.flag.substr(2);
    flag->set = [access](JobRequest& request, const Flag& given) -> Result<void> {
      access(request) = *given.on;
      return {};
    };
  } else {
    flag->is_list = json_detail::is_vector<Value>;
    // File names may hold commas; other lists may be written with them.
    const bool files = flag->name == "data";
    flag->set = [=](JobRequest& request, const Flag& given) -> Result<void> {
      Json json;
      if constexpr (json_detail::is_vector<Value>) {
        json = Json::array();
        for (const std::string& item : given.values) {
          for (const std::string& part :
               files ? std::vector<std::string>{item} : split(item, ',')) {
            json.push_back(token<InnerOf<Value>>(part));
          }
        }
      } else {
        json = token<InnerOf<Value>>(*given.value);
      }
      const bool limited = range.low != range.high;
      auto value =
          limited ? read_value<Value>(json, given.text.flag, Missing::kKeepDefault, range, unit)
                  : read_value<Value>(json, given.text.flag, Missing::kKeepDefault);
      if (!value) return value.error();
      access(request) = *std::move(value);
      return {};
    };
  }
  flags_.push_back(std::move(flag));
}

template <class Owner>
void JobFlags::add_fields(Owner JobRequest::* owner, const char* group) {
  for_each_field<Owner>([&](const auto& field) {
    using Value = typename std::remove_cvref_t<decltype(field)>::value_type;
    const auto member = field.member;
    add<Value>(field.name, field.unit, field.range, field.help, group,
               [owner, member](JobRequest& request) -> Value& { return request.*owner.*member; });
  });
}

JobFlags::JobFlags() {
  for_each_field<JobRequest>([&](const auto& field) {
    using Value = typename std::remove_cvref_t<decltype(field)>::value_type;
    if constexpr (std::is_same_v<Value, std::string>) {
      const auto member = field.member;
      add<Value>(field.name, field.unit, field.range, field.help, "Model",
                 [member](JobRequest& request) -> Value& { return request.*member; });
    }
  });
  add_fields(&JobRequest::devices, "Devices");
  add_fields(&JobRequest::method, "Method");
  add_fields(&JobRequest::data, "Data");
  add_fields(&JobRequest::training, "Training");
  add_fields(&JobRequest::layout, "Layout");
}

void JobFlags::declare(Options& options) {
  options.value({"--job", "FILE", "A request as JSON; other flags are put over it.", "Model"},
                job_file_);
  for (const auto& flag : flags_) declare(options, *flag);
}

void JobFlags::declare_data(Options& options) {
  options.value({"--job", "FILE", "A request as JSON; other flags are put over it.", "Model"},
                job_file_);
  for (const auto& flag : flags_) {
    if (flag->text.group == "Data" || flag->name == "model" || flag->name == "seed")
      declare(options, *flag);
  }
}

void JobFlags::declare_use(Options& options) {
  declare_named(options, {"model", "adapter", "method", "double_quantization", "precision",
                          "format", "template"});
}

void JobFlags::declare_evaluated(Options& options) {
  declare_named(options,
                {"data", "seq", "packing", "eval_batch", "pad_multiple", "train_on_prompt"});
}

void JobFlags::declare_named(Options& options, std::initializer_list<std::string_view> names) {
  for (const auto& flag : flags_) {
    if (std::find(names.begin(), names.end(), flag->name) != names.end()) declare(options, *flag);
  }
}

void JobFlags::declare(Options& options, Flag& flag) {
  if (flag.is_switch) {
    options.toggle(flag.text, flag.on);
  } else if (flag.is_list) {
    options.values(flag.text, flag.values);
  } else {
    options.value(flag.text, flag.value);
  }
}

Result<JobRequest> JobFlags::read() const {
  if (!job_file_) return with_flags({});
  const auto text = models::read_text_file(*job_file_);
  if (!text) return text.error();
  const auto json = parse_json(*text, *job_file_);
  if (!json) return json.error();
  auto request = from_json<JobRequest>(*json, *job_file_);
  if (!request) return request.error();
  return with_flags(*std::move(request));
}

Result<JobRequest> JobFlags::read_over(JobRequest request) const {
  if (job_file_) return bad_input("--job", "is another request beside --from: give one of them");
  return with_flags(std::move(request));
}

Result<JobRequest> JobFlags::with_flags(JobRequest request) const {
  for (const auto& flag : flags_) {
    if (!flag->given()) continue;
    if (auto ok = flag->set(request, *flag); !ok) return ok.error();
  }
  auto tokens = read_tokens(request.data.add_tokens);
  if (!tokens) return tokens.error();
  request.data.add_tokens = *std::move(tokens);
  if (request.model.empty()) {
    return bad_input("--model",
                     "missing: name a preset (ftplan models lists them) or a model folder");
  }
  return request;
}

bool JobFlags::given(const std::string& name) const {
  return std::any_of(flags_.begin(), flags_.end(),
                     [&](const auto& flag) { return flag->name == name && flag->given(); });
}

}  // namespace ftplan::tools
