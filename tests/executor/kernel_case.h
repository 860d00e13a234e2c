#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "executor/call.h"
#include "program/op.h"
#include "program/step_program.h"

/// One kernel on a few small tensors, beside references in double precision.
namespace ftplan::executor {

using Values = std::vector<double>;

/// A kernel with its operands. Scratch has exactly the declared size; bytes around and between the
/// rows of tensors are watched.
class KernelCase {
 public:
  using Id = program::TensorId;
  static constexpr Id kAbsent = program::kNone;

  KernelCase(program::Op op, std::string instruction_set, int threads = 2);

  /// A tensor of these values, rounded to `dtype`. Rows lie `row_stride` elements apart; 0: one
  /// after the other.
  Id tensor(DType dtype, Shape shape, const Values& values, std::int64_t row_stride = 0);
  /// A tensor of random values in [-1, 1].
  Id random(DType dtype, Shape shape, std::int64_t row_stride = 0);
  /// A tensor of NaN, which must be written.
  Id undefined(DType dtype, Shape shape, std::int64_t row_stride = 0);

  KernelCase& in(std::initializer_list<Id> ids);
  KernelCase& out(std::initializer_list<Id> ids);
  KernelCase& update(std::initializer_list<Id> ids);
  /// Bit i: out[i] is added to.
  KernelCase& accumulate(unsigned bits);
  template <class A>
  KernelCase& attributes(const A& value) {
    program_.attributes = {value};
    program_.instructions[0].attributes = 0;
    return *this;
  }
  KernelCase& scalar(program::Scalar scalar, double value);
  KernelCase& layer(std::int32_t layer);

  /// Runs the kernel once and checks what it did to scratch and to bytes that are not its own.
  void run();

  [[nodiscard]] Values values(Id id) const;
  [[nodiscard]] double scalar(program::Scalar scalar) const {
    return scalars_[static_cast<std::size_t>(scalar)];
  }

 private:
  [[nodiscard]] View view(program::Operand operand);
  void check_borders() const;

  std::string instruction_set_;
  int threads_;
  std::int32_t layer_ = 0;
  program::StepProgram program_;
  std::vector<std::vector<std::byte>> bytes_;  // by tensor, with a border on both sides
  Scalars scalars_{};
};

/// Random values in [-1, 1], the same for the same seed.
Values random_values(std::int64_t count, std::uint32_t seed);

/// The values of both, one after the other.
Values joined(Values a, const Values& b);

/// Expects |got - want| within rounding of `dtype`: of the value itself, and of the largest, times
/// `slack`.
void expect_close(const Values& got, const Values& want, DType dtype, const std::string& what,
                  double slack = 1);

/// Checks of one kernel on one instruction set and type; give all that the kernel computed.
Values check_rms_norm(const std::string& isa, DType dtype);
Values check_rms_norm_apply(const std::string& isa, DType dtype);
Values check_rms_norm_backward(const std::string& isa, DType dtype);
Values check_layer_norm(const std::string& isa, DType dtype);
Values check_layer_norm_apply(const std::string& isa, DType dtype);
Values check_layer_norm_backward(const std::string& isa, DType dtype);
Values check_rotate(const std::string& isa, DType dtype);
Values check_rope_table(const std::string& isa, DType dtype);
Values check_route(const std::string& isa, DType dtype);
Values check_route_backward(const std::string& isa, DType dtype);
Values check_dispatch(const std::string& isa, DType dtype);
Values check_expert_linear(const std::string& isa, DType dtype);
Values check_expert_gradients(const std::string& isa, DType dtype);
Values check_combine(const std::string& isa, DType dtype);
Values check_attention(const std::string& isa, DType dtype);
Values check_attention_long(const std::string& isa, DType dtype);
Values check_attention_cache(const std::string& isa, DType dtype);
Values check_attention_backward(const std::string& isa, DType dtype);
Values check_attention_backward_long(const std::string& isa, DType dtype);
Values check_attention_window(const std::string& isa, DType dtype);
Values check_attention_backward_window(const std::string& isa, DType dtype);
Values check_attention_cap(const std::string& isa, DType dtype);
Values check_attention_alibi(const std::string& isa, DType dtype);
Values check_attention_outside_window(const std::string& isa, DType dtype);
Values check_gated_silu(const std::string& isa, DType dtype);
Values check_gated_silu_backward(const std::string& isa, DType dtype);
Values check_gated_gelu(const std::string& isa, DType dtype);
Values check_gated_gelu_backward(const std::string& isa, DType dtype);
Values check_gelu(const std::string& isa, DType dtype);
Values check_gelu_backward(const std::string& isa, DType dtype);
Values check_groups(const std::string& isa, DType dtype);
Values check_elementwise(const std::string& isa, DType dtype);
Values check_embed(const std::string& isa, DType dtype);
Values check_embed_backward(const std::string& isa, DType dtype);
Values check_linear(const std::string& isa, DType dtype);
Values check_linear_gradients(const std::string& isa, DType dtype);
Values check_linear_nf4(const std::string& isa, DType dtype);
Values check_linear_nf4_input_gradient(const std::string& isa, DType dtype);
Values check_linear_int8(const std::string& isa, DType dtype);
Values check_linear_int8_input_gradient(const std::string& isa, DType dtype);
Values check_bias_gradient(const std::string& isa, DType dtype);
Values check_linear_cross_entropy(const std::string& isa, DType dtype);
Values check_linear_loss(const std::string& isa, DType dtype);
Values check_square_sum(const std::string& isa, DType dtype);
Values check_clip(const std::string& isa, DType dtype);
Values check_adamw(const std::string& isa, DType dtype);
Values check_adamw8bit(const std::string& isa, DType dtype);
Values check_sgd(const std::string& isa, DType dtype);
Values check_generation(const std::string& isa, DType dtype);
Values check_dropout(const std::string& isa, DType dtype);

}  // namespace ftplan::executor
