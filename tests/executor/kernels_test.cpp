#include "executor/kernels.h"

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <tuple>

#include "core/dtype.h"
#include "core/enums.h"
#include "tests/executor/kernel_case.h"

// Every kernel against a plain reference in double precision, on each instruction set that this
// processor has.

namespace ftplan::executor {
namespace {

struct Check {
  const char* name;
  Values (*run)(const std::string& isa, DType dtype);
};
std::ostream& operator<<(std::ostream& out, const Check& check) { return out << check.name; }

const Check kChecks[] = {{"rms_norm", check_rms_norm},
                         {"rms_norm_apply", check_rms_norm_apply},
                         {"rms_norm_backward", check_rms_norm_backward},
                         {"layer_norm", check_layer_norm},
                         {"layer_norm_apply", check_layer_norm_apply},
                         {"layer_norm_backward", check_layer_norm_backward},
                         {"rotate", check_rotate},
                         {"rope_table", check_rope_table},
                         {"route", check_route},
                         {"route_backward", check_route_backward},
                         {"dispatch", check_dispatch},
                         {"expert_linear", check_expert_linear},
                         {"expert_gradients", check_expert_gradients},
                         {"combine", check_combine},
                         {"attention", check_attention},
                         {"attention_long", check_attention_long},
                         {"attention_cache", check_attention_cache},
                         {"attention_backward", check_attention_backward},
                         {"attention_backward_long", check_attention_backward_long},
                         {"attention_window", check_attention_window},
                         {"attention_backward_window", check_attention_backward_window},
                         {"attention_cap", check_attention_cap},
                         {"attention_alibi", check_attention_alibi},
                         {"attention_outside_window", check_attention_outside_window},
                         {"gated_silu", check_gated_silu},
                         {"gated_silu_backward", check_gated_silu_backward},
                         {"gated_gelu", check_gated_gelu},
                         {"gated_gelu_backward", check_gated_gelu_backward},
                         {"gelu", check_gelu},
                         {"gelu_backward", check_gelu_backward},
                         {"groups", check_groups},
                         {"elementwise", check_elementwise},
                         {"embed", check_embed},
                         {"embed_backward", check_embed_backward},
                         {"linear", check_linear},
                         {"linear_gradients", check_linear_gradients},
                         {"linear_nf4", check_linear_nf4},
                         {"linear_nf4_input_gradient", check_linear_nf4_input_gradient},
                         {"linear_int8", check_linear_int8},
                         {"linear_int8_input_gradient", check_linear_int8_input_gradient},
                         {"bias_gradient", check_bias_gradient},
                         {"linear_cross_entropy", check_linear_cross_entropy},
                         {"linear_loss", check_linear_loss},
                         {"square_sum", check_square_sum},
                         {"clip", check_clip},
                         {"adamw", check_adamw},
                         {"adamw8bit", check_adamw8bit},
                         {"sgd", check_sgd},
                         {"generation", check_generation},
                         {"dropout", check_dropout}};

class Kernel : public testing::TestWithParam<std::tuple<Check, DType>> {
 protected:
  static Check check() { return std::get<0>(GetParam()); }
  static DType dtype() { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(All, Kernel,
                         testing::Combine(testing::ValuesIn(kChecks),
                                          testing::Values(DType::kF32, DType::kBf16, DType::kF16)),
                         [](const auto& of) {
                           return std::string(std::get<0>(of.param).name) + "_" +
                                  to_text(std::get<1>(of.param));
                         });

TEST_P(Kernel, IsCloseToTheReference) {
  const Values narrow = check().run("avx2", dtype());
  if (best_instruction_set() != "avx512") return;
  const Values wide = check().run("avx512", dtype());
  expect_close(wide, narrow, dtype(), "avx512 beside avx2");
}

TEST(Kernels, AreNamedAfterTheirInstructionSet) {
  EXPECT_STREQ(kernels_of("avx2").instruction_set, "avx2");
  EXPECT_STREQ(kernels_of("avx512").instruction_set, "avx512");
}

}  // namespace
}  // namespace ftplan::executor
