#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "core/dtype.h"
#include "core/shape.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/step_program.h"
#include "tests/executor/kernel_case.h"

namespace ftplan::executor {
namespace {

using program::AttentionAttributes;
using program::Op;

// Plain attention; all arrays row by row, [token][head][size].
struct Reference {
  AttentionAttributes a;
  std::int64_t offset = 0;  // of query 0 among the keys
  Values q, k, v, starts;
  std::int64_t layer = 0;
  DType dtype = DType::kF32;

  [[nodiscard]] std::int64_t keys() const { return a.cache > 0 ? a.cache : a.sequence; }
  [[nodiscard]] std::size_t q_at(std::int64_t row, std::int64_t query, std::int64_t head) const {
    return static_cast<std::size_t>(((row * a.sequence + query) * a.heads + head) * a.head_size);
  }
  [[nodiscard]] std::size_t k_at(std::int64_t row, std::int64_t key, std::int64_t head) const {
    const std::int64_t kv_head = head / (a.heads / a.kv_heads);
    return static_cast<std::size_t>(((row * keys() + key) * a.kv_heads + kv_head) * a.head_size);
  }
  [[nodiscard]] double dot(const Values& x, std::size_t i, const Values& y, std::size_t j) const {
    double sum = 0;
    for (std::size_t d = 0; d < static_cast<std::size_t>(a.head_size); ++d)
      sum += x[i + d] * y[j + d];
    return sum;
  }
  [[nodiscard]] std::int64_t first_key(std::int64_t row, std::int64_t query) const {
    const auto start =
        static_cast<std::int64_t>(starts[static_cast<std::size_t>(row * a.sequence + query)]);
    const bool windowed = a.window > 0 && (layer - a.window_first) % a.window_every == 0;
    return windowed ? std::max(start, offset + query + 1 - a.window) : start;
  }
  [[nodiscard]] double scale() const {
    return a.scale > 0 ? a.scale : 1 / std::sqrt(static_cast<double>(a.head_size));
  }
  // `query` and `key` are places in q and k.
  [[nodiscard]] double score(std::size_t query, std::size_t key) const {
    const double score = dot(q, query, k, key) * scale() + bias(query, key);
    return a.cap > 0 ? a.cap * std::tanh(score / a.cap) : score;
  }
  // As transformers makes it: slope, place and product are bf16, and the sum of a bf16 model, too.
  [[nodiscard]] double bias(std::size_t query, std::size_t key) const {
    if (a.alibi == 0) return 0;
    const auto width = static_cast<std::size_t>(a.head_size);
    const auto heads = static_cast<std::size_t>(a.heads);
    const std::size_t head = query / width % heads;
    const double start = starts[query / width / heads];
    const std::size_t token = key / width / static_cast<std::size_t>(a.kv_heads);
    const double place =
        bf16(static_cast<double>(token % static_cast<std::size_t>(keys())) - start);
    // Heads are 6: slopes of 4, and every second of those of 8.
    constexpr double kExponents[] = {-2, -4, -6, -8, -1, -3};
    const double bias = bf16(bf16(std::exp2(kExponents[head])) * place) * scale();
    return dtype == DType::kF32 ? bias : rounded(bias, dtype == DType::kBf16 ? 8 : 11);
  }
  [[nodiscard]] static double bf16(double x) { return rounded(x, 8); }
  [[nodiscard]] static double rounded(double x, int bits) {
    int exponent = 0;
    const double digits = std::frexp(x, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(digits, bits)), exponent - bits);
  }
  // Of the score by the product of query and key.
  [[nodiscard]] double slope(std::size_t query, std::size_t key) const {
    const double share = a.cap > 0 ? score(query, key) / a.cap : 0;
    return scale() * (1 - share * share);
  }

  // Calls `f(query's place, key's place, probability)` for each pair that sees each other, after
  // `row_sum(query, lse)`.
  template <class RowSum, class F>
  void for_each_pair(const RowSum& row_sum, const F& f) const {
    for (std::int64_t row = 0; row < a.rows; ++row) {
      for (std::int64_t head = 0; head < a.heads; ++head) {
        for (std::int64_t query = 0; query < a.sequence; ++query) {
          const std::int64_t first = first_key(row, query);
          const std::size_t at = q_at(row, query, head);
          double sum = 0;
          for (std::int64_t key = first; key <= offset + query; ++key) {
            sum += std::exp(score(at, k_at(row, key, head)));
          }
          row_sum(static_cast<std::size_t>((row * a.heads + head) * a.sequence + query),
                  std::log(sum));
          for (std::int64_t key = first; key <= offset + query; ++key) {
            const std::size_t other = k_at(row, key, head);
            f(at, other, std::exp(score(at, other)) / sum);
          }
        }
      }
    }
  }

