#include "executor/kernels.h"

#include <string>

#include "core/check.h"

namespace ftplan::executor {

std::string best_instruction_set() {
  __builtin_cpu_init();
  const bool wide =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  if (wide) return "avx512";
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 ? "avx2" : "";
}

const Kernels& kernels_of(const std::string& instruction_set) {
  if (instruction_set == "avx512") return avx512::kernels();
  FTPLAN_CHECK(instruction_set == "avx2");
  return avx2::kernels();
}

}  // namespace ftplan::executor
