#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/result.h"
#include "core/units.h"
#include "program/clone.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/step_program.h"

// Note [Recompute]
// A forward layer F defines storages, of which the backward B reads some: they are kept. With
// checkpointing, F writes to clones that die inside it, and a repetition R of F, cut down to what
// is kept, defines the originals before B. With groups of one layer the residual stream itself is
// what is kept, one copy per layer. With groups of k layers each group keeps a copy C of its first
// input, R runs ascending over the group on a residual stream of its own, and B descending.
// Autocast holds the 16-bit copies of weights that F makes until the forward of all layers and the
// head has ended; those that R makes go with the layer.

namespace ftplan::program {
namespace {

// A forward segment of equal layers, and the backward segment of the same layers.
struct Span {
  std::int32_t first = 0;
  std::int32_t count = 0;
  std::vector<Node> forward;  // on clones
  std::vector<Node> backward;
  std::vector<Node> again;       // all that the next layer needs too
  std::vector<Node> again_last;  // only what is kept
};

// A part of a group: `count` layers of one span from `offset` in the group.
struct Piece {
  const Span* span;
  std::int32_t offset;
  std::int32_t count;
};

class Recomputer {
 public:
  explicit Recomputer(Lowering& lowering)
      : low_(lowering),
        program_(lowering.program),
        every_(static_cast<std::int32_t>(
            std::min(lowering.strategy.checkpointing.every, lowering.layers()))),
        residual_(program_.tensor(lowering.tensors.residual).storage) {}

  void run() {
    micro_ = program_.segment(program_.root).body.back().id;
    const std::vector<Node> nodes = program_.segment(micro_).body;
    collect_spans(nodes);
    if (every_ == 1) {
      Storage& stream = storage(residual_);
      stream.category = Category::kCheckpoints;
      stream.region = Region::kStack;
      stream.copies = {.count = static_cast<std::int32_t>(low_.layers()) + 1};
      rebuild_single(nodes);
      if (!held_casts_.empty()) hold_casts();
    } else {
      make_group_storages();
      rebuild_groups(nodes);
    }
  }

 private:
  Storage& storage(StorageId id) { return program_.storages[static_cast<std::size_t>(id)]; }
  Segment& segment(SegmentId id) { return program_.segments[static_cast<std::size_t>(id)]; }

  // All forward layers define the same storages; what any backward reads of them is kept.
  void collect_spans(const std::vector<Node>& nodes) {
    std::vector<StorageId> written;
    std::vector<StorageId> kept;
    for (const Node& node : nodes) {
      if (!node.is_segment) continue;
      const Segment layers = segment(node.id);
      const auto body = instructions_below(program_, layers.body);
      for (const InstructionId id : body) {
        const Instruction& instruction = program_.instruction(id);
        if (layers.role == Role::kLayers) add_new(written_storages(program_, instruction), written);
        if (layers.role == Role::kBackwardLayers)
          add_new(read_storages(program_, instruction), kept);
      }
      if (layers.role == Role::kLayers)
        spans_.push_back({.first = layers.first, .count = layers.repeat, .forward = layers.body});
      if (layers.role != Role::kBackwardLayers) continue;
      const auto span = std::find_if(spans_.begin(), spans_.end(), [&](const Span& known) {
        return known.first == layers.first;
      });
      if (span != spans_.end()) span->backward = layers.body;
    }
    std::erase(written, residual_);
    std::erase_if(kept, [&](StorageId s) {
      return std::find(written.begin(), written.end(), s) == written.end();
    });
    move_to_clones(written, kept);
  }

  static void add_new(const std::vector<StorageId>& from, std::vector<StorageId>& to) {
    for (const StorageId s : from) {
      if (std::find(to.begin(), to.end(), s) == to.end()) to.push_back(s);
    }
  }

  // The forward goes on clones; the originals are for the repetition and the backward.
  void move_to_clones(const std::vector<StorageId>& written, std::vector<StorageId> kept) {
    TensorMap clones;
    const bool several = every_ > 1 && low_.layers() > 1;
    for (const StorageId s : written) {
      const StorageId clone = clone_storage(program_, s, clones);
      if (low_.autocasts() && storage(s).category == Category::kWeights) keep_cast(clone);
      storage(s).region = Region::kWork;
      // Only one group's values exist at a time; groups begin at multiples of `every_`.
      const bool is_kept = std::find(kept.begin(), kept.end(), s) != kept.end();
      storage(s).copies = several && is_kept ? Copies{.count = every_} : Copies{};
    }
    for (Span& span : spans_) {
      span.again_last = repetition(span.forward, kept);
      std::vector<StorageId> with_stream = kept;
      with_stream.push_back(residual_);
      span.again = repetition(span.forward, with_stream);
      span.forward = clone_nodes(program_, span.forward, clones);
    }
  }

