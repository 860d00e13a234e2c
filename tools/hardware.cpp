#include "estimator/hardware.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/enums.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/result.h"
#include "core/text.h"
#include "core/units.h"
#include "estimator/hardware_fields.h"  // IWYU pragma: keep: the JSON form
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/table.h"

namespace ftplan::tools {
namespace {

using estimator::Hardware;
using estimator::Node;

std::string scaled(const std::optional<double>& value, double unit, int decimals) {
  return value ? format_fixed(*value / unit, decimals) : "-";
}

constexpr double kTera = 1e12;
constexpr double kGiga = 1e9;

// 16-bit products, the better of both types.
std::optional<double> rate_in_16_bits(const std::optional<estimator::Rates>& rates) {
  if (!rates) return std::nullopt;
  return rates->bf16 ? rates->bf16 : rates->fp16;
}

std::string device_table() {
  Table table{.head = {"device", "sold as", "attention", "bf16", "fp8", "usable GiB", "GB/s",
                       "TFLOPS", "measured", "link GB/s", "context"},
              .left = 5};
  for (const Hardware& entry : estimator::hardware()) {
    table.rows.push_back({entry.name, entry.sold_as, to_text(entry.attention),
                          entry.native_bf16 ? "yes" : "no", entry.native_fp8 ? "yes" : "no",
                          format_gib(entry.memory_bytes),
                          format_fixed(entry.memory_bytes_per_s / kGiga, 0),
                          scaled(rate_in_16_bits(entry.peak_flops_per_s), kTera, 0),
                          scaled(rate_in_16_bits(entry.measured_flops_per_s), kTera, 0),
                          scaled(entry.link_bytes_per_s, kGiga, 0),
                          format_bytes(entry.runtime_bytes) + " +- " +
                              format_fixed(100 * entry.runtime_interval, 0) + " %"});
  }
  return render_table(table);
}

std::string node_table() {
  Table table{.head = {"node", "devices", "host RAM GiB", "disk GB", "network GB/s", "USD/h"},
              .left = 2};
  for (const Node& node : estimator::nodes()) {
    const auto& disk = node.disk_bytes;
    table.rows.push_back({node.name, std::to_string(node.devices) + " x " + node.device,
                          node.host_memory_bytes ? format_gib(*node.host_memory_bytes) : "-",
                          disk ? format_fixed(static_cast<double>(disk->value) / kGiga, 0) : "-",
                          scaled(node.network_bytes_per_s, kGiga, 1),
                          scaled(node.price_usd_per_hour, 1, 2)});
  }
  return render_table(table);
}

std::string shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return format_number(value.get<double>());
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_object()) {
    std::vector<std::string> parts;
    for (const auto& item : value.items()) parts.push_back(item.key() + " " + shown(item.value()));
    return join(parts, ", ");
  }
  if (value.is_array()) {
    std::vector<std::string> parts;
    for (const Json& item : value) parts.push_back(shown(item));
    return join(parts, ", ");
  }
  return value.dump();
}

// Every field that is set, its unit, and who says so.
template <class Entry>
std::string entry_text(const Entry& entry) {
  const Json json = to_json(entry);
  std::string text;
  for_each_field<Entry>([&](const auto& field) {
    const auto value = json.find(field.name);
    const std::string name = field.name;
    if (value == json.end() || name == "sources" || (value->is_array() && value->empty())) return;
    text += name + ": " + shown(*value) + (*field.unit == '\0' ? "" : " ") + field.unit + "\n";
    for (const estimator::FactSource& source : entry.sources) {
      if (std::find(source.of.begin(), source.of.end(), name) == source.of.end()) continue;
      text += std::string("    ") + (source.doubtful ? "doubtful: " : "") + source.from + "\n";
    }
  });
  return text;
}

class ShowHardware : public Command {
 public:
  void declare(Options& options) override {
    options.optional_argument({"name", "NAME", "A device or a node, such as T4 or g4dn.metal."},
                              name_);
    options.toggle({"--json", "", "Prints JSON."}, json_);
  }

  Result<int> run() override {
    if (name_) return show_one();
    if (json_) {
      print(render_json({{"format_version", 1},
                         {"hardware", to_json(estimator::hardware())},
                         {"nodes", to_json(estimator::nodes())}}));
      return 0;
    }
    print(
        device_table() + "\n" + node_table() +
        "\nand cpu, or this: what this machine has (ftplan doctor). A dash: not published, or not "
        "known.\nRates are of 16-bit products, dense. ftplan hardware NAME shows all numbers and "
        "where they are from.\n");
    return 0;
  }

 private:
  Result<int> show_one() const {
    const Hardware* device = estimator::find_hardware(*name_);
    const Node* node = device == nullptr ? estimator::find_node(*name_) : nullptr;
    if (device == nullptr && node == nullptr) {
      return bad_input("hardware",
                       "got \"" + *name_ +
                           "\", which is not in the catalogue; did you "
                           "mean " +
                           estimator::nearest_known(*name_, estimator::catalogue_names()) + "?");
    }
    if (json_) {
      print(render_json({{"format_version", 1},
                         {device != nullptr ? "device" : "node",
                          device != nullptr ? to_json(*device) : to_json(*node)}}));
    } else {
      print(device != nullptr ? entry_text(*device) : entry_text(*node));
    }
    return 0;
  }

  std::optional<std::string> name_;
  bool json_ = false;
};

}  // namespace

CommandRow hardware_command() {
  return {"hardware", "Devices and nodes that ftplan knows, and where each number is from.",
          "ftplan hardware T4", [] { return std::make_unique<ShowHardware>(); }};
}

}  // namespace ftplan::tools
