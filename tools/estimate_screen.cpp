#include "tools/estimate_screen.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/devices.h"
#include "core/enums.h"
#include "core/job.h"
#include "core/linear_value.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/plan.h"
#include "core/strategy.h"
#include "core/text.h"
#include "core/units.h"
#include "estimator/hardware.h"
#include "estimator/predict.h"
#include "models/family.h"
#include "planner/room.h"
#include "tools/resolve.h"
#include "tools/table.h"

namespace ftplan::tools {
namespace {

// GiB, or MiB for models that are small beside one.
struct Unit {
  const char* name = "GiB";
  Bytes bytes = kGiB;
  [[nodiscard]] std::string show(Bytes value) const {
    return format_fixed(static_cast<double>(value.value) / static_cast<double>(bytes.value), 2);
  }
  [[nodiscard]] std::string show_some(Bytes value) const {
    return value == Bytes{} ? "-" : show(value);
  }
};

Unit unit_of(const std::vector<EstimateRow>& rows) {
  for (const EstimateRow& row : rows) {
    if (row.device().peak >= kGiB) return {};
  }
  return {.name = "MiB", .bytes = kMiB};
}

std::string title(const Job& job) { return std::string(title_of(job.request.method.method)); }

// What a GPU run keeps on the host besides a batch.
Bytes state_on_host(const EstimateRow& row) {
  const PlaceBytes& host = row.evaluation.prediction.host;
  return host.live() - host.inputs - host.scratch;
}

using Lines = std::vector<std::pair<std::string, std::string>>;

// Labels in one column, texts in another.
std::string render_lines(const Lines& lines) {
  std::size_t width = 0;
  for (const auto& [label, text] : lines) width = std::max(width, label.size());
  std::string all;
  for (const auto& [label, text] : lines)
    all += label + std::string(width + 3 - label.size(), ' ') + text + "\n";
  return all;
}

const estimator::Node* node_of(const Resolved& resolved) {
  const auto asked = parse_devices(resolved.gpus);
  return asked ? estimator::find_node(asked->name) : nullptr;
}

std::string known(const std::optional<Bytes>& bytes) {
  return bytes ? format_bytes(*bytes) : "not known";
}

std::string usable_text(const Resolved& resolved) {
  const std::vector<double>& asked = resolved.job.request.devices.memory;
  if (asked.size() < 2) return known(resolved.machine.device_memory) + " usable";
  std::vector<std::string> each;
  for (const double gib : asked) each.push_back(format_number(gib));
  return join(each, ", ") + " GiB usable";
}

std::string memory_text(const Resolved& resolved) {
  const Machine& machine = resolved.machine;
  if (!machine.device_memory) return "memory not known";
  std::string text = usable_text(resolved);
  if (machine.backend == Backend::kCpu) {
    return text + ", " + std::to_string(machine.threads) + " threads" +
           (machine.instruction_set.empty() ? "" : ", " + machine.instruction_set);
  }
  const estimator::Hardware* entry = estimator::find_hardware(machine.name);
  if (entry != nullptr) text += " each (sold as " + entry->sold_as + ")";
  const estimator::Node* node = node_of(resolved);
  if (node != nullptr) {
    text += "; " + std::to_string(resolved.job.devices.nodes) + " x " + node->name +
            (resolved.job.devices.nodes > 1 ? ", each" : ",") + " with";
  } else {
    text += ",";
  }
  return text + " host RAM " + known(machine.host_memory) + ", disk " + known(machine.disk);
}

std::string assumed_text(const EstimateScreen& screen) {
  const Job& job = screen.resolved.job;
  const Strategy& strategy = screen.rows.front().strategy();
  std::string text = std::to_string(strategy.micro_batch) + " x " + std::to_string(job.sequence) +
                     " tokens a device and pass, " + std::to_string(strategy.accumulation) +
                     (strategy.accumulation == 1 ? " pass a step, " : " passes a step, ");
  if (!screen.all) text += "checkpointing " + to_text(strategy.checkpointing) + ", ";
  text += std::string(to_text(job.request.method.precision)) + ", " +
          to_text(job.request.method.optimizer);
  const auto adapted = std::find_if(screen.rows.begin(), screen.rows.end(),
                                    [](const EstimateRow& row) { return row.job.lora(); });
  if (adapted == screen.rows.end()) return text;
  text += ", LoRA r=" + std::to_string(job.request.method.rank);
  for (const LinearValue& entry : job.request.method.rank_pattern) text += "," + to_text(entry);
  return text + " " + join(job.request.method.targets, ",") + " (" +
         format_count(estimator::trainable_parameters(adapted->job)) + ")";
}

Lines head_of(const EstimateScreen& screen) {
  const Resolved& resolved = screen.resolved;
  const Job& job = resolved.job;
  const std::int64_t parameters = models::count_parameters(job.model);
  Lines lines = {
      {job.model.name, format_count(parameters) + " parameters, " +
                           std::to_string(job.model.layers) + " layers, " +
                           format_bytes(Bytes{2 * parameters}) + " in 16 bit"},
      {std::to_string(job.ranks()) + " x " + resolved.machine.name, memory_text(resolved)},
      {"assumed", assumed_text(screen)}};
  const bool quantized = std::any_of(screen.rows.begin(), screen.rows.end(),
                                     [](const EstimateRow& row) { return row.job.quantized(); });
  if (quantized && resolved.machine.backend == Backend::kCuda) {
    lines.emplace_back(
        "note", "quantized: scratch holds one whole dequantized weight, as with bitsandbytes");
  }
  for (const std::string& note : resolved.notes) lines.emplace_back("note", note);
  for (const std::string& line : screen.origin) lines.emplace_back("from", line);
  return lines;
}

// On cpu the peak is a bound that can only be lower.
std::string interval_text(const EstimateRow& row, Backend backend, Unit unit) {
  const Bytes width = row.evaluation.prediction.uncertainty;
  if (width == Bytes{}) return "exact";
  return (backend == Backend::kCpu ? "-" : "+-") + unit.show(width);
}

std::string fits_text(const estimator::Judgement& judgement, Unit unit) {
  const std::string where = judgement.place == Place::kHost   ? " host"
                            : judgement.place == Place::kDisk ? " disk"
                                                              : "";
  switch (judgement.fits) {
    case Fits::kYes:
      return "yes    " + unit.show(judgement.headroom);
    case Fits::kTight:
      return "tight " + unit.show(judgement.headroom);
    case Fits::kNo:
      return "short" + where + "  " + unit.show(Bytes{} - judgement.headroom);
    case Fits::kUnknown:
      break;
  }
  return "unknown";
}

struct Columns {
  bool on_host = false;  ///< states live there
  bool all = false;
};

std::vector<std::string> cells_of(const EstimateRow& row, const Columns& columns, Backend backend,
                                  Unit unit) {
  const PlaceBytes& d = row.device();
  std::vector<std::string> cells;
  if (columns.all) cells.push_back(to_text(row.strategy().checkpointing));
  cells.insert(cells.end(), {unit.show(d.weights + d.adapters), unit.show_some(d.gradients),
                             unit.show_some(d.optimizer)});
  if (columns.on_host) cells.push_back(unit.show_some(state_on_host(row)));
  cells.push_back(unit.show(d.activations + d.checkpoints + d.logits));
  cells.push_back(unit.show_some(d.gathered));
  Bytes other = d.buckets + d.inputs + d.runtime + d.unused;
  if (columns.all) {
    cells.push_back(unit.show(d.scratch));
  } else {
    other += d.scratch;
  }
  cells.push_back(unit.show(other));
  cells.push_back(unit.show(d.peak));
  if (columns.all) cells.push_back(interval_text(row, backend, unit));
  cells.push_back(fits_text(row.evaluation.judgement, unit));
  return cells;
}

std::string table_of(const EstimateScreen& screen, const EstimateRow* best) {
  const Unit unit = unit_of(screen.rows);
  const auto& limit = screen.resolved.machine.device_memory;
  const bool same = screen.resolved.job.request.devices.memory.size() < 2;
  const Columns columns{
      .on_host = std::any_of(screen.rows.begin(), screen.rows.end(),
                             [](const EstimateRow& row) { return state_on_host(row) > Bytes{}; }),
      .all = screen.all};
  Table table{.head = {std::string(unit.name) + " a device", "  layout"},
              .left = columns.all ? std::size_t{3} : std::size_t{2}};
  const auto add = [&](const char* name) { table.head.emplace_back(name); };
  if (columns.all) add("checkpointing");
  for (const char* name : {"weights", "grads", "optim"}) add(name);
  if (columns.on_host) add("on host");
  for (const char* name : {"activations", "gathered"}) add(name);
  if (columns.all) add("scratch");
  for (const char* name : {"other", "peak"}) add(name);
  if (columns.all) add("interval");
  table.head.push_back(limit && same ? "fits " + unit.show(*limit) + "?" : "fits");
  std::string method;
  for (const EstimateRow& row : screen.rows) {
    const bool first = title(row.job) != method;
    method = title(row.job);
    std::vector<std::string> line = {first ? method : "",
                                     (&row == best ? "> " : "  ") + layout_of(row)};
    for (std::string& cell : cells_of(row, columns, screen.resolved.machine.backend, unit))
      line.push_back(std::move(cell));
    table.rows.push_back(std::move(line));
  }
  return render_table(table);
}

// By how much the upper end lies over the peaks of the table.
std::string upper_end(const EstimateScreen& screen) {
  if (screen.resolved.machine.backend == Backend::kCpu) return "";
  Bytes most;
  for (const EstimateRow& row : screen.rows)
    most = std::max(most, row.evaluation.prediction.uncertainty);
  return "fits is judged at the upper end of what scratch and contexts may take, up to " +
         format_bytes(most) + " above the peak\n";
}

std::string node_hint(const EstimateScreen& screen) {
  const Machine& machine = screen.resolved.machine;
  if (machine.backend == Backend::kCpu || (machine.host_memory && machine.disk)) return "";
  const bool named = node_of(screen.resolved) != nullptr;
  std::string hint = "host and disk are judged only where they are known: ";
  const std::int64_t per_node = screen.resolved.job.devices.per_node;
  for (const estimator::Node& node : estimator::nodes()) {
    const bool like = node.device == machine.name && node.devices == per_node &&
                      node.host_memory_bytes && node.disk_bytes;
    if (like && !named) return hint + "try --gpus " + node.name + "\n";
  }
  return hint + "give --host-memory and --disk\n";
}

std::string layout_phrase(const EstimateRow& row) {
  if (row.job.stages() > 1) return " in a naive pipeline";
  return row.job.ranks() == 1 ? "" : " with " + layout_of(row);
}

// What the result and its base take in files.
std::string files_text(const EstimateRow& row) {
  const std::int64_t trained = estimator::trainable_parameters(row.job);
  const std::int64_t parameters = models::count_parameters(row.job.model);
  const std::string base = format_bytes(Bytes{2 * parameters}) + " in 16 bit";
  if (!row.job.lora()) return "Model on disk: " + base + ".";
  return "Adapter " + format_bytes(Bytes{4 * trained}) + ". Base model on disk: " + base + ".";
}

// What a pipeline of the same method has for and against it.
std::string pipeline_text(const EstimateScreen& screen, const EstimateRow& best) {
  if (best.job.stages() > 1) return " One device works at a time.";
  for (const EstimateRow& row : screen.rows) {
    const bool less = row.job.stages() > 1 &&
                      row.job.request.method.method == best.job.request.method.method &&
                      row.evaluation.judgement.need < best.evaluation.judgement.need;
    if (!less) continue;
    return " A naive pipeline needs " + format_bytes(row.evaluation.judgement.need) +
           ", but one device works at a time.";
  }
  return "";
}

std::string answer_of(const EstimateScreen& screen, const EstimateRow* best) {
  if (best != nullptr) {
    const estimator::Judgement& judgement = best->evaluation.judgement;
    return "Yes: " + title(best->job) + layout_phrase(*best) + ", " + format_bytes(judgement.need) +
           " of " + format_bytes(*judgement.limit) +
           " a device. The peak is at: " + best->evaluation.prediction.peak_instruction + "." +
           pipeline_text(screen, *best) + "\n     " + files_text(*best) + "\n";
  }
  const EstimateRow& least = least_of(screen.rows);
  const estimator::Judgement& judgement = least.evaluation.judgement;
  const char* place = judgement.place == Place::kHost   ? " a host"
                      : judgement.place == Place::kDisk ? " a disk"
                                                        : " a device";
  const std::string need =
      format_bytes(judgement.need) + place + " (" + title(least.job) + layout_phrase(least) + ")";
  if (!judgement.limit) return "Not judged: the memory is not known. The least is " + need + ".\n";
  return "No: nothing that is built fits. The least is " + need + ", short by " +
         format_bytes(Bytes{} - judgement.headroom) + ".\n";
}

std::string grown(const planner::Growth& growth) { return " (" + format_bytes(growth.need) + ")"; }

std::string room_text(const EstimateScreen& screen) {
  std::vector<std::string> ways;
  if (screen.room) {
    const planner::Room& room = *screen.room;
    if (room.micro_batch) {
      ways.push_back("micro-batch " + std::to_string(room.micro_batch->value) +
                     grown(*room.micro_batch));
    }
    if (room.sequence) {
      ways.push_back("rows of " + std::to_string(room.sequence->value) + " tokens" +
                     grown(*room.sequence));
    }
    if (room.kept) ways.push_back("nothing recomputed (" + format_bytes(*room.kept) + ")");
  }
  std::string text = ways.empty() ? "" : "Room left:  " + join(ways, ", or ") + "\n";
  if (!screen.fewest) return text;
  const planner::FewestDevices& fewest = *screen.fewest;
  text += "Smallest that fits:  " + std::to_string(fewest.devices) + " x " +
          screen.resolved.machine.name;
  if (fewest.devices > 1) text += " with ZeRO-" + std::to_string(fewest.evaluation.strategy.zero);
  return text + ", " + format_bytes(fewest.evaluation.judgement.need) + " a device\n";
}

std::string next_text(const EstimateScreen& screen, const EstimateRow* best) {
  const JobRequest& asked = (best == nullptr ? least_of(screen.rows) : *best).job.request;
  return "Next:  ftplan plan --model " + asked.model + " --method " + to_text(asked.method.method) +
         " --gpus " + screen.resolved.gpus + (asked.layout.pipeline ? " --pipeline naive" : "") +
         " --data my.jsonl -o plan.json\n"
         "       ftplan explain plan.json     where the bytes are, what each knob changes\n";
}

}  // namespace

std::string layout_of(const EstimateRow& row) {
  if (row.job.stages() > 1) return "pipeline";
  return row.job.ranks() == 1 ? "one device" : "ZeRO-" + std::to_string(row.strategy().zero);
}

const EstimateRow* best_of(const std::vector<EstimateRow>& rows) {
  const EstimateRow* best = nullptr;
  for (const EstimateRow& row : rows) {
    if (row.evaluation.judgement.fits != Fits::kYes) continue;
    if (row.job.stages() == 1) return &row;
    if (best == nullptr) best = &row;
  }
  return best;
}

const EstimateRow& least_of(const std::vector<EstimateRow>& rows) {
  return *std::min_element(rows.begin(), rows.end(),
                           [](const EstimateRow& a, const EstimateRow& b) {
                             return a.evaluation.judgement.need < b.evaluation.judgement.need;
                           });
}

std::string render_estimate(const EstimateScreen& screen) {
  const EstimateRow* best = best_of(screen.rows);
  return render_lines(head_of(screen)) + "\n" + table_of(screen, best) + upper_end(screen) +
         node_hint(screen) + screen.not_built + "\n\n" + answer_of(screen, best) +
         room_text(screen) + next_text(screen, best);
}

}  // namespace ftplan::tools
