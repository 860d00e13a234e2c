#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <variant>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/units.h"
#include "program/attributes.h"
#include "program/op.h"

/// One step of one rank as plain data: what the estimator simulates and the executor runs.
///
/// Equal layers and equal micro-steps are stored once and repeated, so the size of a program does
/// not depend on their number. An operand means the copy of its storage that belongs to the layer
/// being run, or to a neighbour (`shift`).
namespace ftplan::program {

using StorageId = std::int32_t;
using TensorId = std::int32_t;
using InstructionId = std::int32_t;
using SegmentId = std::int32_t;
using AttributesId = std::int32_t;
using EventId = std::int32_t;
inline constexpr std::int32_t kNone = -1;

/// Every storage starts at a multiple of this and is accounted in multiples of it.
inline constexpr Bytes kAlignment{64};

/// The copies of a storage. Layer `l` means copy `((l - first) / every) % count`.
struct Copies {
  std::int32_t first = 0;
  std::int32_t every = 1;
  std::int32_t count = 1;

  [[nodiscard]] std::int32_t index(std::int32_t layer) const {
    return count == 1 ? 0 : ((layer - first) / every) % count;
  }
  friend bool operator==(Copies, Copies) = default;
};

/// Which part of the arena a storage belongs to; decided by the pass that makes it.
enum class Region : std::uint8_t {
  kPersistent,  ///< lives across steps
  kWork,        ///< lives inside a step, at one place
  kStack,       ///< one copy per layer, pushed by the forward and popped by the backward
  kGradients,   ///< one copy per layer or unit, pushed by the backward, freed by the optimizer
};

/// Bytes with one lifetime. `size` is that of one copy.
struct Storage {
  Bytes size;
  Category category = Category::kActivations;
  Place place = Place::kDevice;
  Region region = Region::kWork;
  Copies copies{};
  /// Layers share the copy, but each has a value of its own, which is made in parts.
  bool anew_in_each_layer = false;
  const char* name = "";  ///< static text

  // Decided by lay_out: copy i begins at offset + i * stride of the arena of `place`.
  Bytes offset{};
  Bytes stride{};
};

/// A view of a storage: rows of `shape.width()` elements, `row_stride` elements apart.
struct Tensor {
  StorageId storage = kNone;
  Bytes offset;
  Shape shape;
  std::int64_t row_stride = 0;
  DType dtype = DType::kF32;

  [[nodiscard]] bool contiguous() const { return row_stride == shape.width() || shape.rows() <= 1; }
  /// Bytes from the first element to the last.
  [[nodiscard]] Bytes extent() const {
    const std::int64_t rows = shape.rows();
    return rows == 0 ? Bytes{} : ((rows - 1) * row_stride + shape.width()) * size_of(dtype);
  }
};

/// A tensor of the layer that is being run (`shift` 0) or of a neighbour.
struct Operand {
  TensorId tensor = kNone;
  std::int32_t shift = 0;

  explicit operator bool() const { return tensor != kNone; }
  friend bool operator==(Operand, Operand) = default;
};

/// A short list in place; absent optional operands are held as `Operand{}`.
template <class T, int kCapacity>
class ShortList {
 public:
  ShortList() = default;
  ShortList(std::initializer_list<T> items) {
    for (const T& item : items) push_back(item);
  }
  void push_back(T item) {
    FTPLAN_CHECK(size_ < kCapacity);
    items_[static_cast<std::size_t>(size_++)] = item;
  }
  void clear() { size_ = 0; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  T& operator[](int i) { return check(i), items_[static_cast<std::size_t>(i)]; }
  const T& operator[](int i) const { return check(i), items_[static_cast<std::size_t>(i)]; }
  T* begin() { return items_.data(); }
  T* end() { return items_.data() + size_; }
  const T* begin() const { return items_.data(); }
  const T* end() const { return items_.data() + size_; }

 private:
  void check(int i) const { FTPLAN_CHECK(i >= 0 && i < size_); }
  std::array<T, kCapacity> items_{};
  int size_ = 0;
};

using Operands = ShortList<Operand, 8>;

/// The layer's own event, or a neighbour's, or that of what stands outside all layers.
struct EventUse {
  EventId event = kNone;
  std::int32_t shift = 0;
  bool outside = false;

