#include "estimator/hardware.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "estimator/hardware_fields.h"  // IWYU pragma: keep: the JSON form
#include "estimator/hardware_files.h"
#include "estimator/node_files.h"

namespace ftplan::estimator {
namespace {

// Fields that are words, not facts to look up.
constexpr std::array<std::string_view, 12> kWords = {
    "name",      "aliases", "vendor",  "architecture", "platform", "link",
    "host_link", "device",  "sold_as", "price_date",   "notes",    "sources"};

// Facts that an entry states: fields that are set and are no words.
template <class Entry>
std::vector<std::string> stated_facts(const Entry& entry) {
  std::vector<std::string> facts;
  for_each_field<Entry>([&](const auto& field) {
    const auto& value = entry.*(field.member);
    if constexpr (json_detail::is_optional<std::remove_cvref_t<decltype(value)>>) {
      if (!value) return;
    }
    const std::string_view name = field.name;
    if (std::find(kWords.begin(), kWords.end(), name) == kWords.end()) facts.emplace_back(name);
  });
  return facts;
}

template <class Entry>
Result<void> check_sources(const Entry& entry, const std::string& where) {
  const std::vector<std::string> facts = stated_facts(entry);
  std::vector<std::string> told;
  for (const FactSource& source : entry.sources) {
    for (const std::string& name : source.of) {
      if (std::find(facts.begin(), facts.end(), name) == facts.end()) {
        return bad_input(
            json_detail::child(where, "sources"),
            "got \"" + name + "\", which the entry does not state; it states " + join(facts, ", "));
      }
      told.push_back(name);
    }
  }
  for (const std::string& fact : facts) {
    if (std::find(told.begin(), told.end(), fact) == told.end()) {
      return bad_input(json_detail::child(where, "sources"),
                       "got none of " + fact + ", expected where each number is from");
    }
  }
  return {};
}

template <class Entry>
Result<Entry> read_entry(std::string_view json_text, const std::string& where) {
  const auto json = parse_json(json_text, where);
  if (!json) return json.error();
  auto entry = from_json<Entry>(*json, where, Missing::kIsAnError);
  if (!entry) return entry;
  if (auto ok = check_sources(*entry, where); !ok) return ok.error();
  return entry;
}

template <class Entry, class Read>
std::vector<Entry> read_all(const std::vector<EmbeddedFile>& files, Read read) {
  std::vector<Entry> all;
  all.reserve(files.size());
  for (const EmbeddedFile& file : files) {
    auto entry = read(file.text, std::string(file.name));
    FTPLAN_CHECK(entry.ok() && entry->name == file.name);
    all.push_back(*std::move(entry));
  }
  return all;
}

// What two spellings of one name have in common.
std::string plain_spelling(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c == '-' || c == '_' || c == ' ') continue;
    plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return plain;
}

template <class Entry>
const Entry* find(const std::vector<Entry>& entries, std::string_view name) {
  const std::string wanted = plain_spelling(name);
  for (const Entry& entry : entries) {
    const bool alias = std::any_of(
        entry.aliases.begin(), entry.aliases.end(),
        [&](const std::string& spelling) { return plain_spelling(spelling) == wanted; });
    if (alias || plain_spelling(entry.name) == wanted) return &entry;
  }
  return nullptr;
}

std::size_t common_part(const std::string& a, const std::string& b) {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t length = longest + 1; i + length <= a.size(); ++length) {
      if (b.find(a.substr(i, length)) == std::string::npos) break;
      longest = length;
    }
  }
  return longest;
}

}  // namespace

Result<Hardware> read_hardware(std::string_view json_text, const std::string& where) {
  return read_entry<Hardware>(json_text, where);
}

Result<Node> read_node(std::string_view json_text, const std::string& where) {
  return read_entry<Node>(json_text, where);
}

const std::vector<Hardware>& hardware() {
  static const auto kHardware = read_all<Hardware>(hardware_files(), read_hardware);
  return kHardware;
}

const std::vector<Node>& nodes() {
  static const auto kNodes = read_all<Node>(node_files(), read_node);
  return kNodes;
}

const Hardware* find_hardware(std::string_view name) { return find(hardware(), name); }

const Node* find_node(std::string_view name) { return find(nodes(), name); }

std::vector<std::string> catalogue_names() {
  std::vector<std::string> names;
  for (const Hardware& entry : hardware()) names.push_back(entry.name);
  for (const Node& node : nodes()) names.push_back(node.name);
  return names;
}

std::string nearest_known(const std::string& name, const std::vector<std::string>& known) {
  std::size_t most = 1;  // one letter says nothing
  std::vector<std::string> alike;
  for (const std::string& entry : known) {
    const std::size_t part = common_part(plain_spelling(name), plain_spelling(entry));
    if (part < most) continue;
    if (part > most) alike.clear();
    most = part;
    alike.push_back(entry);
  }
  return nearest(name, most > 1 ? alike : known);
}

}  // namespace ftplan::estimator
