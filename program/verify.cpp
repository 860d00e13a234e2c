#include "program/verify.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "core/enums.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/happens_before.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/collective.h"
#include "program/print.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::program {
namespace {

// What was done last with a run of bytes, and for which copy of which storage.
struct Owner {
  std::int64_t end = 0;
  StorageId storage = kNone;
  std::int64_t value = 0;             // which of the storage's values, see Verifier::Range
  std::int32_t writer = kNone;        // step of the last write
  std::vector<std::int32_t> readers;  // steps since
  bool made = false;                  // that write was a result, not a change in place
  bool spoiled = false;               // written by the backward since the forward defined it
};

// The bytes of one place as runs of equal history, keyed by their begin.
class Bytewise {
 public:
  // Calls `visit` for each run inside [begin, end), splitting runs at the borders.
  template <class Visit>
  void visit(std::int64_t begin, std::int64_t end, const Visit& visit) {
    split(begin);
    split(end);
    for (std::int64_t at = begin; at < end;) {
      auto run = runs_.lower_bound(at);
      if (run == runs_.end() || run->first > at) {
        const std::int64_t stop = run == runs_.end() ? end : std::min(end, run->first);
        run = runs_.insert(run, {at, Owner{.end = stop}});
      }
      visit(run->second);
      at = run->second.end;
    }
  }

 private:
  void split(std::int64_t at) {
    auto run = runs_.upper_bound(at);
    if (run == runs_.begin()) return;
    --run;
    if (run->first == at || run->second.end <= at) return;
    Owner tail = run->second;
    run->second.end = at;
    runs_.emplace(at, std::move(tail));
  }

  std::map<std::int64_t, Owner> runs_;
};

class Verifier {
 public:
  explicit Verifier(const StepProgram& program)
      : program_(program), walk_(walk(program, Sampling::kAll)), before_(program, walk_) {
    // Before lay_out each storage copy stands for itself; after it, addresses do.
    laid_out_ = std::any_of(program.arena.begin(), program.arena.end(),
                            [](Bytes arena) { return arena.value > 0; });
    std::int64_t at = 0;
    for (const Storage& storage : program.storages) {
      apart_.push_back(at);
      at += storage.copies.count * accounted(storage).value;
    }
  }

  std::string run() {
    for (std::size_t i = 0; i < walk_.steps.size() && problem_.empty(); ++i) {
      step(static_cast<std::int32_t>(i));
    }
    if (problem_.empty()) check_updates();
    return problem_;
  }

 private:
  void fail(std::int32_t at, const std::string& what) {
    if (!problem_.empty()) return;
    const Step& step = walk_.steps[static_cast<std::size_t>(at)];
    problem_ = "step " + std::to_string(at) + " (layer " + std::to_string(step.layer) +
               "): " + what + ": " + print(program_, program_.instruction(step.instruction));
  }

  void step(std::int32_t at) {
    const Instruction& instruction =
        program_.instruction(walk_.steps[static_cast<std::size_t>(at)].instruction);
    const std::string mismatch = row_of(instruction.op).check({program_, instruction});
    if (!mismatch.empty()) fail(at, mismatch);
    for (int i = 0; i < instruction.in.size(); ++i) {
      if (instruction.in[i]) read(at, instruction.in[i], ((instruction.saved >> i) & 1) != 0);
    }
    for (const Operand& both : instruction.update) read(at, both, false);
    for (int i = 0; i < instruction.out.size(); ++i) {
      const bool adds = ((instruction.accumulate >> i) & 1) != 0;
      if (instruction.out[i] && adds) read(at, instruction.out[i], false);
    }
    for (const Operand& both : instruction.update) write(at, both, Write::kChange);
    for (int i = 0; i < instruction.out.size(); ++i) {
      const bool adds = ((instruction.accumulate >> i) & 1) != 0;
      if (instruction.out[i]) write(at, instruction.out[i], adds ? Write::kAdd : Write::kDefine);
    }
    note_unit_work(at, instruction);
  }

