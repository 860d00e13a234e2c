#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/fields.h"

namespace ftplan {

/// Which layers are recomputed in the backward: `none`, `full` (each layer keeps its input), or
/// `every-k` (k layers keep one input and are recomputed as a whole).
struct Checkpointing {
  std::int64_t every = 0;  ///< 0: nothing is recomputed; k: layers per kept input
  friend constexpr bool operator==(Checkpointing, Checkpointing) = default;
};

std::string to_text(const Checkpointing& value);
std::optional<Checkpointing> parse_text(std::string_view text, Checkpointing*);
std::string expected_text(const Checkpointing*);

/// What the planner decides. The member initialisers are the only defaults in ftplan.
struct Strategy {
  std::int64_t micro_batch = 1;
  std::int64_t accumulation = 1;
  Checkpointing checkpointing{};
  std::int64_t zero = 0;
  std::int64_t loss_chunk = 512;

  friend bool operator==(const Strategy&, const Strategy&) = default;
};

template <>
inline constexpr auto fields<Strategy> = std::tuple{
    Field{"micro_batch", &Strategy::micro_batch, "sequences", Range{1, 1 << 16},
          "Sequences in one forward pass on one rank."},
    Field{"accumulation", &Strategy::accumulation, "micro-steps", Range{1, 1 << 16},
          "Micro-steps whose gradients add up to one optimizer step."},
    Field{"checkpointing", &Strategy::checkpointing,
          "Which activations are recomputed in the backward."},
    Field{"zero", &Strategy::zero, "stage", Range{0, 3}, "What is sharded over the ranks."},
    Field{"loss_chunk", &Strategy::loss_chunk, "tokens", Range{1, 1 << 20},
          "Tokens whose logits exist at one time."}};

}  // namespace ftplan
