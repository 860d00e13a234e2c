#pragma once

#include <cstdint>
#include <string>

#include "core/units.h"
#include "executor/scratch.h"

/// LibTorch's process-wide state: its allocator and its threads.
namespace ftplan::executor {

/// Makes LibTorch take its memory from the running op's scratch, and counts what it takes
/// elsewhere. Idempotent.
void install_allocator();

/// Bytes that LibTorch holds outside of scratch, now and at most since `reset_outside_peak`.
Bytes outside_bytes();
Bytes outside_peak();
void reset_outside_peak();

/// While one exists on a thread, LibTorch's requests of that thread are served from `scratch`.
class ScratchScope {
 public:
  explicit ScratchScope(Scratch& scratch);
  ~ScratchScope();
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Scratch* before_;
};

/// While one exists, requests of this thread outside an op throw.
class NoAllocation {
 public:
  NoAllocation();
  ~NoAllocation();
  NoAllocation(const NoAllocation&) = delete;
  NoAllocation& operator=(const NoAllocation&) = delete;

 private:
  bool before_;
};

void set_threads(int threads);
std::string torch_version();

}  // namespace ftplan::executor