  [[nodiscard]] Values forward(Values& log_sums) const {
    Values o(q.size(), 0.0);
    log_sums.assign(static_cast<std::size_t>(a.rows * a.heads * a.sequence), 0.0);
    for_each_pair([&](std::size_t i, double log_sum) { log_sums[i] = log_sum; },
                  [&](std::size_t i, std::size_t j, double p) {
                    for (std::size_t d = 0; d < static_cast<std::size_t>(a.head_size); ++d)
                      o[i + d] += p * v[j + d];
                  });
    return o;
  }

  void backward(const Values& d_o, const Values& o, Values& dq, Values& dk, Values& dv) const {
    dq.assign(q.size(), 0.0);
    dk.assign(k.size(), 0.0);
    dv.assign(v.size(), 0.0);
    for_each_pair([](std::size_t, double) {},
                  [&](std::size_t i, std::size_t j, double p) {
                    const double ds = p * (dot(d_o, i, v, j) - dot(d_o, i, o, i)) * slope(i, j);
                    for (std::size_t d = 0; d < static_cast<std::size_t>(a.head_size); ++d) {
                      dq[i + d] += ds * k[j + d];
                      dk[j + d] += ds * q[i + d];
                      dv[j + d] += p * d_o[i + d];
                    }
                  });
  }
};

// Documents begin at 0, at a third and at two thirds of a row; the last two positions are padding,
// which sees itself.
Values documents(const AttentionAttributes& a) {
  Values starts;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    for (std::int64_t i = 0; i < a.sequence; ++i) {
      const std::int64_t third = std::max<std::int64_t>(1, a.sequence / 3);
      const bool padding = row == a.rows - 1 && i >= a.sequence - 2;
      starts.push_back(
          static_cast<double>(padding ? i : std::min(i / third, std::int64_t{2}) * third));
    }
  }
  return starts;
}

Values forward_case(const std::string& isa, DType dtype, const AttentionAttributes& a,
                    std::int64_t offset, const Values& starts, std::int32_t layer = 0) {
  KernelCase c(Op::kAttention, isa);
  const std::int64_t keys = a.rows * (a.cache > 0 ? a.cache : a.sequence);
  const Shape queries{a.rows * a.sequence, a.heads * a.head_size};
  const auto q = c.random(dtype, queries);
  const auto k = c.random(dtype, {keys, a.kv_heads * a.head_size});
  const auto v = c.random(dtype, {keys, a.kv_heads * a.head_size});
  const auto start = c.tensor(DType::kI32, {a.rows * a.sequence}, starts);
  const auto o = c.undefined(dtype, queries);
  const auto log_sum = c.undefined(DType::kF32, {a.rows * a.heads * a.sequence});
  const Reference reference{a, offset, c.values(q), c.values(k), c.values(v), starts, layer, dtype};
  Values log_sums;
  const Values want = reference.forward(log_sums);
  c.in({q, k, v, start}).out({o, log_sum}).attributes(a).layer(layer);
  c.scalar(program::Scalar::kCacheLength, static_cast<double>(offset)).run();
  expect_close(c.values(o), want, dtype, "o", dtype == DType::kF32 ? 4 : 1);
  expect_close(c.values(log_sum), log_sums, DType::kF32, "log_sum", 4);
  return c.values(o);
}