  void keep_cast(StorageId clone) {
    storage(clone).region = Region::kStack;
    storage(clone).copies = {.count = static_cast<std::int32_t>(low_.layers())};
    for (std::size_t t = 0; t < program_.tensors.size(); ++t) {
      if (program_.tensors[t].storage == clone) held_casts_.push_back(static_cast<TensorId>(t));
    }
  }

  // Reads every copy of a weight once more, before the backward begins.
  void hold_casts() {
    Segment last{.repeat = static_cast<std::int32_t>(low_.layers()),
                 .axis = Axis::kLayer,
                 .descending = true};
    for (const TensorId cast : held_casts_) {
      program_.instructions.push_back({.op = Op::kMark, .phase = Phase::kForward, .in = {{cast}}});
      last.body.push_back({static_cast<std::int32_t>(program_.instructions.size()) - 1, false});
    }
    const Node node = add_segment(program_, std::move(last));
    std::vector<Node>& body = segment(micro_).body;
    const auto backward = std::find_if(body.begin(), body.end(), [&](const Node& part) {
      const auto ids = instructions_below(program_, {part});
      return !ids.empty() && program_.instruction(ids.front()).phase == Phase::kBackward;
    });
    body.insert(backward, node);
  }

  // The instructions of `body` that lead to `wanted`, in order, marked as recomputation.
  std::vector<Node> repetition(const std::vector<Node>& body, std::vector<StorageId> wanted) {
    std::vector<Node> chosen;
    for (auto node = body.rbegin(); node != body.rend(); ++node) {
      Instruction instruction = program_.instruction(node->id);
      const auto written = written_storages(program_, instruction);
      const bool needed = std::any_of(written.begin(), written.end(), [&](StorageId s) {
        return std::find(wanted.begin(), wanted.end(), s) != wanted.end();
      });
      if (!needed) continue;
      for (const StorageId s : read_storages(program_, instruction)) {
        // The layer's own input is there; wanting the stream means wanting the next layer's.
        if (s != residual_) wanted.push_back(s);
      }
      instruction.phase = Phase::kRecompute;
      program_.instructions.push_back(instruction);
      chosen.push_back({static_cast<std::int32_t>(program_.instructions.size()) - 1, false});
    }
    std::reverse(chosen.begin(), chosen.end());
    return chosen;
  }

  bool writes(const std::vector<Node>& nodes, StorageId wanted) const {
    return std::any_of(nodes.begin(), nodes.end(), [&](const Node& node) {
      const auto written = written_storages(program_, program_.instruction(node.id));
      return std::find(written.begin(), written.end(), wanted) != written.end();
    });
  }

  const Span* span_from(std::int32_t first) const {
    for (const Span& span : spans_) {
      if (span.first == first) return &span;
    }
    return nullptr;
  }

  void rebuild_single(const std::vector<Node>& nodes) {
    for (const Node& node : nodes) {
      if (!node.is_segment) continue;
      const Span* span = span_from(segment(node.id).first);
      if (segment(node.id).role == Role::kLayers && span != nullptr) {
        segment(node.id).body = span->forward;
      }
      if (segment(node.id).role == Role::kBackwardLayers && span != nullptr) {
        std::vector<Node> body = span->again_last;
        body.insert(body.end(), span->backward.begin(), span->backward.end());
        segment(node.id).body = std::move(body);
      }
    }
  }

  void make_group_storages() {
    const Storage stream = storage(residual_);
    storage(residual_).region = Region::kWork;
    storage(residual_).copies = {};
    const auto layers = static_cast<std::int32_t>(low_.layers());
    Emitter emitter(program_);
    const Tensor like = program_.tensor(low_.tensors.residual);
    const StorageId kept = emitter.storage(
        {.size = stream.size,
         .category = Category::kCheckpoints,
         .region = Region::kStack,
         .copies = {.every = every_, .count = static_cast<std::int32_t>(divide_up(layers, every_))},
         .name = "group input"});
    group_input_ = emitter.tensor(kept, like.shape, like.dtype);
    // A group's last layer has no next one, but what it keeps may be made beside its output.
    const std::int32_t outputs = std::any_of(spans_.begin(), spans_.end(), [&](const Span& span) {
      return writes(span.again_last, residual_);
    });
    const StorageId again = emitter.storage(
        {.size = stream.size, .copies = {.count = every_ + outputs}, .name = "residual again"});
    stream_again_.set(low_.tensors.residual, emitter.tensor(again, like.shape, like.dtype));
  }