  /// The layer, or -1, whose signal a step of `layer` means.
  [[nodiscard]] std::int32_t layer(std::int32_t layer) const {
    return outside ? -1 : layer + shift;
  }
  friend bool operator==(EventUse, EventUse) = default;
};

/// Gathers of weights run ahead of what uses them, on a stream of their own.
enum class Stream : std::uint8_t { kCompute, kCommunication, kGather };
inline constexpr int kStreams = 3;

/// Part of a step, for reports and progress.
enum class Phase : std::uint8_t {
  kLoad,
  kForward,
  kLoss,
  kRecompute,
  kBackward,
  kReduce,
  kOptimizer,
  kSave,
};
const char* phase_name(Phase phase);

/// Values that change from step to step. The executor writes them before a step, or an instruction
/// does.
enum class Scalar : std::uint8_t {
  kLearningRate,
  kBiasCorrection1,
  kBiasCorrection2,
  kTargetTokens,     ///< of the whole global batch
  kGradientsFinite,  ///< written by kClip; updates are predicated on it
  kStep,             ///< 0-based, for dropout
  kSeed,
  kCacheLength,  ///< tokens in the key and value cache before this pass
  kTemperature,  ///< of sampling; 0: the likeliest token
  kTopK,         ///< tokens that sampling chooses from; 0: all
  kTopP,         ///< share of probability that it chooses from
  kLossScale,    ///< by which gradients are larger than those of the loss, see core/loss_scale.h
};
inline constexpr int kScalars = 12;
inline constexpr std::uint8_t kAlways = 255;

struct Instruction {
  Op op = Op::kCopy;
  Stream stream = Stream::kCompute;
  Phase phase = Phase::kForward;
  std::uint8_t predicate = kAlways;  ///< a `Scalar` that must be non-zero, or kAlways
  AttributesId attributes = kNone;
  Operands in;                  ///< read
  Operands out;                 ///< defined, or added to where `accumulate` says so
  Operands update;              ///< read and written in place
  std::uint8_t accumulate = 0;  ///< bit i: out[i] is added to
  std::uint8_t saved =
      0;  ///< bit i: in[i] is a forward value that the backward must find unchanged
  EventId signals = kNone;
  ShortList<EventUse, 4> waits;
};

/// What a segment's repetitions count.
enum class Axis : std::uint8_t { kOnce, kLayer, kMicroStep };

/// An instruction or a nested segment.
struct Node {
  std::int32_t id = kNone;
  bool is_segment = false;
  friend bool operator==(Node, Node) = default;
};

/// What lowering knows of a segment and later passes need.
enum class Role : std::uint8_t {
  kOther,
  kEmbed,
  kLayers,
  kHead,
  kBackwardLayers,
  kEntry,  ///< receives what the stage before has made
  kExit,   ///< sends what the next stage goes on with
};

/// `repeat` runs of `body`. Run i adds `first + i * stride` to the layer or micro-step; descending
/// runs count down.
struct Segment {
  std::vector<Node> body;
  std::int32_t first = 0;
  std::int32_t repeat = 1;
  std::int32_t stride = 1;
  Axis axis = Axis::kOnce;
  bool descending = false;
  Role role = Role::kOther;
};

/// The scales of a weight whose values are packed: as NF4 (u8, see `models/nf4.h`) or as in
/// LLM.int8 (i8, see `models/int8.h`).
struct PackedScales {
  TensorId absmax = kNone;  ///< of each block or row: u8 codes where there is `nested`, else f32
  TensorId nested = kNone;  ///< f32, of each block of codes
  TensorId offset = kNone;  ///< f32 [1]

  explicit operator bool() const { return absmax != kNone; }
};

/// A tensor of the checkpoint and where it is in the arena.
struct WeightBinding {
  TensorId tensor = kNone;
  std::int32_t table_index = kNone;  ///< in `Blueprint::layer`, or kNone with `name` set
  std::string name;                  ///< full name, or the name inside the layer
  bool per_layer = false;
  PackedScales scales{};  ///< set: `tensor` holds packed values
};

/// A trained LoRA pair's half and where it is.
struct AdapterBinding {
  TensorId tensor = kNone;
  int linear = 0;           ///< in `adapted_names`
  bool b = false;           ///< lora_B, else lora_A
  bool per_layer = true;    ///< else of the embedding or the head
  bool transposed = false;  ///< [vocabulary, rank]: the embedding's A
};

/// Elements [begin, end) of a flat run.
struct Gap {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// One flat run of weights, trained or frozen, of which each rank keeps a part: it is gathered
/// before it is used.
struct GatheredUnit {
  const char* name = "";
  bool per_layer = false;
  std::int32_t layers = 1;  ///< copies of the part
  TensorId shard = kNone;   ///< flat, the rank's part; packed values as bytes
  TensorId whole = kNone;   ///< flat, padded; copies for as many layers as are held at a time
  std::vector<Gap> gaps;    ///< padding: no tensor's
};

/// One flat run of trained values that is updated, reduced and sharded as a whole.
struct TrainedUnit {
  const char* name = "";
  bool per_layer = false;
  std::int32_t layers = 1;     ///< copies
  TensorId weights = kNone;    ///< flat, padded; the rank's part where the unit is gathered
  TensorId whole = kNone;      ///< flat, padded: what is gathered, else `weights`
  TensorId gradients = kNone;  ///< flat, padded
  TensorId master = kNone;     ///< flat f32, the rank's shard; kNone when the weights are f32
  /// Flat f32, the rank's shard: AdamW's moments, or sgd's momentum and kNone.
  TensorId moment1 = kNone, moment2 = kNone;
  /// Set where the moments are 8-bit codes (u8): f32, the largest magnitude of each block of them,
  /// see `models/dynamic_map.h`.
  TensorId scale1 = kNone, scale2 = kNone;
  TensorId update_gradients =
      kNone;                  ///< what the update reads: `gradients`, or the rank's shard of it
  std::int64_t decayed = 0;   ///< leading elements that decay
  std::int64_t elements = 0;  ///< padded
  std::vector<Gap> gaps;      ///< padding: no tensor's, kept zero
};

/// Tensors by which the executor talks to a program. kNone where a program has none.
struct Interface {
  TensorId ids = kNone, targets = kNone, positions = kNone, document_start = kNone, row_ids = kNone,
           token_order = kNone;
  TensorId loss = kNone;           ///< f64 [1], sum over target tokens
  TensorId gradient_norm = kNone;  ///< f64 [1], square of the norm
  TensorId rope_table = kNone;     ///< f32 [positions, rotated size]: cos then sin
  TensorId next_ids = kNone;       ///< i32 [rows], greedy choice
};

/// One bit for each storage and position.
struct LiveSets {
  std::int32_t words = 0;  ///< of 64 positions, for one storage
  std::vector<std::uint64_t> bits;

  [[nodiscard]] bool overlap(StorageId a, StorageId b) const {
    const auto* left = bits.data() + static_cast<std::ptrdiff_t>(a) * words;
    const auto* right = bits.data() + static_cast<std::ptrdiff_t>(b) * words;
    for (std::int32_t w = 0; w < words; ++w) {
      if ((left[w] & right[w]) != 0) return true;
    }
    return false;
  }
};

struct StepProgram {
  std::vector<Storage> storages;
  std::vector<Tensor> tensors;
  std::vector<Instruction> instructions;
  std::vector<Attributes> attributes;
  std::vector<Segment> segments;
  SegmentId root = kNone;
  std::int32_t events = 0;

  [[nodiscard]] const Instruction& instruction(std::int32_t id) const {
    return instructions[static_cast<std::size_t>(id)];
  }
  [[nodiscard]] const Segment& segment(SegmentId id) const {
    return segments[static_cast<std::size_t>(id)];
  }

  /// Filled by free_dead: per storage the positions in program order at which any copy of it lives.
  LiveSets live;

  std::vector<WeightBinding> weights;
  std::vector<AdapterBinding> adapters;
  std::vector<TrainedUnit> units;
  std::vector<GatheredUnit> gathered;
  Interface interface;
  std::int32_t layers = 0;       ///< of the model, or of the rank's stage
  std::int32_t first_layer = 0;  ///< in the model: what layer 0 of the program is
  std::int64_t ranks = 1;        ///< that train on rows of their own
  std::int32_t ring = 2;  ///< layers after which all rings of copies are at one turn again; even

  /// The number in the model of a layer of the program; -1 stays what it is.
  [[nodiscard]] std::int32_t model_layer(std::int32_t layer) const {
    return layer < 0 ? layer : layer + first_layer;
  }

  /// What the forward of a micro-step keeps on the device for its backward when nothing is
  /// recomputed; weights are left out.
  Bytes saved_bytes;

  /// Of another runtime, which asks an allocator for each tensor: what it holds at a time counts,
  /// and not where lay_out would place it.
  bool allocates = false;

  // Decided by lay_out, per place.
  std::array<Bytes, kPlaces> arena{};
  std::array<Bytes, kPlaces> persistent{};
  std::array<Bytes, kStreams> scratch{};  ///< size of each stream's scratch region on the device
  std::array<Bytes, kStreams> scratch_offset{};

  [[nodiscard]] const Tensor& tensor(Operand operand) const {
    return tensors[static_cast<std::size_t>(operand.tensor)];
  }
  [[nodiscard]] const Tensor& tensor(TensorId id) const {
    return tensors[static_cast<std::size_t>(id)];
  }
  [[nodiscard]] const Storage& storage_of(TensorId id) const {
    return storages[static_cast<std::size_t>(tensor(id).storage)];
  }
  template <class A>
  [[nodiscard]] const A& attributes_of(const Instruction& instruction) const {
    FTPLAN_CHECK(instruction.attributes != kNone);
    return std::get<A>(attributes[static_cast<std::size_t>(instruction.attributes)]);
  }
};

/// Bytes one copy of `storage` is accounted with.
inline Bytes accounted(const Storage& storage) { return round_up(storage.size, kAlignment); }

}  // namespace ftplan::program
