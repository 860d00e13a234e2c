#include "program/print.h"

#include <cstddef>
#include <string>
#include <variant>

#include "core/category.h"
#include "core/enums.h"
#include "core/text.h"
#include "program/attributes.h"
#include "program/op_table.h"
#include "program/ops/eager.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

std::string name_of_operand(const StepProgram& program, Operand operand) {
  if (!operand) return "-";
  const Tensor& tensor = program.tensor(operand);
  const Storage& storage = program.storage_of(operand.tensor);
  std::string text = std::string(storage.name) + "#" + std::to_string(tensor.storage);
  if (tensor.extent() != storage.size) text += "@" + std::to_string(tensor.offset.value);
  if (storage.copies.count > 1) text += "[" + std::string(operand.shift == 0 ? "l" : "l+1") + "]";
  return text + tensor.shape.text() + to_text(tensor.dtype);
}

void append_list(const StepProgram& program, const Operands& operands, std::string& out) {
  bool first = true;
  for (const Operand& operand : operands) {
    if (!first) out += ", ";
    first = false;
    out += name_of_operand(program, operand);
  }
}

struct AttributePrinter {
  std::string operator()(const NormAttributes& a) const {
    return "eps=" + format_number(a.epsilon) +
           (a.offset != 0 ? " offset=" + format_number(a.offset) : "");
  }
  std::string operator()(const EmbedAttributes& a) const {
    return "scale=" + format_number(a.scale);
  }
  std::string operator()(const LinearAttributes& a) const {
    return "scale=" + format_number(a.scale);
  }
  std::string operator()(const RotateAttributes& a) const {
    return "heads=" + std::to_string(a.heads) + " size=" + std::to_string(a.head_size) +
           (a.inverse ? " inverse" : "");
  }
  std::string operator()(const GroupAttributes& a) const {
    return "groups=" + std::to_string(a.groups);
  }
  std::string operator()(const AttentionAttributes& a) const {
    return "rows=" + std::to_string(a.rows) + " sequence=" + std::to_string(a.sequence) +
           " heads=" + std::to_string(a.heads) + "/" + std::to_string(a.kv_heads) +
           " size=" + std::to_string(a.head_size) + " cache=" + std::to_string(a.cache) +
           (a.scale > 0 ? " scale=" + format_number(a.scale) : "") +
           (a.cap > 0 ? " cap=" + format_number(a.cap) : "") +
           (a.alibi > 0 ? " alibi=" + format_number(a.alibi) : "") +
           (a.window > 0 ? " window=" + std::to_string(a.window) + " of layers " +
                               std::to_string(a.window_first) + "+" + std::to_string(a.window_every)
                         : "");
  }
  std::string operator()(const LossAttributes& a) const {
    return "chunk=" + std::to_string(a.chunk) + (a.cap > 0 ? " cap=" + format_number(a.cap) : "") +
           (a.adapter_scale > 0 ? " adapter=" + format_number(a.adapter_scale) : "");
  }
  std::string operator()(const Int8Attributes& a) const {
    return "threshold=" + format_number(a.threshold);
  }
  std::string operator()(const NextTokenAttributes& a) const {
    return a.cap > 0 ? "cap=" + format_number(a.cap) : "";
  }
  std::string operator()(const DropoutAttributes& a) const {
    return "p=" + format_number(a.probability) + " site=" + std::to_string(a.site);
  }
  std::string operator()(const AdamwAttributes& a) const {
    return "betas=" + format_number(a.beta1) + "," + format_number(a.beta2) +
           " eps=" + format_number(a.epsilon) + " decay=" + format_number(a.weight_decay) +
           (a.padding > 0 ? " padding=" + std::to_string(a.padding) : "");
  }
  std::string operator()(const SgdAttributes& a) const {
    return "momentum=" + format_number(a.momentum) + " decay=" + format_number(a.weight_decay);
  }
  std::string operator()(const ClipAttributes& a) const {
    return "limit=" + format_number(a.limit);
  }
  std::string operator()(const PeerAttributes& a) const { return "peer=" + std::to_string(a.rank); }
  std::string operator()(const CollectiveAttributes& a) const {
    return "rank=" + std::to_string(a.rank) + "/" + std::to_string(a.ranks);
  }
  std::string operator()(const RopeAttributes& a) const {
    return "theta=" + format_number(a.theta) + " scaling=" + to_text(a.scaling) +
           " factor=" + format_number(a.factor) +
           (a.attention_factor == 1 ? "" : " attention=" + format_number(a.attention_factor));
  }
  std::string operator()(const EagerAttributes& a) const { return name_of(a.kind); }
  std::string operator()(const FileAttributes& a) const {
    return "binding=" + std::to_string(a.binding);
  }
};

void print_segment(const StepProgram& program, SegmentId id, int depth, std::string& out) {
  const Segment& segment = program.segment(id);
  const std::string indent(static_cast<std::size_t>(depth) * 2, ' ');
  static constexpr const char* kAxes[] = {"block", "layers", "micro-steps"};
  out += indent + kAxes[static_cast<std::size_t>(segment.axis)] + " " +
         std::to_string(segment.first) + "+" + std::to_string(segment.repeat) + "x" +
         std::to_string(segment.stride) + (segment.descending ? " down" : "") + "\n";
  for (const Node& node : segment.body) {
    if (node.is_segment) {
      print_segment(program, node.id, depth + 1, out);
    } else {
      out += indent + "  " + print(program, program.instruction(node.id)) + "\n";
    }
  }
}

}  // namespace

const char* phase_name(Phase phase) {
  static constexpr const char* kNames[] = {"load",     "forward", "loss",      "recompute",
                                           "backward", "reduce",  "optimizer", "save"};
  return kNames[static_cast<std::size_t>(phase)];
}

std::string print(const StepProgram& program, const Instruction& instruction) {
  std::string out;
  append_list(program, instruction.out, out);
  if (!instruction.update.empty()) {
    out += out.empty() ? "" : ", ";
    out += "update ";
    append_list(program, instruction.update, out);
  }
  out += std::string(instruction.accumulate != 0 ? " += " : " = ") + name_of(instruction.op) + "(";
  append_list(program, instruction.in, out);
  out += ")";
  if (instruction.attributes != kNone) {
    out += " {" +
           std::visit(AttributePrinter{},
                      program.attributes[static_cast<std::size_t>(instruction.attributes)]) +
           "}";
  }
  if (instruction.stream != Stream::kCompute) out += " on communication";
  for (const EventUse& wait : instruction.waits) {
    out += " waits e" + std::to_string(wait.event) +
           (wait.shift != 0 ? "+" + std::to_string(wait.shift) : "") +
           (wait.outside ? " outside" : "");
  }
  if (instruction.signals != kNone) out += " signals e" + std::to_string(instruction.signals);
  return out;
}

std::string print(const StepProgram& program) {
  std::string out;
  for (std::size_t place = 0; place < kPlaces; ++place) {
    out += std::string(to_text(static_cast<Place>(place))) + " " +
           std::to_string(program.arena[place].value) + "\n";
  }
  for (std::size_t i = 0; i < program.storages.size(); ++i) {
    const Storage& s = program.storages[i];
    out += "#" + std::to_string(i) + " " + s.name + " " + to_text(s.category) + " " +
           to_text(s.place) + " " + std::to_string(s.size.value) + " x" +
           std::to_string(s.copies.count) + " at " + std::to_string(s.offset.value) + "+" +
           std::to_string(s.stride.value) + "\n";
  }
  print_segment(program, program.root, 0, out);
  return out;
}

}  // namespace ftplan::program
