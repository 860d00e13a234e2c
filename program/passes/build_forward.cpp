#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/category.h"
#include "core/check.h"
#include "core/dtype.h"
#include "core/job.h"
#include "core/model_config.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/units.h"
#include "models/family.h"
#include "models/int8.h"
#include "program/attributes.h"
#include "program/emitter.h"
#include "program/lowering.h"
#include "program/op.h"
#include "program/ops/rotate.h"
#include "program/passes/passes.h"
#include "program/step_program.h"

namespace ftplan::program {
namespace {

using models::LayerOp;
using models::LayerOpKind;
using models::Value;

class ForwardBuilder {
 public:
  explicit ForwardBuilder(Lowering& lowering)
      : low_(lowering), emit_(lowering.program), tokens_(lowering.tokens()) {}

  void build() {
    emit_.open({});
    if (!low_.generates()) {
      emit_.emit({.op = Op::kZero, .out = {{low_.program.interface.loss}}});
    }
    emit_.open({.axis = Axis::kMicroStep});
    add_batch();
    low_.tensors.residual =
        emit_.transient("residual", {tokens_, low_.job.model.hidden}, low_.compute);
    if (low_.stage.first()) {
      add_embedding();
    } else {
      add_transfer(Op::kReceive, Role::kEntry, 0);
    }
    add_caches();
    add_layers();
    if (low_.stage.last()) {
      add_head();
    } else {
      add_transfer(Op::kSend, Role::kExit, static_cast<std::int32_t>(low_.layers()));
    }
    emit_.close();
    emit_.close();
  }

 private:
  static std::size_t at(Value value) { return static_cast<std::size_t>(value); }

  TensorId host(const char* name, std::int64_t elements) {
    const Bytes size = elements * size_of(DType::kI32);
    const StorageId storage = emit_.storage(
        {.size = size, .category = Category::kInputs, .place = Place::kHost, .name = name});
    return emit_.tensor(storage, {elements}, DType::kI32);
  }

  void add_batch() {
    Interface& io = low_.program.interface;
    io.ids = low_.stage.first() ? host("ids", tokens_) : kNone;
    io.targets = low_.stage.last() && !low_.generates() ? host("targets", tokens_) : kNone;
    io.positions = host("positions", tokens_);
    io.document_start = host("document start", tokens_);
    io.row_ids = host("row ids", low_.rows);
    const bool ordered = low_.trains() && low_.embedding_learns();
    io.token_order = ordered ? host("token order", tokens_) : kNone;
    Instruction batch{.op = Op::kBatch};
    for (const TensorId id :
         {io.ids, io.targets, io.positions, io.document_start, io.row_ids, io.token_order}) {
      batch.out.push_back({id});
    }
    emit_.emit(batch);
    add_rope_table();
  }

  // The table of the load serves documents within the original positions.
  void add_rope_table() {
    const Interface& io = low_.program.interface;
    if (io.rope_table == kNone) return;
    const ModelConfig& model = low_.job.model;
    if (!model.rope_follows_length(low_.program.tensor(io.rope_table).shape.rows())) return;
    emit_.emit({.op = Op::kRopeTable,
                .attributes = emit_.attributes(rope_attributes(model)),
                .in = {{io.positions}},
                .out = {{io.rope_table}}});
  }

  void add_embedding() {
    emit_.open({.axis = Axis::kLayer, .role = Role::kEmbed});
    const Interface& io = low_.program.interface;
    const double scale = low_.blueprint.embedding_scale;
    emit_.emit({.op = Op::kEmbed,
                .attributes = scale == 1 ? kNone : emit_.attributes(EmbedAttributes{scale}),
                .in = {{io.ids}, {low_.tensors.embedding}, {io.token_order}},
                .out = {{low_.tensors.residual, 0}}});
    if (low_.job.embedding_adapter().rank > 0) add_embedding_adapter();
    emit_.close();
  }

  // Rows of A take the place of a product, and nothing is dropped, as in PEFT.
  void add_embedding_adapter() {
    const LoraShape& shape = low_.job.embedding_adapter();
    const LoraPair& pair = edge_pair(embedding_index(low_.job.model.family));
    const Operand inner{emit_.transient("adapter inner", {tokens_, shape.rank}, low_.compute)};
    const Interface& io = low_.program.interface;
    emit_.emit({.op = Op::kEmbed, .in = {{io.ids}, {pair.a}, {io.token_order}}, .out = {inner}});
    emit_.emit({.op = Op::kLinearAccumulate,
                .attributes = emit_.attributes(
                    LinearAttributes{shape.scale * low_.blueprint.embedding_scale}),
                .in = {inner, edge_cast(pair.b)},
                .update = {{low_.tensors.residual, 0}}});
  }

