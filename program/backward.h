#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/category.h"
#include "core/dtype.h"
#include "program/emitter.h"
#include "program/step_program.h"

namespace ftplan::program {

/// What `differentiate` knows while it walks a forward body backwards. Op rows emit their gradients
/// through it.
///
/// A value is an operand of the forward body: a tensor and a shift, so that a layer's input and
/// output are two values.
class Backward {
 public:
  /// `weight_gradients[t]` is the tensor for the gradient of weight t, or kNone when t is frozen.
  Backward(Emitter& emitter, const std::vector<TensorId>& weight_gradients)
      : emitter_(emitter), weight_gradients_(weight_gradients) {}

  /// Starts on `body` (instructions of the forward, in order). `entering` are values that need
  /// gradients and come from before the body; `leaving` have their gradients already, in the given
  /// tensors.
  struct Seed {
    Operand value;
    Operand gradient;
  };
  void begin(std::vector<InstructionId> body, const std::vector<Operand>& entering,
             const std::vector<Seed>& leaving);
  /// Emits the backward of the whole body.
  void run();

  /// The gradient of `value` after `run`, absent when nothing contributed.
  [[nodiscard]] Operand gradient_after(Operand value) const { return gradient(value); }
  /// Storages of the body that the backward reads.
  [[nodiscard]] const std::vector<StorageId>& kept() const { return kept_; }

  // For op rows:

  [[nodiscard]] StepProgram& program() { return emitter_.program(); }
  Emitter& emitter() { return emitter_; }
  [[nodiscard]] bool needs_gradient(Operand value) const;
  /// Gradient of a value of which all readers have been differentiated; absent when nothing reads
  /// it.
  [[nodiscard]] Operand gradient(Operand value) const;
  /// Adds the destination for a contribution to `value`'s gradient to `instruction.out`: a new
  /// tensor the first time, the same one accumulated to after that; absent when `value` needs none.
  void contribute(Instruction& instruction, Operand value, const char* name);
  /// The same for a gradient that may be written where `dy`, that of `output`, is read: it takes
  /// dy's place when it is the first contribution and nobody reads dy after this.
  void contribute_over(Instruction& instruction, Operand value, Operand output, Operand dy,
                       const char* name);
  /// Whether `value` is a part of another value, see `ops/split.h`; its gradient is a part, too.
  [[nodiscard]] bool is_part(Operand value) const { return static_cast<bool>(whole_of(value)); }
  /// Whether `gradient`, that of `value`, also is that of a value whose producer is still to come.
  [[nodiscard]] bool is_shared(Operand value, Operand gradient) const;
  /// Lets the gradient of `value` be the tensor that holds `source`'s, and contributions add to it
  /// in place.
  void share(Operand value, Operand source);
  /// Says that `value`'s gradient is now in `tensor`.
  void set_gradient(Operand value, Operand tensor);
  /// Calls `use` with a tensor that holds the forward value again: now, or when its producer's
  /// backward yields it.
  void recall(Operand value, const std::function<void(Operand)>& use);
  /// Calls what waits for `value`, which `tensor` holds from here on.
  void yield(Operand value, Operand tensor);
  [[nodiscard]] bool is_awaited(Operand value) const;
  /// Reads a forward value that must be kept: returns it and notes that it is.
  Operand keep(Operand value);
  /// Emits `instruction`, marking which inputs are forward values.
  void emit(Instruction instruction);

 private:
  [[nodiscard]] static std::size_t key(Operand value) {
    return static_cast<std::size_t>(value.tensor) * 2 + static_cast<std::size_t>(value.shift & 1);
  }
  [[nodiscard]] bool in_body(Operand value) const;
  [[nodiscard]] Operand whole_of(Operand value) const {
    return value && key(value) < wholes_.size() ? wholes_[key(value)] : Operand{};
  }
  /// A new tensor for the gradient of `value`.
  Operand new_gradient(Operand value, const char* name);
  /// The weight that `value` is a cast of, or `value`: casts pass gradients on in the weight's own
  /// precision.
  [[nodiscard]] Operand uncast(Operand value) const;
  /// The loss makes the head's gradient together with itself.
  void note_gradients_made_in_forward();

  Emitter& emitter_;
  const std::vector<TensorId>& weight_gradients_;
  std::vector<InstructionId> body_;
  std::size_t position_ = 0;  ///< of the instruction that is being differentiated
  std::vector<std::uint8_t> needs_;
  std::vector<Operand> gradients_;
  std::vector<std::int32_t> producer_;  ///< position in body_ of the last definition, or kNone
  std::vector<Operand> recalled_;
  std::vector<Operand> wholes_;  ///< of parts: the value that they are views of
  struct Waiting {
    Operand value;
    std::function<void(Operand)> use;
  };
  std::vector<Waiting> waiting_;
  std::vector<StorageId> kept_;
  std::vector<std::uint8_t> weight_touched_;
};

}  // namespace ftplan::program
