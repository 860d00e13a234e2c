#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/enums.h"
#include "core/machine.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/strategy.h"
#include "program/attributes.h"
#include "program/clone.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/passes/passes.h"
#include "program/runtime.h"
#include "program/step_program.h"

// Note [Eager]
// Every op of the forward becomes what `modeling_llama.py` of transformers 5.23 and
// `tuners/lora/layer.py` of PEFT 0.21.2 call in its place, each with new tensors. What autograd
// keeps of them follows from `derivatives.yaml` of torch 2.11: a product by element keeps a factor
// when the other learns, a linear keeps its input when the weight learns and the weight (also its
// bf16 copy under autocast) when the input does, softmax its result, silu its input, dropout its
// mask. An RMSNorm computes in f32 and so keeps an f32 copy of a 16-bit input, and its normalized
// value in the input's type. Values in place (sums on the residual stream) become new ones; only
// the sum that ends a layer stands where the next layer's input belongs.

namespace ftplan::program {
namespace {

using Saves = std::array<std::uint8_t, 3>;

class Expander {
 public:
  explicit Expander(Lowering& lowering)
      : low_(lowering),
        program_(lowering.program),
        emit_(lowering.program),
        tokens_(lowering.tokens()) {}

  void run() {
    const SegmentId micro = program_.segment(program_.root).body.back().id;
    for (const Node& node : std::vector<Node>(program_.segment(micro).body)) {
      if (node.is_segment) expand_segment(node.id);
    }
  }

 private:
  void expand_segment(SegmentId id) {
    const std::vector<InstructionId> old = instructions_below(program_, program_.segment(id).body);
    in_layers_ = program_.segment(id).role == Role::kLayers;
    program_.segments[static_cast<std::size_t>(id)].body.clear();
    now_.assign(program_.tensors.size() * 2, {});
    next_made_ = 0;
    emit_.reopen(id);
    for (const InstructionId instruction : old)
      expand(Instruction(program_.instruction(instruction)));
    emit_.close();
  }

  void expand(const Instruction& op) {
    emit_.set_phase(op.phase);
    switch (op.op) {
      case Op::kEmbed:
        return embed(op);
      case Op::kRmsNorm:
        return norm(op);
      case Op::kLinear:
        return set(op.out[0], linear(op.in[0], op.in[1], op.in[2]));
      case Op::kLinearAccumulate:
        return add_adapter(op);
      case Op::kCast:
        return set(op.out[0], now(op.in[0]));  // adapters are used as they are
      case Op::kDropout:
        return dropout(op);
      case Op::kRotate:
        return rotate(op);
      case Op::kAttention:
        return attention(op);
      case Op::kGatedSilu:
        return gated_silu(op);
      case Op::kAdd:
        return add_residual(op);
      case Op::kLinearCrossEntropy:
        return loss(op);
      default:
        FTPLAN_CHECK(false);
    }
  }

  // The value that stands for an operand of the program before.
  [[nodiscard]] Operand now(Operand old) const {
    const Operand found = old ? now_[key(old)] : old;
    return found ? found : old;
  }
  void set(Operand old, Operand value) { now_[key(old)] = value; }
  static std::size_t key(Operand value) {
    return static_cast<std::size_t>(value.tensor) * 2 + static_cast<std::size_t>(value.shift & 1);
  }

  // All segments of layers use the same storages, as in build_forward.
  Operand make(const char* name, Shape shape, DType dtype,
               Category category = Category::kActivations) {
    if (!in_layers_) return {emit_.transient(name, shape, dtype, category)};
    if (next_made_ == made_.size()) made_.push_back(emit_.transient(name, shape, dtype, category));
    return {made_[next_made_++]};
  }

  void eager(EagerKind kind, Operands in, Operands out, Saves saves, std::int64_t inner = 0) {
    emit_.emit({.op = Op::kEager,
                .attributes = emit_.attributes(EagerAttributes{kind, saves, inner}),
                .in = in,
                .out = out});
  }