  Node copy(Phase phase, TensorId from, TensorId to) {
    program_.instructions.push_back(
        {.op = Op::kCopy, .phase = phase, .in = {{from}}, .out = {{to}}});
    return {static_cast<std::int32_t>(program_.instructions.size()) - 1, false};
  }

  std::vector<Piece> pieces_of(std::int32_t begin, std::int32_t end) const {
    std::vector<Piece> pieces;
    for (const Span& span : spans_) {
      const std::int32_t from = std::max(begin, span.first);
      const std::int32_t to = std::min(end, span.first + span.count);
      if (from < to) pieces.push_back({&span, from - begin, to - from});
    }
    return pieces;
  }

  void rebuild_groups(const std::vector<Node>& nodes) {
    const auto layers = static_cast<std::int32_t>(low_.layers());
    std::vector<Node> forward;
    std::vector<Node> backward;
    std::int32_t begin = 0;
    while (begin < layers) {
      const std::int32_t end = std::min(begin + every_, layers);
      // Whole groups inside one span are equal and repeat.
      const std::vector<Piece> pieces = pieces_of(begin, end);
      std::int32_t repeat = 1;
      if (pieces.size() == 1 && end - begin == every_) {
        const Span& span = *pieces[0].span;
        repeat = (span.first + span.count - begin) / every_;
      }
      const Segment outer{.first = begin, .repeat = repeat, .stride = every_, .axis = Axis::kLayer};
      forward.push_back(group_forward(outer, pieces));
      backward.insert(backward.begin(), group_backward(outer, pieces));
      begin += repeat * every_;
    }
    std::vector<Node> body;
    bool placed_forward = false;
    bool placed_backward = false;
    for (const Node& node : nodes) {
      const Role role = node.is_segment ? segment(node.id).role : Role::kOther;
      if (role == Role::kLayers) {
        if (!std::exchange(placed_forward, true))
          body.insert(body.end(), forward.begin(), forward.end());
      } else if (role == Role::kBackwardLayers) {
        if (!std::exchange(placed_backward, true))
          body.insert(body.end(), backward.begin(), backward.end());
      } else {
        body.push_back(node);
      }
    }
    segment(micro_).body = std::move(body);
  }

  Node group_forward(Segment outer, const std::vector<Piece>& pieces) {
    outer.body.push_back(copy(Phase::kForward, low_.tensors.residual, group_input_));
    for (const Piece& piece : pieces) {
      outer.body.push_back(
          add_segment(program_, {.body = clone_nodes(program_, piece.span->forward, {}),
                                 .first = piece.offset,
                                 .repeat = piece.count,
                                 .axis = Axis::kLayer,
                                 .role = Role::kLayers}));
    }
    return add_segment(program_, std::move(outer));
  }

  Node group_backward(Segment outer, const std::vector<Piece>& pieces) {
    outer.descending = true;
    outer.body.push_back(
        copy(Phase::kRecompute, group_input_, stream_again_(low_.tensors.residual)));
    for (const Piece& piece : pieces) {
      const bool ends_group = &piece == &pieces.back();
      const std::int32_t whole = piece.count - (ends_group ? 1 : 0);
      if (whole > 0) {
        outer.body.push_back(repeat_layers(piece.span->again, piece.offset, whole, false));
      }
      if (ends_group) {
        outer.body.push_back(repeat_layers(piece.span->again_last, piece.offset + whole, 1, false));
      }
    }
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      outer.body.push_back(repeat_layers(piece->span->backward, piece->offset, piece->count, true));
    }
    return add_segment(program_, std::move(outer));
  }

  Node repeat_layers(const std::vector<Node>& body, std::int32_t first, std::int32_t count,
                     bool descending) {
    return add_segment(program_, {.body = clone_nodes(program_, body, stream_again_),
                                  .first = first,
                                  .repeat = count,
                                  .axis = Axis::kLayer,
                                  .descending = descending,
                                  .role = descending ? Role::kBackwardLayers : Role::kOther});
  }

  Lowering& low_;
  StepProgram& program_;
  std::int32_t every_;
  StorageId residual_;
  SegmentId micro_ = kNone;
  std::vector<Span> spans_;
  std::vector<TensorId> held_casts_;
  TensorId group_input_ = kNone;
  TensorMap stream_again_;
};

}  // namespace

Result<void> recompute(Lowering& lowering) {
  if (!lowering.trains() || lowering.strategy.checkpointing.every == 0) return {};
  // Where only the head learns there is nothing to recompute for.
  const auto& segments = lowering.program.segments;
  const bool goes_back = std::any_of(segments.begin(), segments.end(), [](const Segment& segment) {
    return segment.role == Role::kBackwardLayers;
  });
  if (goes_back) Recomputer(lowering).run();
  return {};
}

}  // namespace ftplan::program