  struct Range {
    std::int64_t begin, end;
    StorageId storage;
    // Tells apart what a storage holds for different layers and, unless it lives across them,
    // micro-steps.
    std::int64_t value;
  };

  [[nodiscard]] std::int64_t value_of(const Storage& storage, const Step& step,
                                      std::int32_t layer) const {
    const bool across =
        storage.region == Region::kPersistent || storage.region == Region::kGradients;
    const bool in_turns = storage.category == Category::kGathered && storage.anew_in_each_layer;
    const bool shared = storage.copies.count == 1 && !in_turns;
    const std::int64_t turn = shared ? 0 : (layer - storage.copies.first) / storage.copies.every;
    return turn + (across ? 0 : (std::int64_t{step.micro_step} << 32));
  }

  Range range_of(std::int32_t at, Operand operand) {
    const Tensor& tensor = program_.tensor(operand);
    const Storage& storage = program_.storages[static_cast<std::size_t>(tensor.storage)];
    const Step& step = walk_.steps[static_cast<std::size_t>(at)];
    const std::int32_t layer = step.layer + operand.shift;
    const std::int32_t copy = storage.copies.index(layer);
    if (copy < 0 || copy >= storage.copies.count)
      fail(at, "no copy of " + std::string(storage.name) + " for the layer");
    if (tensor.offset + tensor.extent() > storage.size)
      fail(at, "view outside " + std::string(storage.name));
    const std::int64_t base = laid_out_ ? storage.offset.value + copy * storage.stride.value
                                        : apart_[static_cast<std::size_t>(tensor.storage)] +
                                              copy * accounted(storage).value;
    if (laid_out_ &&
        (base < 0 || base + storage.size.value >
                         program_.arena[static_cast<std::size_t>(storage.place)].value)) {
      fail(at, std::string(storage.name) + " outside the arena");
    }
    const std::int64_t begin = base + tensor.offset.value;
    return {begin, begin + tensor.extent().value, tensor.storage, value_of(storage, step, layer)};
  }

  Bytewise& bytes_of(StorageId id) {
    return places_[static_cast<std::size_t>(program_.storages[static_cast<std::size_t>(id)].place)];
  }

  void read(std::int32_t at, Operand operand, bool saved) {
    const Range range = range_of(at, operand);
    const Storage& storage = program_.storages[static_cast<std::size_t>(range.storage)];
    bytes_of(range.storage).visit(range.begin, range.end, [&](Owner& owner) {
      const std::string name = storage.name;
      if (owner.storage == kNone) {
        if (storage.region != Region::kPersistent)
          return fail(at, name + " is read before it is defined");
        owner.storage = range.storage;
        owner.value = range.value;
      }
      if (owner.storage != range.storage || owner.value != range.value) {
        return fail(at, name + " is read after " +
                            program_.storages[static_cast<std::size_t>(owner.storage)].name +
                            " took its bytes");
      }
      if (saved && owner.spoiled)
        return fail(at, name + " is kept for the backward, but was overwritten");
      if (owner.writer != kNone && owner.writer != at && !before_(owner.writer, at)) {
        return fail(at, name + " may be read before its definition has ended");
      }
      owner.readers.push_back(at);
    });
  }

  enum class Write : std::uint8_t { kDefine, kAdd, kChange };