  [[nodiscard]] Shape shape(Operand value) const { return program_.tensor(value).shape; }
  [[nodiscard]] DType dtype(Operand value) const { return program_.tensor(value).dtype; }
  // The type of a result of both, as torch promotes.
  [[nodiscard]] DType wider(Operand a, Operand b) const {
    return dtype(a) == DType::kF32 ? DType::kF32 : dtype(b);
  }
  // The value itself when it has the type already.
  Operand to(Operand x, DType type) {
    if (dtype(x) == type) return x;
    const Category category = program_.storage_of(x.tensor).category;
    const Operand y = make("converted", shape(x), type, category);
    eager(EagerKind::kTo, {x}, {y}, {});
    return y;
  }

  Operand unary(EagerKind kind, const char* name, Operand x, Saves saves) {
    const Operand y = make(name, shape(x), dtype(x));
    eager(kind, {x}, {y}, saves);
    return y;
  }

  Operand multiply(const char* name, Operand x, Operand factor) {
    const Operand y = make(name, shape(x), wider(x, factor));
    eager(EagerKind::kMul, {x, factor}, {y}, {saved_in(1), saved_in(0)});
    return y;
  }

  Operand add(const char* name, Operand a, Operand b) {
    const Operand y = make(name, shape(a), wider(a, b));
    eager(EagerKind::kAdd, {a, b}, {y}, {});
    return y;
  }

  // Ids and targets are int64 on the device. Embedding keeps ids for the gradient of the table.
  Operand to_device(Operand ids) {
    const StorageId storage = emit_.storage({.size = tokens_ * size_of(DType::kI64),
                                             .category = Category::kInputs,
                                             .name = "ids on device"});
    const Operand out{emit_.tensor(storage, {tokens_}, DType::kI64)};
    eager(EagerKind::kTo, {ids}, {out}, {});
    return out;
  }

  // LlamaModel.forward: embed_tokens, rotary_emb. cos and sin have the type of the residual stream.
  void embed(const Instruction& op) {
    const Operand ids = to_device(op.in[0]);
    eager(EagerKind::kEmbedding, {ids, op.in[1]}, {op.out[0]}, {0, saved_in(0)});
    const Shape table{low_.sequence, low_.job.model.head_size};
    for (Operand* half : {&cos_, &sin_}) {
      const StorageId storage = emit_.storage({.size = table.elements() * size_of(low_.compute),
                                               .category = Category::kInputs,
                                               .name = half == &cos_ ? "cos" : "sin"});
      *half = {emit_.tensor(storage, table, low_.compute)};
    }
    const Operand positions = to_device(low_.program.interface.positions == kNone
                                            ? op.in[0]
                                            : Operand{low_.program.interface.positions});
    eager(EagerKind::kRotaryTables, {positions}, {cos_, sin_}, {});
  }

  // LlamaRMSNorm.forward
  void norm(const Instruction& op) {
    const Operand x = now(op.in[0]);
    const Operand wide = to(x, DType::kF32);
    const Operand scale = make("inv rms", shape(op.out[1]), DType::kF32);
    eager(EagerKind::kRowScale, {wide}, {scale},
          {static_cast<std::uint8_t>(saved_in(0) | saved_out(0))});
    const Operand normalized = to(multiply("normalized", wide, scale), dtype(x));
    set(op.out[0], multiply("normed", normalized, op.in[1]));
  }

  // nn.Linear under autocast: the input is cast at each use, a weight once.
  Operand linear(Operand old_x, Operand old_weight, Operand bias) {
    Operand x = now(old_x);
    Operand weight = now(old_weight);
    const bool adapter = program_.storage_of(weight.tensor).category == Category::kAdapters;
    DType type = dtype(weight);
    if (low_.autocasts()) type = low_.product_type();
    if (adapter && !low_.runtime.casts_adapter_input) type = dtype(x);
    if (dtype(weight) != type) {
      const Operand cast = make("weight cast", shape(weight), type, Category::kWeights);
      emit_.emit({.op = Op::kCast, .in = {weight}, .out = {cast}});
      weight = cast;
    }
    x = to(x, type);
    const std::int64_t outputs = shape(weight)[0];
    const bool logits = outputs == low_.job.model.vocabulary && !in_layers_;
    const Operand y = make(logits ? "logits" : "product", {shape(x).rows(), outputs}, type,
                           logits ? Category::kLogits : Category::kActivations);
    eager(EagerKind::kLinear, {x, weight, bias}, {y}, {saved_in(1), saved_in(0), 0},
          shape(weight)[1]);
    return y;
  }

