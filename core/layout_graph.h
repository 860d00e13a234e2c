#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/units.h"

/// A step as the few parts that a person thinks of: what each holds, and what goes between them.
namespace ftplan {

/// How long bytes are held.
enum class Held : std::uint8_t {
  kAlways,   ///< across steps
  kInAStep,  ///< from the forward to the backward, or from the backward to the update
  kAtATime,  ///< while the part computes, at its fullest instant
};

/// Bytes of one category that a part holds.
struct Holding {
  Category category = Category::kWeights;
  Held held = Held::kAlways;
  Place place = Place::kDevice;
  Bytes bytes;              ///< of all its repetitions together
  std::int64_t copies = 1;  ///< how many of equal size these are
  friend bool operator==(const Holding&, const Holding&) = default;
};

struct LayoutPart {
  std::string name;          ///< `embedding`, `layers`, `head and loss`, `optimizer`, `inputs`
  std::int64_t repeats = 1;  ///< layers
  std::vector<Holding> holds;
  friend bool operator==(const LayoutPart&, const LayoutPart&) = default;
};

enum class Flow : std::uint8_t {
  kForward,   ///< values
  kBackward,  ///< their gradients
  kUpdate,    ///< gradients of trained values to the optimizer
  kShared,    ///< weights that two parts use
  kTransfer,  ///< to or from other ranks
};

struct LayoutFlow {
  std::int64_t from = 0, to = 0;  ///< in `LayoutGraph::parts`
  Flow flow = Flow::kForward;
  Bytes bytes;       ///< at one time; for updates and transfers those of all layers
  std::string what;  ///< operation of a transfer, else empty
  friend bool operator==(const LayoutFlow&, const LayoutFlow&) = default;
};

/// The layout of one rank.
struct LayoutGraph {
  std::int64_t rank = 0;
  std::string device;  ///< its name
  std::int64_t ranks = 1;
  Bytes arena;    ///< mapped on the device
  Bytes scratch;  ///< of it, workspace inside operations
  std::int64_t micro_steps = 1;
  std::vector<LayoutPart> parts;
  std::vector<LayoutFlow> flows;
};

}  // namespace ftplan