  const LoraPair& edge_pair(int index) const {
    return low_.tensors.adapters[static_cast<std::size_t>(index)];
  }

  // Adapters of the edges are cast once a micro-step.
  Operand edge_cast(TensorId adapter) {
    if (low_.compute == DType::kF32) return {adapter};
    const Operand cast{
        emit_.transient("adapter cast", low_.program.tensor(adapter).shape, low_.compute)};
    emit_.emit({.op = Op::kCast, .in = {{adapter}}, .out = {cast}});
    return cast;
  }

  // What the head's A makes of its input, and B.
  struct HeadAdapter {
    Operand inner, b;
  };

  HeadAdapter add_head_adapter(Operand h) {
    const LoraShape& shape = low_.job.head_adapter();
    if (shape.rank == 0) return {};
    const int index = head_index(low_.job.model.family);
    const LoraPair& pair = edge_pair(index);
    const Shape input = low_.program.tensor(h).shape;
    const double dropout = low_.job.request.method.dropout;
    Operand dropped = h;
    if (low_.trains() && dropout > 0) {
      dropped = {emit_.transient("dropped", input, low_.compute)};
      emit_.emit({.op = Op::kDropout,
                  .attributes = emit_.attributes(DropoutAttributes{dropout, index}),
                  .in = {h, {low_.program.interface.row_ids}},
                  .out = {dropped}});
    }
    const Operand inner{emit_.transient("adapter inner", {input.rows(), shape.rank}, low_.compute)};
    emit_.emit({.op = Op::kLinear, .in = {dropped, edge_cast(pair.a), {}}, .out = {inner}});
    return {inner, edge_cast(pair.b)};
  }

  // The residual stream where a stage begins or ends.
  void add_transfer(Op op, Role role, std::int32_t layer) {
    const std::int64_t peer = low_.request.rank + (op == Op::kSend ? 1 : -1);
    emit_.open({.first = layer, .axis = Axis::kLayer, .role = role});
    Instruction transfer{.op = op, .attributes = emit_.attributes(PeerAttributes{peer})};
    (op == Op::kSend ? transfer.in : transfer.out).push_back({low_.tensors.residual, 0});
    emit_.emit(transfer);
    emit_.close();
  }

  void add_caches() {
    if (!low_.generates()) return;
    const ModelConfig& model = low_.job.model;
    const Shape shape{low_.rows * low_.request.cache, model.kv_heads * model.head_size};
    for (TensorId* cache : {&key_cache_, &value_cache_}) {
      const StorageId storage =
          emit_.storage({.size = shape.elements() * size_of(low_.compute),
                         .region = Region::kPersistent,
                         .copies = {.count = static_cast<std::int32_t>(low_.layers())},
                         .name = cache == &key_cache_ ? "key cache" : "value cache"});
      *cache = emit_.tensor(storage, shape, low_.compute);
    }
  }

  // Where nothing before it learns the first layer stands alone: its backward stops early.
  void add_layers() {
    const auto layers = static_cast<std::int32_t>(low_.layers());
    const bool alone = low_.trains() && !low_.input_learns() && layers > 1;
    if (alone) add_layer_segment(0, 1);
    add_layer_segment(alone ? 1 : 0, alone ? layers - 1 : layers);
  }

  void add_layer_segment(std::int32_t first, std::int32_t count) {
    emit_.open({.first = first, .repeat = count, .axis = Axis::kLayer, .role = Role::kLayers});
    next_made_ = 0;
    values_.fill({});
    values_[at(Value::kResidual)] = {low_.tensors.residual, 0};
    const auto& ops = low_.blueprint.layer_ops;
    // The branch that ends the layer is written where the next layer's input belongs.
    FTPLAN_CHECK(ops.size() > 1 && ops.back().kind == LayerOpKind::kAddResidual);
    for (const LayerOp& op : ops) {
      leaves_ = &op == &ops[ops.size() - 2];
      switch (op.kind) {
        case LayerOpKind::kNorm:
        case LayerOpKind::kLayerNorm:
          add_norm(op);
          break;
        case LayerOpKind::kLinear:
          add_linear(op);
          break;
        case LayerOpKind::kSplit:
          add_split(op);
          break;
        case LayerOpKind::kSplitGroups:
          add_split_groups(op);
          break;
        case LayerOpKind::kRotate:
          add_rotation(op);
          break;
        case LayerOpKind::kAttention:
          add_attention();
          break;
        case LayerOpKind::kGatedSilu:
          add_gated(Op::kGatedSilu);
          break;
        case LayerOpKind::kGatedGelu:
          add_gated(Op::kGatedGelu);
          break;
        case LayerOpKind::kGelu:
          add_gelu(op);
          break;
        case LayerOpKind::kExperts:
          add_experts(op);
          break;
        case LayerOpKind::kAddResidual:
          add_residual(op);
          break;
      }
    }
    emit_.close();
  }

