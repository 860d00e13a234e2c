#include "program/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "executor/call.h"
#include "executor/ops/simd.h"
#include "executor/products.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

using program::AttentionAttributes;

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// Packs rows of one head as f32, `scale` times.
template <class T>
void pack(const View& from, std::int64_t row, std::int64_t count, std::int64_t head,
          std::int64_t size, float scale, float* to) {
  for (std::int64_t r = 0; r < count; ++r) {
    const T* source = row_of<T>(from, row + r) + head * size;
    float* out = to + r * size;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) out[i] = widen(source[i]) * scale;
  }
}

template <class T>
void unpack(const float* from, const View& to, std::int64_t row, std::int64_t count,
            std::int64_t head, std::int64_t size, bool accumulate) {
  for (std::int64_t r = 0; r < count; ++r) {
    T* out = row_of<T>(to, row + r) + head * size;
    const float* source = from + r * size;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) {
      narrow((accumulate ? widen(out[i]) : 0.0F) + source[i], out[i]);
    }
  }
}

// One row of a batch: which keys each query sees.
struct Sight {
  const std::int32_t* starts;  // by query
  std::int64_t offset;         // key index of query 0
  std::int64_t window;         // 0: none

  [[nodiscard]] std::int64_t first(std::int64_t query) const {
    const std::int64_t start = starts[query];
    return window > 0 ? std::max(start, end(query) - window) : start;
  }
  [[nodiscard]] std::int64_t end(std::int64_t query) const { return offset + query + 1; }
};

// Keys [begin, end) that some query of a block sees. First keys never fall within a row, except for
// padding at its end.
Part seen_by(const Sight& sight, std::int64_t query, std::int64_t count) {
  std::int64_t first = sight.first(query);
  for (std::int64_t i = 1; i < count; ++i) first = std::min(first, sight.first(query + i));
  return {first, sight.end(query + count - 1)};
}

void mask(const Sight& sight, std::int64_t query, std::int64_t count, std::int64_t key,
          std::int64_t keys, float value, float* scores) {
  for (std::int64_t i = 0; i < count; ++i) {
    float* row = scores + i * keys;
    const std::int64_t first = std::clamp(sight.first(query + i) - key, std::int64_t{0}, keys);
    const std::int64_t end = std::clamp(sight.end(query + i) - key, std::int64_t{0}, keys);
    std::fill(row, row + std::min(first, end), value);
    std::fill(row + end, row + keys, value);
  }
}

float scale_of(const AttentionAttributes& a) {
  return a.scale > 0 ? static_cast<float>(a.scale)
                     : 1.0F / std::sqrt(static_cast<float>(a.head_size));
}

template <class T>
float rounded(float x) {
  T narrowed;
  narrow(x, narrowed);
  return widen(narrowed);
}

// Scores grow with a key's place in its document. Slopes, places and their products are rounded to
// bf16 whatever the scores are, because transformers does; what is added has the type of the rest.
template <class T>
void add_alibi(const AttentionAttributes& a, std::int64_t head, const Sight& sight,
               std::int64_t query, std::int64_t count, std::int64_t key, std::int64_t keys,
               float* scores) {
  if (a.alibi == 0) return;
  const float slope =
      rounded<Bf16>(static_cast<float>(a.alibi) * program::alibi_slope(head, a.heads));
  const float scale = scale_of(a);
  for (std::int64_t i = 0; i < count; ++i) {
    float* row = scores + i * keys;
    const auto first = static_cast<std::int32_t>(key - sight.starts[query + i]);
#pragma omp simd
    for (std::int32_t k = 0; k < static_cast<std::int32_t>(keys); ++k) {
      const float place = rounded<Bf16>(static_cast<float>(first + k));
      row[k] += rounded<T>(rounded<Bf16>(slope * place) * scale);
    }
  }
}

// Soft cap of scores, before they are masked.
void cap_scores(float* scores, std::int64_t count, double cap) {
  if (cap == 0) return;
  const auto most = static_cast<float>(cap);
  const float inverse = 1.0F / most;
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) scores[i] = most * fast_tanh(scores[i] * inverse);
}

