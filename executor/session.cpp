#include "executor/session.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/machine.h"
#include "core/result.h"
#include "core/units.h"
#include "executor/arena.h"
#include "executor/call.h"
#include "executor/kernels.h"
#include "executor/scratch.h"
#include "executor/torch_runtime.h"
#include "executor/transport.h"
#include "program/lifetimes.h"
#include "program/op.h"
#include "program/op_table.h"
#include "program/ops/collective.h"
#include "program/step_program.h"
#include "program/walk.h"

namespace ftplan::executor {
namespace {

using program::Instruction;
using program::Op;
using program::Operand;
using program::Step;
using program::StepProgram;
using program::Stream;

void look_up(const program::Operands& operands, std::array<View, 8>& views, const auto& view) {
  for (int i = 0; i < operands.size(); ++i) {
    if (operands[i]) views[static_cast<std::size_t>(i)] = view(operands[i]);
  }
}

}  // namespace

Session::Session(const StepProgram& program, const Machine& machine, const Arenas& arenas,
                 Host& host, SessionOptions options)
    : program_(program),
      arenas_(arenas),
      host_(host),
      options_(options),
      kernels_(kernels_of(machine.instruction_set)),
      native_bf16_(machine.native_bf16),
      walk_(program::walk(program, program::Sampling::kAll)),
      spans_(program::spans_of(program, walk_)) {
  declared_.reserve(program.instructions.size());
  for (const Instruction& instruction : program.instructions) {
    const auto scratch = program::row_of(instruction.op).scratch({program, instruction}, machine);
    declared_.push_back(scratch.bytes);
    const bool known =
        std::find(others_.begin(), others_.end(), instruction.stream) != others_.end();
    if (instruction.stream != Stream::kCompute && !known) others_.push_back(instruction.stream);
  }
  find_waits();
}

void Session::find_waits() {
  std::map<std::pair<program::EventId, std::int32_t>, std::int32_t>
      signalled;  // by event and layer: the last step
  waits_.resize(walk_.steps.size());
  for (std::size_t i = 0; i < walk_.steps.size(); ++i) {
    const Step& step = walk_.steps[i];
    const Instruction& at = program_.instruction(step.instruction);
    for (const program::EventUse& wait : at.waits) {
      const auto found = signalled.find({wait.event, wait.layer(step.layer)});
      if (found != signalled.end()) waits_[i].push_back(found->second);
    }
    if (at.signals != program::kNone)
      signalled[{at.signals, step.layer}] = static_cast<std::int32_t>(i);
  }
}

View Session::view(Operand operand, std::int32_t layer) const {
  const program::Tensor& tensor = program_.tensor(operand);
  const program::Storage& storage = program_.storages[static_cast<std::size_t>(tensor.storage)];
  const std::int32_t copy = program::copy_of(program_, operand, layer);
  const Bytes offset = storage.offset + copy * storage.stride + tensor.offset;
  const Arena& arena = arenas_.of(storage.place);
  FTPLAN_CHECK(copy >= 0 && offset.value >= 0);
  return {arena.base() + offset.value, &tensor};
}

Scratch Session::scratch_of(const Instruction& instruction, program::InstructionId id) const {
  const auto stream = static_cast<std::size_t>(instruction.stream);
  const Bytes declared = declared_[static_cast<std::size_t>(id)];
  const std::int64_t size = std::max<std::int64_t>(0, (declared - options_.withheld_scratch).value);
  std::byte* begin = arenas_.device.base() + program_.scratch_offset[stream].value;
  return {std::span(begin, static_cast<std::size_t>(size)), program::name_of(instruction.op)};
}

Call Session::call_of(std::int32_t index, Scalars& scalars, Scratch& scratch) const {
  const Step& step = walk_.steps[static_cast<std::size_t>(index)];
  const Instruction& at = program_.instruction(step.instruction);
  Call call{.program = program_,
            .instruction = at,
            .layer = step.layer,
            .scratch = scratch,
            .scalars = scalars,
            .threads = options_.threads,
            .native_bf16 = native_bf16_};
  const auto resolve = [&](Operand operand) { return view(operand, step.layer); };
  look_up(at.in, call.in, resolve);
  look_up(at.out, call.out, resolve);
  look_up(at.update, call.update, resolve);
  return call;
}

void Session::observe(std::int32_t step, const Call& call, Observer& observer) const {
  if (call.instruction.op == Op::kSplit) return;  // it names bytes and touches none
  const std::int32_t from = spans_.begin[static_cast<std::size_t>(step)];
  const std::int32_t until = spans_.end[static_cast<std::size_t>(step)];
  const auto each = [&](const program::Operands& operands, const std::array<View, 8>& views,
                        const auto& access) {
    for (int i = 0; i < operands.size(); ++i) {
      const View& view = views[static_cast<std::size_t>(i)];
      if (!view) continue;
      // What is defined takes its bytes as soon as the step may run.
      const bool defines = access(i) == Access::kDefine;
      observer.touch(defines ? from : step, until, view.tensor->storage,
                     program::copy_of(program_, operands[i], call.layer), view.data,
                     view.tensor->extent(), access(i));
    }
  };
  const program::Instruction& at = call.instruction;
  each(at.in, call.in, [](int) { return Access::kRead; });
  each(at.update, call.update, [](int) { return Access::kUpdate; });
  each(at.out, call.out,
       [&](int i) { return call.accumulates(i) ? Access::kUpdate : Access::kDefine; });
  observer.scratch(at.stream, call.scratch.used());
}

Result<void> Session::dispatch(const Step& step, Call& call) {
  const auto& at = call.instruction;
  // Batches, files and transfers have no scratch, collectives no more than their buffer: LibTorch
  // takes nothing.
  const NoAllocation forbidden;
  switch (at.op) {
    case Op::kMark:
    case Op::kSplit:
      return {};
    case Op::kBatch:
      return host_.batch(step.micro_step, call.out);
    case Op::kLoad: {
      const auto binding =
          static_cast<std::size_t>(call.attributes<program::FileAttributes>().binding);
      return host_.load(program_.weights[binding], call.model_layer(), call.out[0],
                        call.attributes<program::FileAttributes>().begin);
    }
    case Op::kStore:
      return host_.store(call);
    case Op::kLoadNf4: {
      const auto binding =
          static_cast<std::size_t>(call.attributes<program::FileAttributes>().binding);
      return host_.load_nf4(program_.weights[binding], call.model_layer(), call);
    }
    case Op::kLoadInt8: {
      const auto binding =
          static_cast<std::size_t>(call.attributes<program::FileAttributes>().binding);
      return host_.load_int8(program_.weights[binding], call.model_layer(), call);
    }
    case Op::kInitAdapter: {
      const auto binding =
          static_cast<std::size_t>(call.attributes<program::FileAttributes>().binding);
      return host_.init_adapter(program_.adapters[binding], call.model_layer(), call.out[0]);
    }
    default:
      break;
  }
  if (program::communicates(at.op)) {
    FTPLAN_CHECK(options_.communicator != nullptr);
    // However ranks talk, a collective's bytes are the same.
    const Bytes declared = declared_[static_cast<std::size_t>(step.instruction)];
    if (declared > Bytes{}) call.scratch.give_back(call.scratch.take(declared.value));
    options_.communicator->run(call);
    return {};
  }
  const Kernel kernel = kernels_.of(at.op);
  FTPLAN_CHECK(kernel != nullptr);
  // What a library takes depends on its threads, which are a setting of each thread.
  set_threads(options_.threads);
  const ScratchScope scope(call.scratch);
  kernel(call);
  return {};
}

Result<void> Session::execute(std::int32_t index, Scalars& scalars, Observer* observer) {
  const Step& step = walk_.steps[static_cast<std::size_t>(index)];
  const Instruction& at = program_.instruction(step.instruction);
  Scratch scratch = scratch_of(at, step.instruction);
  Call call = call_of(index, scalars, scratch);
  const bool runs = at.predicate == program::kAlways || scalars[at.predicate] != 0;
  try {
    if (runs) {
      if (auto ok = dispatch(step, call); !ok) return ok.error();
    }
  } catch (const ScratchExceeded& exceeded) {
    return Error{ErrorCode::kInfeasible, "scratch", exceeded.what()};
  } catch (const PeerLost& lost) {
    return lost.error();
  }
  if (observer != nullptr) observe(index, call, *observer);
  return {};
}

Result<void> Session::run(Scalars& scalars, Observer* observer) {
  if (!others_.empty()) return run_streams(scalars, observer);
  for (std::size_t i = 0; i < walk_.steps.size(); ++i) {
    if (auto ok = execute(static_cast<std::int32_t>(i), scalars, observer); !ok) return ok.error();
  }
  return {};
}

Result<void> Session::run_streams(Scalars& scalars, Observer* observer) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<bool> ended(walk_.steps.size(), false);
  std::optional<Error> failure;
  const auto run_stream = [&](Stream stream) {
    for (std::size_t i = 0; i < walk_.steps.size(); ++i) {
      const auto index = static_cast<std::int32_t>(i);
      if (instruction(index).stream != stream) continue;
      {
        std::unique_lock lock(mutex);
        const auto ready = [&] {
          return failure ||
                 std::all_of(waits_[i].begin(), waits_[i].end(), [&](std::int32_t other) {
                   return static_cast<bool>(ended[static_cast<std::size_t>(other)]);
                 });
        };
        changed.wait(lock, ready);
        if (failure) return;
      }
      const auto ok = execute(index, scalars, observer);
      const std::lock_guard lock(mutex);
      ended[i] = true;
      if (!ok && !failure) {
        failure = ok.error();
        // The other stream may wait for ranks that wait for this one.
        if (options_.communicator != nullptr) options_.communicator->abort();
      }
      changed.notify_all();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(others_.size());
  for (const Stream stream : others_) threads.emplace_back(run_stream, stream);
  run_stream(Stream::kCompute);
  for (std::thread& thread : threads) thread.join();
  if (failure) return *failure;
  return {};
}

}  // namespace ftplan::executor
