#include "tests/executor/kernel_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/machine.h"
#include "executor/call.h"
#include "executor/kernels.h"
#include "executor/scratch.h"
#include "executor/torch_runtime.h"
#include "models/convert.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/step_program.h"

namespace ftplan::executor {
namespace {

constexpr std::byte kBorder{0xAB};
constexpr std::int64_t kBorderBytes = 64;

void store(std::byte* at, DType dtype, double value) {
  switch (dtype) {
    case DType::kF64:
      std::memcpy(at, &value, sizeof value);
      return;
    case DType::kI32: {
      const auto integer = static_cast<std::int32_t>(value);
      std::memcpy(at, &integer, sizeof integer);
      return;
    }
    case DType::kI8:
      *at = static_cast<std::byte>(static_cast<std::int8_t>(value));
      return;
    case DType::kU8:
      *at = static_cast<std::byte>(value);
      return;
    default: {
      const auto single = static_cast<float>(value);
      models::from_f32({&single, 1}, dtype, {at, static_cast<std::size_t>(size_of(dtype).value)});
    }
  }
}

double load(const std::byte* at, DType dtype) {
  if (dtype == DType::kF64) {
    double value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  if (dtype == DType::kI32) {
    std::int32_t value = 0;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  if (dtype == DType::kU8) return static_cast<double>(*at);
  if (dtype == DType::kI8) return static_cast<double>(static_cast<std::int8_t>(*at));
  float value = 0;
  models::to_f32({at, static_cast<std::size_t>(size_of(dtype).value)}, dtype, {&value, 1});
  return value;
}

// Calls `f(index, byte offset)` for each element.
template <class F>
void for_each_element(const program::Tensor& tensor, F f) {
  const std::int64_t width = tensor.shape.width();
  for (std::int64_t i = 0; i < tensor.shape.elements(); ++i) {
    f(static_cast<std::size_t>(i),
      kBorderBytes + (i / width * tensor.row_stride + i % width) * size_of(tensor.dtype).value);
  }
}

program::Operands operands_of(std::initializer_list<KernelCase::Id> ids) {
  program::Operands operands;
  for (const KernelCase::Id id : ids) operands.push_back({id});
  return operands;
}

}  // namespace

KernelCase::KernelCase(program::Op op, std::string instruction_set, int threads)
    : instruction_set_(std::move(instruction_set)), threads_(threads) {
  program_.instructions.push_back({.op = op});
  install_allocator();
  set_threads(threads);
}

KernelCase::Id KernelCase::tensor(DType dtype, Shape shape, const Values& values,
                                  std::int64_t row_stride) {
  program::Tensor tensor{
      .shape = shape, .row_stride = row_stride == 0 ? shape.width() : row_stride, .dtype = dtype};
  FTPLAN_CHECK(static_cast<std::int64_t>(values.size()) == shape.elements());
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.extent().value + 2 * kBorderBytes),
                               kBorder);
  for_each_element(
      tensor, [&](std::size_t i, std::int64_t at) { store(bytes.data() + at, dtype, values[i]); });
  bytes_.push_back(std::move(bytes));
  program_.tensors.push_back(tensor);
  return static_cast<Id>(bytes_.size()) - 1;
}

KernelCase::Id KernelCase::random(DType dtype, Shape shape, std::int64_t row_stride) {
  return tensor(dtype, shape,
                random_values(shape.elements(), static_cast<std::uint32_t>(bytes_.size())),
                row_stride);
}

KernelCase::Id KernelCase::undefined(DType dtype, Shape shape, std::int64_t row_stride) {
  const Values nan(static_cast<std::size_t>(shape.elements()),
                   std::numeric_limits<double>::quiet_NaN());
  return tensor(dtype, shape, dtype == DType::kI32 ? Values(nan.size(), -1) : nan, row_stride);
}

KernelCase& KernelCase::in(std::initializer_list<Id> ids) {
  program_.instructions[0].in = operands_of(ids);
  return *this;
}
KernelCase& KernelCase::out(std::initializer_list<Id> ids) {
  program_.instructions[0].out = operands_of(ids);
  return *this;
}
KernelCase& KernelCase::update(std::initializer_list<Id> ids) {
  program_.instructions[0].update = operands_of(ids);
  return *this;
}
KernelCase& KernelCase::accumulate(unsigned bits) {
  program_.instructions[0].accumulate = static_cast<std::uint8_t>(bits);
  return *this;
}
KernelCase& KernelCase::scalar(program::Scalar scalar, double value) {
  scalars_[static_cast<std::size_t>(scalar)] = value;
  return *this;
}
KernelCase& KernelCase::layer(std::int32_t layer) {
  layer_ = layer;
  return *this;
}

View KernelCase::view(program::Operand operand) {
  const auto id = static_cast<std::size_t>(operand.tensor);
  return {bytes_[id].data() + kBorderBytes, &program_.tensors[id]};
}

void KernelCase::run() {
  const program::Instruction& instruction = program_.instructions[0];
  const program::OpRow& row = program::row_of(instruction.op);
  const program::OpView op{program_, instruction};
  ASSERT_EQ(row.check(op), "") << row.name;
  const Machine machine{.threads = threads_, .instruction_set = instruction_set_};
  const program::Scratch declared = row.scratch(op, machine);
  // NaN, so that a kernel that counts on zeros is found out.
  std::vector<std::byte> memory(static_cast<std::size_t>(declared.bytes.value + kBorderBytes),
                                std::byte{0xFF});
  const std::span<std::byte> all(memory);
  Scratch scratch(all.first(static_cast<std::size_t>(declared.bytes.value)), row.name);
  Call call{.program = program_,
            .instruction = instruction,
            .layer = layer_,
            .scratch = scratch,
            .scalars = scalars_,
            .threads = threads_};
  const auto look_up = [&](const program::Operands& operands, std::array<View, 8>& views) {
    for (int i = 0; i < operands.size(); ++i) {
      if (operands[i]) views[static_cast<std::size_t>(i)] = view(operands[i]);
    }
  };
  look_up(instruction.in, call.in);
  look_up(instruction.out, call.out);
  look_up(instruction.update, call.update);
  {
    const ScratchScope scope(scratch);
    const NoAllocation forbidden;
    kernels_of(instruction_set_).of(instruction.op)(call);
  }
  if (declared.exact) {
    EXPECT_EQ(scratch.used(), declared.bytes) << row.name;
  }
  EXPECT_TRUE(std::all_of(memory.end() - kBorderBytes, memory.end(),
                          [](std::byte b) { return b == std::byte{0xFF}; }))
      << row.name << " wrote beyond its scratch";
  check_borders();
}

void KernelCase::check_borders() const {
  for (std::size_t id = 0; id < bytes_.size(); ++id) {
    std::vector<bool> owned(bytes_[id].size(), false);
    const program::Tensor& tensor = program_.tensors[id];
    for_each_element(tensor, [&](std::size_t, std::int64_t at) {
      for (std::int64_t b = 0; b < size_of(tensor.dtype).value; ++b)
        owned[static_cast<std::size_t>(at + b)] = true;
    });
    for (std::size_t at = 0; at < owned.size(); ++at) {
      ASSERT_TRUE(owned[at] || bytes_[id][at] == kBorder)
          << program::name_of(program_.instructions[0].op) << " wrote beside the rows of tensor "
          << id;
    }
  }
}

Values KernelCase::values(Id id) const {
  const program::Tensor& tensor = program_.tensors[static_cast<std::size_t>(id)];
  Values values(static_cast<std::size_t>(tensor.shape.elements()));
  for_each_element(tensor, [&](std::size_t i, std::int64_t at) {
    values[i] = load(bytes_[static_cast<std::size_t>(id)].data() + at, tensor.dtype);
  });
  return values;
}

Values joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Values random_values(std::int64_t count, std::uint32_t seed) {
  std::mt19937 random(seed + 1);
  Values values(static_cast<std::size_t>(count));
  for (double& value : values) value = static_cast<double>(random()) / 2147483648.0 - 1.0;
  return values;
}

void expect_close(const Values& got, const Values& want, DType dtype, const std::string& what,
                  double slack) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double largest = 0;
  for (const double value : want) largest = std::max(largest, std::abs(value));
  // Half a unit in the last place is 2^-24, 2^-9 and 2^-12; a few roundings stand between the
  // inputs and a result.
  const int bits = dtype == DType::kBf16 ? 8 : dtype == DType::kF16 ? 11 : 22;
  const double own = std::ldexp(1, dtype == DType::kF32 ? -18 : 1 - bits);
  const double common = std::ldexp(1, dtype == DType::kF32 ? -21 : -1 - bits);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_LE(std::abs(got[i] - want[i]), slack * (own * std::abs(want[i]) + common * largest))
        << what << "[" << i << "]: " << got[i] << ", expected " << want[i];
  }
}

}  // namespace ftplan::executor