Values backward_case(const std::string& isa, DType dtype, const AttentionAttributes& a,
                     const Values& starts) {
  KernelCase c(Op::kAttentionBackward, isa);
  const Shape queries{a.rows * a.sequence, a.heads * a.head_size};
  const Shape keys{a.rows * a.sequence, a.kv_heads * a.head_size};
  const auto d_o = c.random(dtype, queries);
  const auto q = c.random(dtype, queries);
  const auto k = c.random(dtype, keys);
  const auto v = c.random(dtype, keys);
  const Reference reference{a, 0, c.values(q), c.values(k), c.values(v), starts, 0, dtype};
  Values log_sums;
  const auto o = c.tensor(dtype, queries, reference.forward(log_sums));
  const auto log_sum = c.tensor(DType::kF32, {a.rows * a.heads * a.sequence}, log_sums);
  const auto start = c.tensor(DType::kI32, {a.rows * a.sequence}, starts);
  const auto dk = c.random(dtype, keys);
  const auto dv = c.undefined(dtype, keys);
  Values dq_want, dk_want, dv_want;
  reference.backward(c.values(d_o), c.values(o), dq_want, dk_want, dv_want);
  const Values before = c.values(dk);
  for (std::size_t i = 0; i < before.size(); ++i) dk_want[i] += before[i];
  // dq takes d_o's place; dk is added to, dv is not.
  c.in({d_o, q, k, v, o, log_sum, start}).out({d_o, dk, dv}).accumulate(0b010).attributes(a).run();
  // Sums of hundreds of f32 values; a bf16 result is rounded once, at the end.
  const double slack = dtype == DType::kF32 ? 8 : 1;
  expect_close(c.values(d_o), dq_want, dtype, "dq", slack);
  expect_close(c.values(dk), dk_want, dtype, "dk", slack);
  expect_close(c.values(dv), dv_want, dtype, "dv", slack);
  Values all = c.values(d_o);
  for (const auto id : {dk, dv}) {
    const Values more = c.values(id);
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

constexpr AttentionAttributes kShort{
    .rows = 3, .sequence = 13, .heads = 6, .kv_heads = 2, .head_size = 10};
// More than one block of queries and of keys.
constexpr AttentionAttributes kLong{
    .rows = 1, .sequence = 531, .heads = 2, .kv_heads = 1, .head_size = 4};

}  // namespace

Values check_attention(const std::string& isa, DType dtype) {
  return forward_case(isa, dtype, kShort, 0, documents(kShort));
}
Values check_attention_long(const std::string& isa, DType dtype) {
  (void)forward_case(isa, dtype, kLong, 0, documents(kLong));
  return forward_case(isa, dtype, kLong, 0, Values(static_cast<std::size_t>(kLong.sequence), 0.0));
}
Values check_attention_cache(const std::string& isa, DType dtype) {
  AttentionAttributes a = kShort;
  a.sequence = 3;
  a.cache = 21;
  // Rows are padded on the left by 0, 2 and 4 tokens.
  const Values starts = {0, 0, 0, 2, 2, 2, 4, 4, 4};
  (void)forward_case(isa, dtype, a, 18, starts);
  return forward_case(isa, dtype, a, 7, starts);
}
Values check_attention_backward(const std::string& isa, DType dtype) {
  const Values all = backward_case(isa, dtype, kShort, documents(kShort));
  // Any gradient may be absent, and the others stay what they were.
  KernelCase c(Op::kAttentionBackward, isa);
  const Shape queries{kShort.rows * kShort.sequence, kShort.heads * kShort.head_size};
  const Shape keys{kShort.rows * kShort.sequence, kShort.kv_heads * kShort.head_size};
  const auto d_o = c.random(dtype, queries);
  const auto q = c.random(dtype, queries);
  const auto k = c.random(dtype, keys);
  const auto v = c.random(dtype, keys);
  const Values starts = documents(kShort);
  const Reference reference{kShort, 0, c.values(q), c.values(k), c.values(v), starts};
  Values log_sums;
  const auto o = c.tensor(dtype, queries, reference.forward(log_sums));
  const auto log_sum =
      c.tensor(DType::kF32, {kShort.rows * kShort.heads * kShort.sequence}, log_sums);
  const auto start = c.tensor(DType::kI32, {kShort.rows * kShort.sequence}, starts);
  const auto dv = c.undefined(dtype, keys);
  c.in({d_o, q, k, v, o, log_sum, start})
      .out({KernelCase::kAbsent, KernelCase::kAbsent, dv})
      .attributes(kShort)
      .run();
  const Values alone = c.values(dv);
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                         all.end() - static_cast<std::ptrdiff_t>(alone.size())));
  return all;
}
namespace {

AttentionAttributes windowed(AttentionAttributes a, std::int64_t window) {
  a.window = window;
  return a;
}

}  // namespace

