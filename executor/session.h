#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/machine.h"
#include "core/result.h"
#include "executor/arena.h"
#include "executor/call.h"
#include "executor/communicator.h"
#include "executor/kernels.h"
#include "program/lifetimes.h"
#include "program/step_program.h"
#include "program/walk.h"

/// Runs a program: looks operands up, keeps the order of streams and events, and calls kernels.
namespace ftplan::executor {

/// A rank's memory by `Place`.
struct Arenas {
  Arena device, host;

  [[nodiscard]] const Arena& of(Place place) const {
    return place == Place::kDevice ? device : host;
  }
};

/// What a program asks of the world around it.
class Host {
 public:
  Host() = default;
  virtual ~Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  /// Fills a weight of the checkpoint, or the elements of it from `begin` on that `to` holds.
  virtual Result<void> load(const program::WeightBinding& weight, std::int32_t layer,
                            const View& to, std::int64_t begin) = 0;
  /// Fills a weight of the checkpoint as NF4: `call` is that of kLoadNf4.
  virtual Result<void> load_nf4(const program::WeightBinding& weight, std::int32_t layer,
                                const Call& call) = 0;
  /// Fills a weight of the checkpoint as 8-bit codes: `call` is that of kLoadInt8.
  virtual Result<void> load_int8(const program::WeightBinding& weight, std::int32_t layer,
                                 const Call& call) = 0;
  /// Fills half of a LoRA pair: from a file, or with its first values.
  virtual Result<void> init_adapter(const program::AdapterBinding& adapter, std::int32_t layer,
                                    const View& to) = 0;
  /// Takes what `call`, a kStore, has put together.
  virtual Result<void> store(const Call& call) = 0;
  /// Fills ids, targets, positions, document start, row ids and token order; absent ones have no
  /// data.
  virtual Result<void> batch(std::int32_t micro_step, const std::array<View, 8>& to) = 0;
};

enum class Access : std::uint8_t { kRead, kDefine, kUpdate };

/// Sees the bytes that each step was handed.
class Observer {
 public:
  Observer() = default;
  virtual ~Observer() = default;
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;

  /// @param begin,end steps between which the bytes are in use, both included
  /// @param storage,copy whose bytes the program says they are
  virtual void touch(std::int32_t begin, std::int32_t end, program::StorageId storage,
                     std::int32_t copy, const std::byte* data, Bytes size, Access access) = 0;
  virtual void scratch(program::Stream stream, Bytes used) = 0;
};

struct SessionOptions {
  int threads = 1;
  Communicator* communicator = nullptr;  ///< for programs of several ranks
  /// Takes this much from the declared scratch of each op: for tests of what watches over it.
  Bytes withheld_scratch{};
};

/// One program over one rank's arenas. Runs as often as wanted.
class Session {
 public:
  /// @pre the arenas are as large as the program says; all references outlive the session
  Session(const program::StepProgram& program, const Machine& machine, const Arenas& arenas,
          Host& host, SessionOptions options);

  /// One run of the whole program, each stream on a thread of its own.
  /// @error from the host; infeasible when an op needs more scratch than declared
  Result<void> run(Scalars& scalars, Observer* observer = nullptr);

  // For those who choose the order themselves.
  [[nodiscard]] const program::Walk& walk() const { return walk_; }
  /// Steps that must have ended before step `step` begins, beside those before it on its stream.
  [[nodiscard]] const std::vector<std::int32_t>& waits(std::int32_t step) const {
    return waits_[static_cast<std::size_t>(step)];
  }
  [[nodiscard]] const program::Instruction& instruction(std::int32_t step) const {
    return program_.instruction(walk_.steps[static_cast<std::size_t>(step)].instruction);
  }
  Result<void> execute(std::int32_t step, Scalars& scalars, Observer* observer = nullptr);
  /// The operands of a step as a kernel gets them. `scratch` must outlive the call.
  [[nodiscard]] Call call_of(std::int32_t step, Scalars& scalars, Scratch& scratch) const;

 private:
  [[nodiscard]] View view(program::Operand operand, std::int32_t layer) const;
  [[nodiscard]] Scratch scratch_of(const program::Instruction& instruction,
                                   program::InstructionId id) const;
  Result<void> dispatch(const program::Step& step, Call& call);
  void observe(std::int32_t step, const Call& call, Observer& observer) const;
  Result<void> run_streams(Scalars& scalars, Observer* observer);
  void find_waits();

  const program::StepProgram& program_;
  const Arenas& arenas_;
  Host& host_;
  SessionOptions options_;
  const Kernels& kernels_;
  bool native_bf16_;
  program::Walk walk_;
  std::vector<std::vector<std::int32_t>> waits_;
  program::Spans spans_;                 // of steps
  std::vector<Bytes> declared_;          // scratch by instruction
  std::vector<program::Stream> others_;  // streams in use beside the compute stream
};

}  // namespace ftplan::executor