  // All segments of layers use the same storages: what one layer keeps has the place that another's
  // has.
  TensorId in_layer(const char* name, Shape shape, DType dtype) {
    if (next_made_ == made_.size()) made_.push_back(emit_.transient(name, shape, dtype));
    return made_[next_made_++];
  }

  TensorId value_tensor(Value value, const char* name) {
    return in_layer(name, {tokens_, low_.blueprint.width(value, low_.job.model)}, low_.compute);
  }

  TensorId weight(int index) const {
    return index < 0 ? kNone : low_.tensors.layer[static_cast<std::size_t>(index)];
  }

  void add_norm(const LayerOp& op) {
    const Operand out =
        leaves_ ? Operand{low_.tensors.residual, 1} : Operand{value_tensor(op.out, "normed")};
    const std::int64_t normed = low_.blueprint.width(op.out, low_.job.model);
    const std::int64_t at_once =
        low_.blueprint.layer[static_cast<std::size_t>(op.weight)].shape.elements();
    const TensorId bias = weight(op.bias);
    const Operand kept{
        in_layer(kept_name(bias), kept_shape(bias, tokens_ * normed / at_once), DType::kF32)};
    add_norm_of(values_[at(op.in)], weight(op.weight), bias, out, kept);
    values_[at(op.out)] = out;
  }

  // What a norm keeps of each row: a LayerNorm, which has a bias, mean and 1/std.
  static const char* kept_name(TensorId bias) { return bias == kNone ? "inv rms" : "moments"; }
  static Shape kept_shape(TensorId bias, std::int64_t rows) {
    return bias == kNone ? Shape{rows} : Shape{rows, 2};
  }

  void add_norm_of(Operand x, TensorId w, TensorId bias, Operand y, Operand kept) {
    Instruction norm{.op = bias == kNone ? Op::kRmsNorm : Op::kLayerNorm,
                     .attributes = emit_.attributes(
                         NormAttributes{low_.job.model.norm_epsilon, low_.blueprint.norm_offset}),
                     .in = {x, {w}},
                     .out = {y, kept}};
    if (bias != kNone) norm.in.push_back({bias});
    emit_.emit(norm);
  }

  void add_final_norm(Operand x, Operand y, std::int64_t rows) {
    const TensorId bias = low_.tensors.final_norm_bias;
    const Operand kept{emit_.transient(kept_name(bias), kept_shape(bias, rows), DType::kF32)};
    add_norm_of(x, low_.tensors.final_norm, bias, y, kept);
  }

  static const char* value_name(Value value) {
    switch (value) {
      case Value::kQuery:
        return "query";
      case Value::kKey:
        return "key";
      case Value::kValue:
        return "value";
      case Value::kGate:
        return "gate";
      case Value::kUp:
        return "up";
      case Value::kQueryKeyValue:
        return "query, key, value";
      case Value::kGateUp:
        return "gate, up";
      default:
        return "branch";
    }
  }

  void add_linear(const LayerOp& op) {
    const Operand y = leaves_ ? Operand{low_.tensors.residual, 1}
                              : Operand{value_tensor(op.out, value_name(op.out))};
    const Operand x = values_[at(op.in)];
    if (const PackedScales& scales = low_.tensors.scales[static_cast<std::size_t>(op.weight)]) {
      add_packed_linear(op, scales, x, y);
    } else {
      emit_.emit(
          {.op = Op::kLinear, .in = {x, {weight(op.weight)}, {weight(op.bias)}}, .out = {y}});
    }
    const int linear = low_.blueprint.layer[static_cast<std::size_t>(op.weight)].linear;
    if (low_.job.adapter(linear).rank > 0) add_adapter(linear, x, y);
    values_[at(op.out)] = y;
  }

