#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/enums.h"
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

/// How the stages of a pipeline take turns.
enum class Pipeline : std::uint8_t {
  kNaive,  ///< a micro-batch passes all stages, forward and backward, before the next one starts
  kGpipe,  ///< all micro-batches pass forward, then all backward
  k1F1B,   ///< each stage alternates between one forward and one backward
};
template <>
inline constexpr auto names<Pipeline> =
    std::array{Name{Pipeline::kNaive, "naive"}, Name{Pipeline::kGpipe, "gpipe"},
               Name{Pipeline::k1F1B, "1f1b"}};

/// What the planner decides. The member initialisers are the only defaults in ftplan.
struct Strategy {
  std::int64_t micro_batch = 1;
  std::int64_t accumulation = 1;
  Checkpointing checkpointing{};
  std::int64_t zero = 0;
  std::int64_t loss_chunk = 512;
  std::vector<std::int64_t> stage_layers;
  std::int64_t prefetch = 1;
  std::int64_t persist_below = 0;

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
          "Tokens whose logits exist at one time."},
    Field{"stage_layers", &Strategy::stage_layers, "layers", Range{1, 1 << 16},
          "Layers of each pipeline stage; none: no pipeline."},
    Field{"prefetch", &Strategy::prefetch, "units", Range{0, 64},
          "Units whose weights are gathered ahead of the one in use, under ZeRO-3."},
    Field{"persist_below", &Strategy::persist_below, "elements", Range{0, 1e12},
          "Units of fewer elements stay whole on every rank, under ZeRO-3."}};

}  // namespace ftplan