// The state of a block of queries while its keys go by.
struct Online {
  float* output;
  float* maximum;
  float* sum;
};

void absorb(float* scores, std::int64_t count, std::int64_t keys, std::int64_t size,
            const Online& online) {
  for (std::int64_t i = 0; i < count; ++i) {
    float* row = scores + i * keys;
    float most = online.maximum[i];
#pragma omp simd reduction(max : most)
    for (std::int64_t k = 0; k < keys; ++k) most = most < row[k] ? row[k] : most;
    if (most == kMasked) {
      std::memset(row, 0, static_cast<std::size_t>(keys) * sizeof(float));
      continue;
    }
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t k = 0; k < keys; ++k) {
      row[k] = fast_exp(row[k] - most);
      total += row[k];
    }
    const float shrink = online.maximum[i] == kMasked ? 0.0F : fast_exp(online.maximum[i] - most);
    online.sum[i] = online.sum[i] * shrink + total;
    online.maximum[i] = most;
    float* output = online.output + i * size;
#pragma omp simd
    for (std::int64_t d = 0; d < size; ++d) output[d] *= shrink;
  }
}

struct Forward {
  const AttentionAttributes& a;
  program::AttentionBlocks blocks;
  View q, k, v, o;
  const std::int32_t* starts;
  float* log_sum;  // [row][head][query], or null
  std::int64_t offset;
  std::int64_t keys_of_row;
  std::int64_t window;

  template <class T>
  void block(std::int64_t row, std::int64_t head, std::int64_t query, float* work) const {
    const std::int64_t size = a.head_size;
    const std::int64_t count = std::min(blocks.queries, a.sequence - query);
    float* scores = work;
    float* queries = scores + blocks.queries * blocks.keys;
    Online online{queries + blocks.queries * size, nullptr, nullptr};
    float* packed_keys = online.output + blocks.queries * size;
    float* packed_values = packed_keys + blocks.keys * size;
    online.maximum = packed_values + blocks.keys * size;
    online.sum = online.maximum + blocks.queries;
    const std::int64_t token = row * a.sequence + query;
    const std::int64_t kv_head = head / (a.heads / a.kv_heads);
    const Sight sight{starts + row * a.sequence, offset, window};
    pack<T>(q, token, count, head, size, scale_of(a), queries);
    std::memset(online.output, 0, static_cast<std::size_t>(count * size) * sizeof(float));
    std::fill(online.maximum, online.maximum + count, kMasked);
    std::fill(online.sum, online.sum + count, 0.0F);
    const Part seen = seen_by(sight, query, count);
    for (std::int64_t key = seen.begin; key < seen.end; key += blocks.keys) {
      const std::int64_t keys = std::min(blocks.keys, seen.end - key);
      pack<T>(k, row * keys_of_row + key, keys, kv_head, size, 1, packed_keys);
      pack<T>(v, row * keys_of_row + key, keys, kv_head, size, 1, packed_values);
      multiply_block(count, keys, size, 1, queries, size, Transposed::kNo, packed_keys, size,
                     Transposed::kYes, 0, scores, keys);
      add_alibi<T>(a, head, sight, query, count, key, keys, scores);
      cap_scores(scores, count * keys, a.cap);
      mask(sight, query, count, key, keys, kMasked, scores);
      absorb(scores, count, keys, size, online);
      multiply_block(count, size, keys, 1, scores, keys, Transposed::kNo, packed_values, size,
                     Transposed::kNo, 1, online.output, size);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const float inverse = 1.0F / online.sum[i];
      for (std::int64_t d = 0; d < size; ++d) online.output[i * size + d] *= inverse;
      if (log_sum != nullptr) {
        log_sum[(row * a.heads + head) * a.sequence + query + i] =
            online.maximum[i] + std::log(online.sum[i]);
      }
    }
    unpack<T>(online.output, o, token, count, head, size, false);
  }
};

struct Backward {
  const AttentionAttributes& a;
  program::AttentionBlocks blocks;
  View d_o, q, k, v, o, dq, dk, dv;
  const float* log_sum;
  const std::int32_t* starts;
  bool add_dq, add_dk, add_dv;
  std::int64_t window;