  void add_packed_linear(const LayerOp& op, const PackedScales& scales, Operand x, Operand y) {
    const Operand codes{weight(op.weight)};
    const Operand bias{weight(op.bias)};
    if (low_.program.tensor(codes).dtype == DType::kI8) {
      emit_.emit({.op = Op::kLinearInt8,
                  .attributes = emit_.attributes(Int8Attributes{models::kInt8Threshold}),
                  .in = {x, codes, {scales.absmax}, bias},
                  .out = {y}});
    } else {
      emit_.emit({.op = Op::kLinearNf4,
                  .in = {x, codes, {scales.absmax}, {scales.nested}, {scales.offset}, bias},
                  .out = {y}});
    }
  }

  // Adapters are f32; products use them in the compute type.
  Operand in_compute_type(TensorId adapter) {
    if (low_.compute == DType::kF32) return {adapter};
    const Shape shape = low_.program.tensor(adapter).shape;
    const Operand cast{in_layer("adapter cast", shape, low_.compute)};
    emit_.emit({.op = Op::kCast, .in = {{adapter}}, .out = {cast}});
    return cast;
  }

  void add_adapter(int linear, Operand x, Operand y) {
    const LoraPair& pair = low_.tensors.adapters[static_cast<std::size_t>(linear)];
    Operand dropped = x;
    const double dropout = low_.job.request.method.dropout;
    if (low_.trains() && dropout > 0) {
      const Shape shape = low_.program.tensor(x).shape;
      dropped = {in_layer("dropped", shape, low_.compute)};
      emit_.emit({.op = Op::kDropout,
                  .attributes = emit_.attributes(DropoutAttributes{dropout, linear}),
                  .in = {x, {low_.program.interface.row_ids}},
                  .out = {dropped}});
    }
    const Operand a = in_compute_type(pair.a);
    const LoraShape& shape = low_.job.adapter(linear);
    const Operand inner{in_layer("adapter inner", {tokens_, shape.rank}, low_.compute)};
    emit_.emit({.op = Op::kLinear, .in = {dropped, a, {}}, .out = {inner}});
    const Operand b = in_compute_type(pair.b);
    emit_.emit({.op = Op::kLinearAccumulate,
                .attributes = emit_.attributes(LinearAttributes{shape.scale}),
                .in = {inner, b},
                .update = {y}});
  }

  void add_split(const LayerOp& op) {
    const Operand whole = values_[at(op.in)];
    Instruction split{.op = Op::kSplit, .in = {whole}};
    std::int64_t first = 0;
    for (const Value part : models::parts_of(op.in)) {
      const std::int64_t width = low_.blueprint.width(part, low_.job.model);
      if (next_made_ == made_.size()) made_.push_back(emit_.columns(whole.tensor, first, width));
      values_[at(part)] = {made_[next_made_++]};
      split.out.push_back(values_[at(part)]);
      first += width;
    }
    emit_.emit(split);
  }

  void add_split_groups(const LayerOp& op) {
    Instruction split{.op = Op::kSplitGroups,
                      .attributes = emit_.attributes(GroupAttributes{low_.job.model.kv_heads}),
                      .in = {values_[at(op.in)]}};
    for (const Value part : models::parts_of(op.in)) {
      values_[at(part)] = {value_tensor(part, value_name(part))};
      split.out.push_back(values_[at(part)]);
    }
    emit_.emit(split);
  }

  void add_rotation(const LayerOp& op) {
    const ModelConfig& model = low_.job.model;
    const std::int64_t heads = op.in == Value::kQuery ? model.heads : model.kv_heads;
    const Interface& io = low_.program.interface;
    emit_.emit({.op = Op::kRotate,
                .attributes = emit_.attributes(
                    RotateAttributes{heads, model.head_size, model.rotated_size()}),
                .in = {{io.rope_table}, {io.positions}},
                .update = {values_[at(op.in)]}});
  }

  AttentionAttributes attention_attributes() const {
    const ModelConfig& model = low_.job.model;
    std::int64_t windowed = 0;
    for (std::int64_t layer = 0; layer < model.layers; ++layer)
      windowed += model.has_window(layer) ? 1 : 0;
    const double scale = model.query_scale > 0 ? 1 / std::sqrt(model.query_scale) : 0;
    return {.rows = low_.rows,
            .sequence = low_.sequence,
            .heads = model.heads,
            .kv_heads = model.kv_heads,
            .head_size = model.head_size,
            .cache = low_.generates() ? low_.request.cache : 0,
            .window = model.window,
            .window_first = model.window_first,
            .window_every = model.window_every,
            .scale = scale,
            .cap = model.attention_cap,
            .alibi = model.alibi ? 1.0 : 0.0,
            .windowed = static_cast<double>(windowed) / static_cast<double>(model.layers)};
  }