  void write(std::int32_t at, Operand operand, Write kind) {
    const bool defines = kind == Write::kDefine;
    const Range range = range_of(at, operand);
    const Storage& storage = program_.storages[static_cast<std::size_t>(range.storage)];
    const Phase phase =
        program_.instruction(walk_.steps[static_cast<std::size_t>(at)].instruction).phase;
    bytes_of(range.storage).visit(range.begin, range.end, [&](Owner& owner) {
      const std::string name = storage.name;
      const bool same = owner.storage == range.storage && owner.value == range.value;
      if (owner.storage != kNone && !same && !defines)
        return fail(at, name + " is updated after others took its bytes");
      if (owner.storage != kNone && !same &&
          program_.storages[static_cast<std::size_t>(owner.storage)].region ==
              Region::kPersistent) {
        return fail(at, name + " overwrites what lives across steps");
      }
      const bool reads_it = !owner.readers.empty() && owner.readers.back() == at;
      if (owner.storage != kNone && !same && reads_it)
        return fail(at, name + " overwrites an input of its own instruction");
      const auto unordered = [&](std::int32_t use) {
        return use != kNone && use != at && !before_(use, at);
      };
      if (unordered(owner.writer) ||
          std::any_of(owner.readers.begin(), owner.readers.end(), unordered)) {
        return fail(at, name + " may be written while its bytes are in use");
      }
      // Parts that one instruction defines lie between each other's rows.
      const bool replaced = owner.writer != at && owner.readers.empty();
      if (defines && same && replaced && is_gradient(owner)) {
        return fail(at, name + " is replaced before anybody has read it");
      }
      owner.spoiled = (phase == Phase::kBackward || phase == Phase::kLoss) && !defines;
      owner.storage = range.storage;
      owner.value = range.value;
      owner.writer = at;
      owner.made = kind != Write::kChange;
      owner.readers.clear();
    });
  }

  // How often each element of a unit's copy was updated, and its gradient made and reduced.
  // Whether bytes hold a result of the backward.
  [[nodiscard]] bool is_gradient(const Owner& owner) const {
    if (owner.writer == kNone || !owner.made) return false;
    if (program_.storages[static_cast<std::size_t>(owner.storage)].category == Category::kGradients)
      return true;
    return program_.instruction(walk_.steps[static_cast<std::size_t>(owner.writer)].instruction)
               .phase == Phase::kBackward;
  }

  using Ranges = std::vector<std::pair<std::int64_t, std::int64_t>>;  // of elements, [begin, end)
  struct UnitWork {
    // By micro-step: what the forward uses of the weights, and what is added to their gradient.
    std::map<std::int32_t, Ranges> uses, contributions;
    std::int32_t last_contribution = kNone;
    std::map<std::int32_t, std::int32_t> last_of;  // contribution to each micro-step's gradient
    std::vector<std::int32_t> reductions;
    Ranges summed;  // of what the update reads, by the gradient norm
    Ranges updated;
  };

  static std::pair<std::int64_t, std::int64_t> elements_of(const Tensor& tensor) {
    const std::int64_t begin = tensor.offset.value / size_of(tensor.dtype).value;
    return {begin, begin + tensor.shape.elements()};
  }

  void note_unit_work(std::int32_t at, const Instruction& instruction) {
    const Step& step = walk_.steps[static_cast<std::size_t>(at)];
    const bool forward = instruction.phase == Phase::kForward || instruction.phase == Phase::kLoss;
    for (std::size_t u = 0; u < program_.units.size(); ++u) {
      const TrainedUnit& unit = program_.units[u];
      if (unit.gradients == kNone) continue;
      const StorageId gradients = program_.tensor(unit.gradients).storage;
      const StorageId weights = program_.tensor(unit.weights).storage;
      const StorageId used = program_.tensor(unit.whole).storage;
      UnitWork& work = work_[{u, unit.per_layer ? step.layer : 0}];
      const bool reduces = instruction.op == Op::kReduceScatter || instruction.op == Op::kAllReduce;
      const Operand reduced = instruction.in.empty() || !reduces ? Operand{} : instruction.in[0];
      if (reduces &&
          program_.tensor(reduced ? reduced : instruction.update[0]).storage == gradients) {
        work.reductions.push_back(at);
        continue;
      }
      if (is_update(instruction.op) && program_.tensor(instruction.update[0]).storage == weights) {
        work.updated.push_back(elements_of(program_.tensor(instruction.update[0])));
      }
      if (instruction.op == Op::kSquareSum && program_.tensor(instruction.in[0]).storage ==
                                                  program_.tensor(unit.update_gradients).storage) {
        work.summed.push_back(elements_of(program_.tensor(instruction.in[0])));
      }
      for (const Operand& in : instruction.in) {
        if (!forward || !in || program_.tensor(in).storage != used) continue;
        work.uses[step.micro_step].push_back(elements_of(program_.tensor(in)));
      }
      for (const Operand& out : instruction.out) {
        if (!out || program_.tensor(out).storage != gradients || reduces) continue;
        work.last_contribution = at;
        work.last_of[step.micro_step] = at;
        if (instruction.op != Op::kZero) {
          work.contributions[step.micro_step].push_back(elements_of(program_.tensor(out)));
        }
      }
    }
  }