Values check_attention_window(const std::string& isa, DType dtype) {
  for (const std::int64_t window : {1, 4, 12, 13, 14}) {
    (void)forward_case(isa, dtype, windowed(kShort, window), 0, documents(kShort));
  }
  // In the middle of a cache, and with padding on the left.
  AttentionAttributes cached = windowed(kShort, 5);
  cached.sequence = 3;
  cached.cache = 21;
  (void)forward_case(isa, dtype, cached, 18, {0, 0, 0, 2, 2, 2, 4, 4, 4});
  (void)forward_case(isa, dtype, cached, 4, {0, 0, 0, 2, 2, 2, 4, 4, 4});
  // A layer that has no window, between two that have.
  for (const std::int32_t layer : {1, 2, 3}) {
    AttentionAttributes some = windowed(kShort, 4);
    some.window_first = 1;
    some.window_every = 2;
    (void)forward_case(isa, dtype, some, 0, documents(kShort), layer);
  }
  // A band that begins and ends inside blocks, and one of less than a block.
  (void)forward_case(isa, dtype, windowed(kLong, 300), 0, documents(kLong));
  return forward_case(isa, dtype, windowed(kLong, 70), 0,
                      Values(static_cast<std::size_t>(kLong.sequence), 0.0));
}
Values check_attention_backward_window(const std::string& isa, DType dtype) {
  for (const std::int64_t window : {2, 5, 13}) {
    (void)backward_case(isa, dtype, windowed(kShort, window), documents(kShort));
  }
  (void)backward_case(isa, dtype, windowed(kLong, 300), documents(kLong));
  return backward_case(isa, dtype, windowed(kLong, 70),
                       Values(static_cast<std::size_t>(kLong.sequence), 0.0));
}
Values check_attention_cap(const std::string& isa, DType dtype) {
  AttentionAttributes a = kShort;
  a.scale = 1.5;
  a.cap = 2;
  a.window = 6;
  const Values o = forward_case(isa, dtype, a, 0, documents(a));
  Values all = backward_case(isa, dtype, a, documents(a));
  all.insert(all.end(), o.begin(), o.end());
  return all;
}
Values check_attention_alibi(const std::string& isa, DType dtype) {
  AttentionAttributes a = kShort;
  a.alibi = 1;
  Values all = forward_case(isa, dtype, a, 0, documents(a));
  const Values gradients = backward_case(isa, dtype, a, documents(a));
  all.insert(all.end(), gradients.begin(), gradients.end());
  // More than one block, and places that bf16 does not hold.
  a.rows = 1;
  a.sequence = 531;
  a.head_size = 4;
  (void)forward_case(isa, dtype, a, 0, Values(531, 0.0));
  // In a cache, with padding on the left.
  a = kShort;
  a.alibi = 1;
  a.sequence = 3;
  a.cache = 21;
  (void)forward_case(isa, dtype, a, 18, {0, 0, 0, 2, 2, 2, 4, 4, 4});
  return all;
}
Values check_attention_outside_window(const std::string& isa, DType dtype) {
  // Keys before the window are never touched: NaN times zero would be seen.
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr AttentionAttributes kCached{.rows = 1,
                                        .sequence = 1,
                                        .heads = 2,
                                        .kv_heads = 1,
                                        .head_size = 4,
                                        .cache = 700,
                                        .window = 20};
  KernelCase c(Op::kAttention, isa);
  Values keys(700 * 4, 0.5);
  std::fill_n(keys.begin(), 4 * (650 + 1 - 20), kNan);
  const auto q = c.random(dtype, {1, 2 * 4});
  const auto k = c.tensor(dtype, {700, 4}, keys);
  const auto v = c.tensor(dtype, {700, 4}, keys);
  const auto o = c.undefined(dtype, {1, 2 * 4});
  c.in({q, k, v, c.tensor(DType::kI32, {1}, {0})})
      .out({o, KernelCase::kAbsent})
      .attributes(kCached)
      .scalar(program::Scalar::kCacheLength, 650)
      .run();
  EXPECT_EQ(c.values(o), Values(2 * 4, 0.5));

  // The last block of queries sees nothing of the first block of keys, so its NaN stay away.
  constexpr AttentionAttributes kTraining{
      .rows = 1, .sequence = 700, .heads = 1, .kv_heads = 1, .head_size = 4, .window = 20};
  KernelCase b(Op::kAttentionBackward, isa);
  const Shape all{700, 4};
  Values queries(700 * 4, 0.5);
  std::fill(queries.begin() + 640 * 4, queries.end(), kNan);
  const auto d_o = b.random(dtype, all);
  const auto bq = b.tensor(dtype, all, queries);
  const auto bk = b.random(dtype, all);
  const auto bv = b.random(dtype, all);
  const auto bo = b.random(dtype, all);
  const auto log_sum = b.tensor(DType::kF32, {700}, Values(700, 3.0));
  const auto start = b.tensor(DType::kI32, {700}, Values(700, 0.0));
  const auto dk = b.undefined(dtype, all);
  b.in({d_o, bq, bk, bv, bo, log_sum, start})
      .out({KernelCase::kAbsent, dk, KernelCase::kAbsent})
      .attributes(kTraining)
      .run();
  Values gradient = b.values(dk);
  EXPECT_TRUE(std::isnan(gradient.back()));
  gradient.resize(512 * 4);
  EXPECT_TRUE(
      std::none_of(gradient.begin(), gradient.end(), [](double x) { return std::isnan(x); }));
  return gradient;
}
Values check_attention_backward_long(const std::string& isa, DType dtype) {
  (void)backward_case(isa, dtype, kLong, documents(kLong));
  return backward_case(isa, dtype, kLong, Values(static_cast<std::size_t>(kLong.sequence), 0.0));
}

}  // namespace ftplan::executor