  void add_attention() {
    const AttributesId attributes = emit_.attributes(attention_attributes());
    Operand key = values_[at(Value::kKey)];
    Operand value = values_[at(Value::kValue)];
    if (low_.generates()) {
      for (const auto& [from, cache] :
           {std::pair{key, key_cache_}, std::pair{value, value_cache_}}) {
        emit_.emit(
            {.op = Op::kAppendCache, .attributes = attributes, .in = {from}, .update = {{cache}}});
      }
      key = {key_cache_};
      value = {value_cache_};
    }
    const Operand out{value_tensor(Value::kAttended, "attended")};
    Operand log_sum;
    if (low_.trains()) {
      const std::int64_t sums = tokens_ * low_.job.model.heads;
      log_sum = {in_layer("log sum", {sums}, DType::kF32)};
    }
    emit_.emit(
        {.op = Op::kAttention,
         .attributes = attributes,
         .in = {values_[at(Value::kQuery)], key, value, {low_.program.interface.document_start}},
         .out = {out, log_sum}});
    values_[at(Value::kAttended)] = out;
  }

  void add_gated(Op op) {
    const Operand out{value_tensor(Value::kActivated, "activated")};
    emit_.emit(
        {.op = op, .in = {values_[at(Value::kGate)], values_[at(Value::kUp)]}, .out = {out}});
    values_[at(Value::kActivated)] = out;
  }

  void add_gelu(const LayerOp& op) {
    const Operand out{value_tensor(op.out, "activated")};
    emit_.emit({.op = Op::kGelu, .in = {values_[at(op.in)]}, .out = {out}});
    values_[at(op.out)] = out;
  }

  // What is sent to experts has a row for each expert of each token, whatever the routing.
  void add_experts(const LayerOp& op) {
    const ModelConfig& model = low_.job.model;
    const Operand x = values_[at(op.in)];
    const Shape chosen{tokens_, model.experts_per_token};
    const std::int64_t sent = chosen.elements();
    const Operand logits{in_layer("expert logits", {tokens_, model.experts}, low_.compute)};
    emit_.emit({.op = Op::kLinear, .in = {x, {weight(op.weight)}, {}}, .out = {logits}});
    const Operand scores{in_layer("expert scores", chosen, DType::kF32)};
    const Operand rows{in_layer("expert rows", chosen, DType::kI32)};
    const Operand ends{in_layer("expert ends", {model.experts}, DType::kI32)};
    emit_.emit({.op = Op::kRoute, .in = {logits}, .out = {scores, rows, ends}});
    const Operand input{in_layer("expert input", {sent, model.hidden}, low_.compute)};
    emit_.emit({.op = Op::kDispatch, .in = {x, rows}, .out = {input}});
    const auto product = [&](Operand from, int matrix, const char* name, std::int64_t width) {
      const Operand y{in_layer(name, {sent, width}, low_.compute)};
      const Operand w{low_.tensors.experts[static_cast<std::size_t>(matrix)]};
      emit_.emit({.op = Op::kExpertLinear, .in = {from, w, ends}, .out = {y}});
      return y;
    };
    const Operand gate = product(input, 0, "gate", model.intermediate);
    const Operand up = product(input, 1, "up", model.intermediate);
    const Operand activated{in_layer("activated", {sent, model.intermediate}, low_.compute)};
    emit_.emit({.op = Op::kGatedSilu, .in = {gate, up}, .out = {activated}});
    const Operand output = product(activated, 2, "expert output", model.hidden);
    const Operand y =
        leaves_ ? Operand{low_.tensors.residual, 1} : Operand{value_tensor(op.out, "branch")};
    emit_.emit({.op = Op::kCombine, .in = {output, scores, rows}, .out = {y}});
    values_[at(op.out)] = y;
  }

  void add_residual(const LayerOp& op) {
    emit_.emit(
        {.op = Op::kAdd, .in = {values_[at(Value::kResidual)]}, .update = {values_[at(op.in)]}});
    values_[at(Value::kResidual)] = values_[at(op.in)];
  }