  void check_updates() {
    for (auto& [key, work] : work_) {
      const TrainedUnit& unit = program_.units[key.first];
      if (work.last_contribution == kNone && work.updated.empty() && work.reductions.empty())
        continue;
      const std::string name = std::string(unit.name) + " of layer " + std::to_string(key.second);
      for (auto* by_micro_step : {&work.uses, &work.contributions}) {
        for (auto& [micro_step, ranges] : *by_micro_step) std::sort(ranges.begin(), ranges.end());
      }
      if (work.uses != work.contributions)
        problem_ = "the gradient of " + name + " does not get one contribution per use";
      check_reductions(unit, name, work);
      const std::int64_t elements = program_.tensor(unit.update_gradients).shape.elements();
      if (work.summed.size() != 1 || work.summed[0].second - work.summed[0].first != elements) {
        problem_ = "the gradient norm does not count all of " + name + " once";
      }
      std::sort(work.updated.begin(), work.updated.end());
      std::int64_t covered = 0;
      for (std::size_t i = 0; i < work.updated.size(); ++i) {
        if (i > 0 && work.updated[i].first != work.updated[i - 1].second)
          problem_ = "weights of " + name + " are updated twice or not at all";
        covered += work.updated[i].second - work.updated[i].first;
      }
      if (covered != elements) problem_ = "not all weights of " + name + " are updated once";
      if (!problem_.empty()) return;
    }
  }

  // Among several ranks: once after the last contribution, or in each micro-step where the sum of
  // all is what the update reads.
  void check_reductions(const TrainedUnit& unit, const std::string& name, const UnitWork& work) {
    std::vector<std::int32_t> due;  // the last contributions to what is reduced
    if (program_.ranks > 1) {
      const bool apart =
          program_.tensor(unit.update_gradients).storage != program_.tensor(unit.gradients).storage;
      for (const auto& [micro_step, last] : work.last_of) {
        if (!apart) due.clear();
        due.push_back(last);
      }
    }
    if (work.reductions.size() != due.size()) {
      problem_ = "the gradient of " + name + " is not reduced exactly once";
      return;
    }
    for (std::size_t i = 0; i < due.size(); ++i) {
      const bool late = i + 1 < due.size() && work.reductions[i] > due[i + 1];
      if (work.reductions[i] < due[i] || late)
        problem_ = "the gradient of " + name + " is not reduced when it is complete";
    }
  }

