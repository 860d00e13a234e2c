#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/enums.h"
#include "core/fields.h"
#include "core/units.h"

namespace ftplan {

/// What bytes are for. Every byte of a report belongs to exactly one.
enum class Category : std::uint8_t {
  kWeights,
  kAdapters,
  kGradients,
  kOptimizer,
  kActivations,
  kCheckpoints,
  kLogits,
  kGathered,
  kBuckets,
  kScratch,
  kInputs,
};
inline constexpr std::size_t kCategories = 11;
template <>
inline constexpr auto names<Category> = std::array{Name{Category::kWeights, "weights"},
                                                   Name{Category::kAdapters, "adapters"},
                                                   Name{Category::kGradients, "gradients"},
                                                   Name{Category::kOptimizer, "optimizer"},
                                                   Name{Category::kActivations, "activations"},
                                                   Name{Category::kCheckpoints, "checkpoints"},
                                                   Name{Category::kLogits, "logits"},
                                                   Name{Category::kGathered, "gathered"},
                                                   Name{Category::kBuckets, "buckets"},
                                                   Name{Category::kScratch, "scratch"},
                                                   Name{Category::kInputs, "inputs"}};

/// Where bytes are.
enum class Place : std::uint8_t { kDevice, kHostPinned, kHost, kDisk };
inline constexpr std::size_t kPlaces = 4;
template <>
inline constexpr auto names<Place> =
    std::array{Name{Place::kDevice, "device"}, Name{Place::kHostPinned, "pinned"},
               Name{Place::kHost, "host"}, Name{Place::kDisk, "disk"}};

/// Bytes of one place of one rank at one instant.
/// `unused` is what the place holds beyond the live categories; `peak` is the sum of all other
/// lines.
struct PlaceBytes {
  Bytes weights, adapters, gradients, optimizer, activations, checkpoints, logits, gathered,
      buckets, scratch, inputs, runtime, unused, peak;

  Bytes& operator[](Category category);
  Bytes operator[](Category category) const;
  /// Sum of the categories, without runtime and unused.
  [[nodiscard]] Bytes live() const;

  friend bool operator==(const PlaceBytes&, const PlaceBytes&) = default;
};
/// Line by line: what lies beside each other.
PlaceBytes operator+(PlaceBytes a, const PlaceBytes& b);

template <>
inline constexpr auto fields<PlaceBytes> = std::tuple{
    Field{"weights", &PlaceBytes::weights, "Base weights, trained or frozen."},
    Field{"adapters", &PlaceBytes::adapters, "LoRA matrices."},
    Field{"gradients", &PlaceBytes::gradients, "Gradients of trained weights."},
    Field{"optimizer", &PlaceBytes::optimizer, "Moments and f32 masters."},
    Field{"activations", &PlaceBytes::activations, "Values between operations, kept or not."},
    Field{"checkpoints", &PlaceBytes::checkpoints, "Layer inputs kept for recomputation."},
    Field{"logits", &PlaceBytes::logits, "Chunks of logits."},
    Field{"gathered", &PlaceBytes::gathered, "Weights gathered from other ranks."},
    Field{"buckets", &PlaceBytes::buckets, "Buffers of collectives."},
    Field{"scratch", &PlaceBytes::scratch, "Workspace inside one operation."},
    Field{"inputs", &PlaceBytes::inputs, "Batches and tables made from them."},
    Field{"runtime", &PlaceBytes::runtime, "Libraries and contexts."},
    Field{"unused", &PlaceBytes::unused, "Reserved but not live at the peak."},
    Field{"peak", &PlaceBytes::peak, "All lines together."}};

}  // namespace ftplan