  void add_head() {
    emit_.open({.first = static_cast<std::int32_t>(low_.layers()),
                .axis = Axis::kLayer,
                .role = Role::kHead});
    const Operand x{low_.tensors.residual, 0};
    if (low_.generates()) {
      add_next_token(x);
    } else {
      add_loss(x);
    }
    emit_.close();
  }

  void add_loss(Operand x) {
    const std::int64_t vocabulary = low_.job.model.vocabulary;
    const Operand h{emit_.transient("head input", {tokens_, low_.job.model.hidden}, low_.compute)};
    emit_.set_phase(low_.trains() ? Phase::kForward : Phase::kLoss);
    add_final_norm(x, h, tokens_);
    emit_.set_phase(Phase::kLoss);
    const HeadAdapter adapter = add_head_adapter(h);
    const std::int64_t chunk = low_.loss_chunk();
    const Operand logits{
        emit_.transient("logits", {chunk, vocabulary}, low_.compute, Category::kLogits)};
    const Operand loss{low_.program.interface.loss};
    const Operand targets{low_.program.interface.targets};
    Instruction instruction{.attributes = emit_.attributes(LossAttributes{
                                chunk, low_.job.model.logit_cap, low_.job.head_adapter().scale})};
    if (low_.trains()) {
      instruction.op = Op::kLinearCrossEntropy;
      instruction.in = {{low_.tensors.head}, targets};
      instruction.out = {logits, {gradient_of(low_.tensors.head)}};
      instruction.update = {h, loss};
      if (adapter.b) {
        instruction.in.push_back(adapter.b);
        instruction.out.push_back({gradient_of(edge_pair(head_index(low_.job.model.family)).b)});
        instruction.update.push_back(adapter.inner);
      }
    } else {
      instruction.op = Op::kLinearLoss;
      instruction.in = {h, {low_.tensors.head}, targets};
      instruction.out = {logits};
      instruction.update = {loss};
      if (adapter.b) {
        instruction.in.push_back(adapter.b);
        instruction.in.push_back(adapter.inner);
      }
    }
    emit_.emit(instruction);
    emit_.set_phase(Phase::kForward);
  }

  TensorId gradient_of(TensorId weight) const {
    const auto index = static_cast<std::size_t>(weight);
    return index < low_.tensors.gradients.size() ? low_.tensors.gradients[index] : kNone;
  }

  void add_next_token(Operand x) {
    const std::int64_t hidden = low_.job.model.hidden;
    const Operand last{emit_.transient("last", {low_.rows, hidden}, low_.compute)};
    emit_.emit({.op = Op::kTakeLast,
                .attributes = emit_.attributes(attention_attributes()),
                .in = {x},
                .out = {last}});
    const Operand h{emit_.transient("head input", {low_.rows, hidden}, low_.compute)};
    add_final_norm(last, h, low_.rows);
    const Operand logits{emit_.transient("logits", {low_.rows, low_.job.model.vocabulary},
                                         low_.compute, Category::kLogits)};
    emit_.emit({.op = Op::kLinear, .in = {h, {low_.tensors.head}, {}}, .out = {logits}});
    if (const HeadAdapter adapter = add_head_adapter(h); adapter.b) {
      emit_.emit({.op = Op::kLinearAccumulate,
                  .attributes = emit_.attributes(LinearAttributes{low_.job.head_adapter().scale}),
                  .in = {adapter.inner, adapter.b},
                  .update = {logits}});
    }
    const StorageId storage = emit_.storage({.size = low_.rows * size_of(DType::kI32),
                                             .category = Category::kInputs,
                                             .place = Place::kHost,
                                             .region = Region::kPersistent,
                                             .name = "next ids"});
    low_.program.interface.next_ids = emit_.tensor(storage, {low_.rows}, DType::kI32);
    emit_.emit({.op = Op::kNextToken,
                .attributes = emit_.attributes(NextTokenAttributes{low_.job.model.logit_cap}),
                .in = {logits, {low_.program.interface.row_ids}},
                .out = {{low_.program.interface.next_ids}}});
  }

  Lowering& low_;
  Emitter emit_;
  std::int64_t tokens_;
  TensorId key_cache_ = kNone, value_cache_ = kNone;
  std::array<Operand, models::kValues> values_{};
  bool leaves_ = false;         // the op's result goes to the next layer
  std::vector<TensorId> made_;  // tensors of a layer, in the order of their making
  std::size_t next_made_ = 0;
};

}  // namespace

Result<void> build_forward(Lowering& lowering) {
  ForwardBuilder(lowering).build();
  return {};
}

}  // namespace ftplan::program
