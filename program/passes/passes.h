#pragma once

#include "core/result.h"
#include "program/lowering.h"

/// The passes, in the order in which `lower` runs them. Each leaves a program that `verify_program`
/// accepts.
namespace ftplan::program {

/// The family's layer ops with plain or LoRA linears, and the loss, the evaluation or the next
/// token.
Result<void> build_forward(Lowering& lowering);

/// Replaces ops by the sub-ops of the runtime profile; nothing for `ftplan`.
/// @error bad input for what the profile does not describe
Result<void> expand(Lowering& lowering);

/// Backward ops, only where a gradient is needed; what they read of the forward is kept. Updates
/// too, where the job asks for them there.
Result<void> differentiate(Lowering& lowering);

/// Keeps one input per group of layers and runs their forward again before their backward.
Result<void> recompute(Lowering& lowering);

/// Repeats the micro-step; gradients are defined by the first and added to by the others.
Result<void> accumulate(Lowering& lowering);

/// Gradient norm, clipping and update; nothing where the backward has updated.
Result<void> optimize(Lowering& lowering);

/// Sums each unit's gradient over the ranks, or to the rank's shard of it; gathers the weights of
/// which each rank has updated its part.
Result<void> shard(Lowering& lowering);

/// Puts weights that are kept in parts together before each use.
Result<void> gather(Lowering& lowering);

/// Streams and the events between them.
Result<void> schedule(Lowering& lowering);

/// What is free after each instruction, from happens-before.
Result<void> free_dead(Lowering& lowering);

/// Offsets in one arena per place, and the scratch regions.
Result<void> lay_out(Lowering& lowering);

}  // namespace ftplan::program