  const StepProgram& program_;
  Walk walk_;
  HappensBefore before_;
  bool laid_out_ = false;
  std::vector<std::int64_t> apart_;
  std::array<Bytewise, kPlaces> places_;
  std::map<std::pair<std::size_t, std::int32_t>, UnitWork> work_;
  std::string problem_;
};

// What a rank brings to the others.
struct Exchange {
  Op op;
  std::int64_t peer;  // of a transfer
  std::string text;
};

std::vector<Exchange> exchanges_of(const StepProgram& program) {
  std::vector<Exchange> all;
  for (const Step& step : walk(program, Sampling::kAll).steps) {
    const Instruction& instruction = program.instruction(step.instruction);
    if (!communicates(instruction.op)) continue;
    const Operands& whole = !instruction.in.empty()       ? instruction.in
                            : !instruction.update.empty() ? instruction.update
                                                          : instruction.out;
    const Tensor& tensor = program.tensor(whole[0]);
    const std::string size = std::to_string(tensor.shape.elements()) + " " + to_text(tensor.dtype);
    if (is_transfer(instruction.op)) {
      all.push_back(
          {instruction.op, program.attributes_of<PeerAttributes>(instruction).rank, size});
    } else {
      const auto& attributes = program.attributes_of<CollectiveAttributes>(instruction);
      all.push_back({instruction.op, kNone,
                     std::string(name_of(instruction.op)) + " " + size + " of " +
                         std::to_string(attributes.ranks)});
    }
  }
  return all;
}

// Lets all ranks go through what they exchange, each in its own order.
class Meeting {
 public:
  explicit Meeting(const std::vector<StepProgram>& ranks) : next_(ranks.size(), 0) {
    for (const StepProgram& rank : ranks) lists_.push_back(exchanges_of(rank));
  }

  std::string run() {
    for (bool moved = true; moved && problem_.empty();) {
      moved = all_meet();
      for (std::size_t rank = 0; rank < lists_.size(); ++rank) moved = pair_meets(rank) || moved;
    }
    for (std::size_t rank = 0; rank < lists_.size() && problem_.empty(); ++rank) {
      if (const Exchange* head = at(rank)) problem_ = waiting(rank, *head);
    }
    return problem_;
  }

 private:
  [[nodiscard]] const Exchange* at(std::size_t rank) const {
    return next_[rank] < lists_[rank].size() ? &lists_[rank][next_[rank]] : nullptr;
  }

  // A collective, when all ranks have come to one.
  bool all_meet() {
    const Exchange* first = lists_.empty() ? nullptr : at(0);
    for (std::size_t rank = 0; rank < lists_.size(); ++rank) {
      const Exchange* head = at(rank);
      if (head == nullptr || is_transfer(head->op)) return false;
      if (head->text != first->text) {
        problem_ = "rank " + std::to_string(rank) + " issues " + head->text +
                   " where rank 0 issues " + first->text;
        return false;
      }
    }
    for (std::size_t& next : next_) ++next;
    return first != nullptr;
  }

  bool pair_meets(std::size_t rank) {
    const Exchange* head = at(rank);
    if (head == nullptr || head->op != Op::kSend) return false;
    const auto peer = static_cast<std::size_t>(head->peer);
    const Exchange* other = peer < lists_.size() ? at(peer) : nullptr;
    if (other == nullptr || other->op != Op::kReceive ||
        other->peer != static_cast<std::int64_t>(rank))
      return false;
    if (other->text != head->text) {
      problem_ = "rank " + std::to_string(rank) + " sends " + head->text + ", but rank " +
                 std::to_string(peer) + " receives " + other->text;
      return false;
    }
    ++next_[rank];
    ++next_[peer];
    return true;
  }

  [[nodiscard]] std::string waiting(std::size_t rank, const Exchange& head) const {
    const std::string name = "rank " + std::to_string(rank);
    if (!is_transfer(head.op))
      return name + " issues another number of collectives than other ranks: " + head.text;
    return name + (head.op == Op::kSend ? " sends " : " receives ") + head.text +
           (head.op == Op::kSend ? " to" : " from") + " rank " + std::to_string(head.peer) +
           ", which never comes to it";
  }

  std::vector<std::vector<Exchange>> lists_;
  std::vector<std::size_t> next_;
  std::string problem_;
};

}  // namespace

std::string verify_program(const StepProgram& program) { return Verifier(program).run(); }

std::string verify_ranks(const std::vector<StepProgram>& ranks) {
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const std::string problem = verify_program(ranks[rank]);
    if (!problem.empty()) return "rank " + std::to_string(rank) + ": " + problem;
  }
  return Meeting(ranks).run();
}

}  // namespace ftplan::program
