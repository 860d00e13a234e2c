#include "program/backward.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/step_program.h"

namespace ftplan::program {

void Backward::begin(std::vector<InstructionId> body, const std::vector<Operand>& entering,
                     const std::vector<Seed>& leaving) {
  FTPLAN_CHECK(waiting_.empty());
  const std::size_t values = program().tensors.size() * 2;
  body_ = std::move(body);
  needs_.assign(values, 0);
  gradients_.assign(values, {});
  producer_.assign(values, kNone);
  recalled_.assign(values, {});
  wholes_.assign(values, {});
  kept_.clear();
  weight_touched_.resize(program().tensors.size(), 0);
  for (std::size_t t = 0; t < weight_gradients_.size(); ++t) {
    if (weight_gradients_[t] == kNone) continue;
    needs_[t * 2] = 1;
    // A layer's weight is another one in each layer; the edges' weights are touched once a step.
    const Storage& weight = program().storage_of(static_cast<TensorId>(t));
    if (weight.copies.count > 1 || weight.anew_in_each_layer) weight_touched_[t] = 0;
  }
  for (const Operand& value : entering) needs_[key(value)] = 1;
  for (std::size_t i = 0; i < body_.size(); ++i) {
    const Instruction& instruction = program().instruction(body_[i]);
    bool needed = false;
    for (const Operand& in : instruction.in) needed |= in && needs_[key(in)] != 0;
    for (const Operand& both : instruction.update) needed |= needs_[key(both)] != 0;
    if (instruction.op == Op::kSplit) {
      for (const Operand& part : instruction.out) wholes_[key(part)] = instruction.in[0];
    }
    const bool has_gradient = row_of(instruction.op).differentiate != nullptr;
    for (const Operands* list : {&instruction.out, &instruction.update}) {
      for (const Operand& out : *list) {
        if (!out) continue;
        if (needed && has_gradient) needs_[key(out)] = 1;
        if (list == &instruction.out) producer_[key(out)] = static_cast<std::int32_t>(i);
      }
    }
  }
  for (const Seed& seed : leaving) gradients_[key(seed.value)] = seed.gradient;
  note_gradients_made_in_forward();
}

void Backward::note_gradients_made_in_forward() {
  for (const InstructionId id : body_) {
    for (const Operand& out : program().instruction(id).out) {
      const auto found = std::find(weight_gradients_.begin(), weight_gradients_.end(), out.tensor);
      if (!out || found == weight_gradients_.end()) continue;
      weight_touched_[static_cast<std::size_t>(found - weight_gradients_.begin())] = 1;
    }
  }
}

void Backward::run() {
  for (position_ = body_.size(); position_-- > 0;) {
    const Instruction forward = program().instruction(body_[position_]);
    const OpRow& row = row_of(forward.op);
    if (row.differentiate != nullptr) row.differentiate(forward, *this);
  }
  FTPLAN_CHECK(waiting_.empty());
}

bool Backward::needs_gradient(Operand value) const {
  return value && key(value) < needs_.size() && needs_[key(value)] != 0;
}

Operand Backward::gradient(Operand value) const {
  return value && key(value) < gradients_.size() ? gradients_[key(value)] : Operand{};
}

Operand Backward::uncast(Operand value) const {
  if (!in_body(value)) return value;
  const Instruction& producer =
      emitter_.program().instruction(body_[static_cast<std::size_t>(producer_[key(value)])]);
  return producer.op == Op::kCast ? producer.in[0] : value;
}

bool Backward::is_shared(Operand value, Operand gradient) const {
  for (std::size_t k = 0; k < gradients_.size(); ++k) {
    if (k == key(value) || !(gradients_[k] == gradient)) continue;
    if (producer_[k] < static_cast<std::int32_t>(position_)) return true;
  }
  return false;
}

void Backward::contribute(Instruction& instruction, Operand value, const char* name) {
  if (!needs_gradient(value)) {
    instruction.out.push_back({});
    return;
  }
  const auto slot = static_cast<std::uint8_t>(1U << static_cast<unsigned>(instruction.out.size()));
  const auto t = static_cast<std::size_t>(uncast(value).tensor);
  if (t < weight_gradients_.size() && weight_gradients_[t] != kNone) {
    if (weight_touched_[t] != 0) instruction.accumulate |= slot;
    weight_touched_[t] = 1;
    instruction.out.push_back({weight_gradients_[t]});
    return;
  }
  Operand& known = gradients_[key(value)];
  if (!known) {
    known = new_gradient(value, name);
    instruction.out.push_back(known);
    return;
  }
  if (is_shared(value, known)) {
    const Tensor& shared = program().tensor(known);
    const Operand own{emitter_.transient(name, shared.shape, shared.dtype)};
    emit({.op = Op::kCopy, .in = {known}, .out = {own}});
    known = own;
  }
  instruction.accumulate |= slot;
  instruction.out.push_back(known);
}

void Backward::contribute_over(Instruction& instruction, Operand value, Operand output, Operand dy,
                               const char* name) {
  if (!needs_gradient(value) || gradient(value) || is_shared(output, dy))
    return contribute(instruction, value, name);
  instruction.out.push_back(dy);
  set_gradient(value, dy);
}

Operand Backward::new_gradient(Operand value, const char* name) {
  const Tensor like = program().tensor(value);
  const Operand whole = whole_of(value);
  if (!whole) return {emitter_.transient(name, like.shape, like.dtype)};
  const Tensor all = program().tensor(whole);
  if (!gradient(whole)) gradients_[key(whole)] = {emitter_.transient(name, all.shape, all.dtype)};
  const std::int64_t first = (like.offset - all.offset).value / size_of(like.dtype).value;
  return {emitter_.columns(gradient(whole).tensor, first, like.shape.width())};
}

void Backward::share(Operand value, Operand source) {
  if (!needs_gradient(value)) return;
  FTPLAN_CHECK(!gradient(value));
  gradients_[key(value)] = gradient(source);
}

void Backward::set_gradient(Operand value, Operand tensor) {
  gradients_[key(value)] = tensor;
  if (!is_part(value)) return;
  // All parts of a value stay in their places, or none.
  FTPLAN_CHECK(tensor == value);
  gradients_[key(whole_of(value))] = whole_of(value);
}

bool Backward::in_body(Operand value) const {
  return key(value) < producer_.size() && producer_[key(value)] != kNone;
}

void Backward::recall(Operand value, const std::function<void(Operand)>& use) {
  if (key(value) < recalled_.size() && recalled_[key(value)]) {
    use(recalled_[key(value)]);
    return;
  }
  if (!in_body(value)) {
    use(keep(value));
    return;
  }
  const Instruction producer =
      program().instruction(body_[static_cast<std::size_t>(producer_[key(value)])]);
  const OpRow& row = row_of(producer.op);
  const bool first_output = producer.out.size() > 0 && producer.out[0] == value;
  if (!first_output || row.recall == Recall::kKept) {
    use(keep(value));
    return;
  }
  const bool already_waited_for = is_awaited(value);
  waiting_.push_back({value, use});
  // A producer that has no backward here yields nothing.
  const bool repeats = row.recall == Recall::kRepeat || !needs_gradient(value);
  if (repeats && !already_waited_for) row.repeat(producer, *this);
}

void Backward::yield(Operand value, Operand tensor) {
  recalled_[key(value)] = tensor;
  std::vector<Waiting> ready;
  const auto split = std::stable_partition(waiting_.begin(), waiting_.end(),
                                           [&](const Waiting& w) { return !(w.value == value); });
  std::move(split, waiting_.end(), std::back_inserter(ready));
  waiting_.erase(split, waiting_.end());
  for (const Waiting& w : ready) w.use(tensor);
}

bool Backward::is_awaited(Operand value) const {
  return std::any_of(waiting_.begin(), waiting_.end(),
                     [&](const Waiting& w) { return w.value == value; });
}

Operand Backward::keep(Operand value) {
  const StorageId storage = program().tensor(value).storage;
  const Storage& held = program().storages[static_cast<std::size_t>(storage)];
  // Weights are there in the backward too: always, or gathered again.
  if (held.region != Region::kPersistent && held.category != Category::kGathered &&
      std::find(kept_.begin(), kept_.end(), storage) == kept_.end()) {
    kept_.push_back(storage);
  }
  return value;
}

void Backward::emit(Instruction instruction) {
  for (int i = 0; i < instruction.in.size(); ++i) {
    const Operand in = instruction.in[i];
    // A value that was overwritten by its own gradient is no forward value any more.
    if (!in || gradient(in) == in) continue;
    const StorageId storage = program().tensor(in).storage;
    if (std::find(kept_.begin(), kept_.end(), storage) != kept_.end()) {
      instruction.saved |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(i));
    }
  }
  emitter_.emit(instruction);
}

}  // namespace ftplan::program