  // Blocks of one thread.
  struct Work {
    float *scores, *d_scores, *d_out, *out, *queries, *keys, *values, *delta, *dq, *dk, *dv;
  };
  [[nodiscard]] Work work_at(float* at) const {
    const std::int64_t pairs = blocks.queries * blocks.keys;
    const std::int64_t row = a.sequence * a.head_size;
    Work w{};
    const auto take = [&at](std::int64_t count) {
      float* begin = at;
      at += count;
      return begin;
    };
    w.scores = take(pairs);
    w.d_scores = take(pairs);
    w.d_out = take(blocks.queries * a.head_size);
    w.out = take(blocks.queries * a.head_size);
    w.queries = take(blocks.queries * a.head_size);
    w.keys = take(blocks.keys * a.head_size);
    w.values = take(blocks.keys * a.head_size);
    w.delta = take(blocks.queries);
    w.dq = take(row);
    w.dk = take(row);
    w.dv = take(row);
    return w;
  }

  // All heads that share one head of keys and values, for one row of the batch.
  template <class T>
  void group(std::int64_t row, std::int64_t kv_head, float* at) const {
    const Work w = work_at(at);
    const auto bytes = static_cast<std::size_t>(a.sequence * a.head_size) * sizeof(float);
    std::memset(w.dk, 0, bytes);
    std::memset(w.dv, 0, bytes);
    const std::int64_t heads = a.heads / a.kv_heads;
    for (std::int64_t head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
      std::memset(w.dq, 0, bytes);
      for (std::int64_t key = 0; key < a.sequence; key += blocks.keys)
        keys_block<T>(row, head, kv_head, key, w);
      if (dq) unpack<T>(w.dq, dq, row * a.sequence, a.sequence, head, a.head_size, add_dq);
    }
    if (dk) unpack<T>(w.dk, dk, row * a.sequence, a.sequence, kv_head, a.head_size, add_dk);
    if (dv) unpack<T>(w.dv, dv, row * a.sequence, a.sequence, kv_head, a.head_size, add_dv);
  }

  template <class T>
  void keys_block(std::int64_t row, std::int64_t head, std::int64_t kv_head, std::int64_t key,
                  const Work& w) const {
    const std::int64_t keys = std::min(blocks.keys, a.sequence - key);
    pack<T>(k, row * a.sequence + key, keys, kv_head, a.head_size, 1, w.keys);
    pack<T>(v, row * a.sequence + key, keys, kv_head, a.head_size, 1, w.values);
    const Sight sight{starts + row * a.sequence, 0, window};
    for (std::int64_t query = key / blocks.queries * blocks.queries; query < a.sequence;
         query += blocks.queries) {
      const std::int64_t count = std::min(blocks.queries, a.sequence - query);
      const Part seen = seen_by(sight, query, count);
      if (seen.begin < key + keys && seen.end > key)
        pair<T>(row, head, query, count, key, keys, sight, w);
    }
  }