  // lora.Linear.forward: result + lora_B(lora_A(dropout(x))) * scaling, in the result's type
  void add_adapter(const Instruction& op) {
    const Operand result = now(op.update[0]);
    const Operand branch = linear(op.in[0], op.in[1], {});
    const Operand scaled = unary(EagerKind::kScale, "scaled", branch, {});
    set(op.update[0], to(add("adapted", result, scaled), dtype(result)));
  }

  // Native dropout keeps a mask of bytes on CUDA; on CPU the mask has the input's type.
  void dropout(const Instruction& op) {
    Operand x = now(op.in[0]);
    if (low_.runtime.casts_adapter_input) x = to(x, DType::kF32);
    const bool on_cpu = low_.machine.backend == Backend::kCpu;
    const Operand y = make("dropped", shape(x), dtype(x));
    const Operand mask = make("mask", shape(x), on_cpu ? dtype(x) : DType::kBool);
    eager(EagerKind::kDropout, {x}, {y, mask}, {saved_out(1)});
    set(op.out[0], y);
  }

  // apply_rotary_pos_emb: q * cos + rotate_half(q) * sin
  void rotate(const Instruction& op) {
    const Operand x = now(op.update[0]);
    const Operand straight = multiply("by cos", x, cos_);
    const Operand turned =
        multiply("by sin", unary(EagerKind::kRotateHalf, "half rotated", x, {}), sin_);
    set(op.update[0], add("rotated", straight, turned));
  }

  Operand repeat_heads(Operand x) {
    const ModelConfig& model = low_.job.model;
    const Operand y = make("repeated", {tokens_, model.heads * model.head_size}, dtype(x));
    eager(EagerKind::kRepeatHeads, {x}, {y}, {});
    return y;
  }

  void attention(const Instruction& op) {
    Operand q = now(op.in[0]);
    Operand k = now(op.in[1]);
    Operand v = now(op.in[2]);
    const bool eager_attention = low_.runtime.attention == HfAttention::kEager;
    const bool grouped = low_.job.model.heads != low_.job.model.kv_heads;
    if (grouped && (eager_attention || low_.runtime.sdpa_repeats_keys)) {
      k = repeat_heads(k);
      v = repeat_heads(v);
    }
    const DType stream = dtype(q);
    q = to(q, low_.product_type());
    k = to(k, low_.product_type());
    v = to(v, low_.product_type());
    set(op.out[0], eager_attention ? score_by_score(q, k, v, stream) : sdpa(q, k, v));
  }

  // integrations/sdpa_attention.py
  Operand sdpa(Operand q, Operand k, Operand v) {
    const Operand o = make("attended", shape(q), dtype(q));
    const Operand log_sum = make("log sum", {tokens_ * low_.job.model.heads}, DType::kF32);
    const auto all = static_cast<std::uint8_t>(saved_in(0) | saved_in(1) | saved_in(2) |
                                               saved_out(0) | saved_out(1));
    eager(EagerKind::kSdpa, {q, k, v}, {o, log_sum}, {all, all, all}, low_.sequence);
    return o;
  }

  // eager_attention_forward: scores, scale, mask, softmax in f32 and back to the query's type,
  // values
  Operand score_by_score(Operand q, Operand k, Operand v, DType stream) {
    const ModelConfig& model = low_.job.model;
    const Saves factors{saved_in(1), saved_in(0)};
    const Operand scores = make("scores", {tokens_ * model.heads, low_.sequence}, dtype(q));
    eager(EagerKind::kMatmul, {q, k}, {scores}, factors, model.head_size);
    const Operand scaled = unary(EagerKind::kScale, "scaled scores", scores, {});
    const Operand masked = unary(EagerKind::kScale, "masked scores", scaled, {});
    const Operand share =
        unary(EagerKind::kSoftmax, "probabilities", to(masked, DType::kF32), {saved_out(0)});
    const Operand weights = to(to(share, stream), dtype(v));
    const Operand o = make("attended", shape(q), dtype(q));
    eager(EagerKind::kMatmul, {weights, v}, {o}, factors, low_.sequence);
    return unary(EagerKind::kContiguous, "attended in rows", o, {});
  }

  // LlamaMLP.forward: act_fn(gate) * up
  void gated_silu(const Instruction& op) {
    const Operand activated = unary(EagerKind::kSilu, "silu", now(op.in[0]), {saved_in(0)});
    set(op.out[0], multiply("gated", activated, now(op.in[1])));
  }

  void add_residual(const Instruction& op) {
    const Operand residual = now(op.in[0]);
    const Operand branch = now(op.update[0]);
    const Operand leaving{low_.tensors.residual, 1};
    if (op.update[0] == leaving) {
      eager(EagerKind::kAdd, {residual, branch}, {leaving}, {});
    } else {
      set(op.update[0], add("residual", residual, branch));
    }
  }

  // LlamaForCausalLM.forward and ForCausalLMLoss
  void loss(const Instruction& op) {
    const Operand logits = linear(op.update[0], op.in[0], {});
    const Operand wide = low_.runtime.logits_in_f32 ? to(logits, DType::kF32) : logits;
    const Operand log_share =
        make("log probabilities", shape(wide), dtype(wide), Category::kLogits);
    eager(EagerKind::kLogSoftmax, {wide}, {log_share}, {saved_out(0)});
    const Operand total = make("total weight", {1}, DType::kF32);
    const auto kept = static_cast<std::uint8_t>(saved_in(0) | saved_in(1) | saved_out(0));
    Instruction nll{.op = Op::kEager,
                    .attributes = emit_.attributes(EagerAttributes{EagerKind::kNllLoss, {kept}}),
                    .in = {log_share, to_device(op.in[1])},
                    .out = {total},
                    .update = {op.update[1]}};
    emit_.emit(nll);
    if (low_.runtime.holds_logits) low_.tensors.held = logits.tensor;
  }

  Lowering& low_;
  StepProgram& program_;
  Emitter emit_;
  std::int64_t tokens_;
  bool in_layers_ = false;
  std::vector<Operand> now_;
  std::vector<TensorId> made_;  // of a layer, in the order of their making
  std::size_t next_made_ = 0;
  Operand cos_, sin_;
};

}  // namespace

Result<void> expand(Lowering& lowering) {
  if (!lowering.runtime.expands || !lowering.trains()) return {};
  if (lowering.strategy.checkpointing.every > 1) {
    return bad_input("--checkpointing", "got " + to_text(lowering.strategy.checkpointing) +
                                            ", but " + lowering.runtime.name +
                                            " recomputes each layer alone: use none or full");
  }
  const Family family = lowering.job.model.family;
  if (family == Family::kPhi3 || family == Family::kGemma2 || family == Family::kFalcon ||
      family == Family::kMixtral) {
    return bad_input("--runtime", lowering.runtime.name + " is not built yet for " +
                                      to_text(family) + " models: use ftplan");
  }
  // From there on transformers hands scaled-dot-product attention a mask, and autograd keeps it.
  const std::int64_t window = lowering.job.model.window;
  if (window > 0 && lowering.sequence >= window &&
      lowering.runtime.attention == HfAttention::kSdpa) {
    return bad_input("--seq", "rows of " + std::to_string(lowering.sequence) +
                                  " tokens with a sliding window of " + std::to_string(window) +
                                  " are not built yet for --runtime " + lowering.runtime.name +
                                  ": use rows shorter than the window");
  }
  Expander(lowering).run();
  lowering.program.allocates = true;
  return {};
}

}  // namespace ftplan::program