  template <class T>
  void pair(std::int64_t row, std::int64_t head, std::int64_t query, std::int64_t count,
            std::int64_t key, std::int64_t keys, const Sight& sight, const Work& w) const {
    const std::int64_t size = a.head_size;
    const std::int64_t token = row * a.sequence + query;
    const float scale = scale_of(a);
    pack<T>(q, token, count, head, size, scale, w.queries);
    pack<T>(d_o, token, count, head, size, 1, w.d_out);
    pack<T>(o, token, count, head, size, 1, w.out);
    multiply_block(count, keys, size, 1, w.queries, size, Transposed::kNo, w.keys, size,
                   Transposed::kYes, 0, w.scores, keys);
    multiply_block(count, keys, size, 1, w.d_out, size, Transposed::kNo, w.values, size,
                   Transposed::kYes, 0, w.d_scores, keys);
    add_alibi<T>(a, head, sight, query, count, key, keys, w.scores);
    cap_scores(w.scores, count * keys, a.cap);
    // The slope of the cap is 1 - (score / cap)^2; it goes onto the gradients of scores at once.
    const float inverse_cap = a.cap > 0 ? 1.0F / static_cast<float>(a.cap) : 0.0F;
    mask(sight, query, count, key, keys, kMasked, w.scores);
    const float* sums = log_sum + (row * a.heads + head) * a.sequence + query;
    for (std::int64_t i = 0; i < count; ++i) {
      float delta = 0;
#pragma omp simd reduction(+ : delta)
      for (std::int64_t d = 0; d < size; ++d) delta += w.d_out[i * size + d] * w.out[i * size + d];
      float* p = w.scores + i * keys;
      float* ds = w.d_scores + i * keys;
      const float sum = sums[i];
#pragma omp simd
      for (std::int64_t j = 0; j < keys; ++j) {
        // Where a score is masked, its infinity must not meet the zero.
        const float capped = p[j] == kMasked ? 0.0F : p[j] * inverse_cap;
        p[j] = fast_exp(p[j] - sum);
        ds[j] = p[j] * (ds[j] - delta) * (1.0F - capped * capped);
      }
    }
    // Queries are scaled already, so that dk needs no factor.
    multiply_block(count, size, keys, scale, w.d_scores, keys, Transposed::kNo, w.keys, size,
                   Transposed::kNo, 1, w.dq + query * size, size);
    multiply_block(keys, size, count, 1, w.d_scores, keys, Transposed::kYes, w.queries, size,
                   Transposed::kNo, 1, w.dk + key * size, size);
    multiply_block(keys, size, count, 1, w.scores, keys, Transposed::kYes, w.d_out, size,
                   Transposed::kNo, 1, w.dv + key * size, size);
  }
};

}  // namespace

void attention(Call& call) {
  const auto& a = call.attributes<AttentionAttributes>();
  const auto blocks = program::attention_blocks(a);
  const bool cached = a.cache > 0;
  const Forward forward{
      a,
      blocks,
      call.in[0],
      call.in[1],
      call.in[2],
      call.out[0],
      call.in[3].as<std::int32_t>(),
      call.out[1].as<float>(),
      cached ? static_cast<std::int64_t>(call.scalar(program::Scalar::kCacheLength)) : 0,
      cached ? a.cache : a.sequence,
      a.window_of(call.model_layer())};
  float* work = call.scratch.take_array<float>(call.threads * blocks.forward_floats).data();
  const std::int64_t query_blocks = (a.sequence + blocks.queries - 1) / blocks.queries;
  const std::int64_t tasks = a.rows * a.heads * query_blocks;
  with_type(call.in[0].dtype(), [&]<class T>(T) {
#pragma omp parallel num_threads(call.threads)
    {
      float* own = work + thread_index() * blocks.forward_floats;
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t task = 0; task < tasks; ++task) {
        const std::int64_t pair = task / query_blocks;
        forward.block<T>(pair / a.heads, pair % a.heads, task % query_blocks * blocks.queries, own);
      }
    }
  });
}

void attention_backward(Call& call) {
  const auto& a = call.attributes<AttentionAttributes>();
  const auto blocks = program::attention_blocks(a);
  const Backward backward{a,
                          blocks,
                          call.in[0],
                          call.in[1],
                          call.in[2],
                          call.in[3],
                          call.in[4],
                          call.out[0],
                          call.out[1],
                          call.out[2],
                          call.in[5].as<float>(),
                          call.in[6].as<std::int32_t>(),
                          call.accumulates(0),
                          call.accumulates(1),
                          call.accumulates(2),
                          a.window_of(call.model_layer())};
  float* work = call.scratch.take_array<float>(call.threads * blocks.backward_floats).data();
  with_type(call.in[0].dtype(), [&]<class T>(T) {
#pragma omp parallel num_threads(call.threads)
    {
      float* own = work + thread_index() * blocks.backward_floats;
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t task = 0; task < a.rows * a.kv_heads; ++task) {
        backward.group<T>(task / a.kv_heads, task % a.kv_heads, own);
      }
    }
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA
