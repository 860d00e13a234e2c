#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "models/convert.h"
#include "program/attributes.h"
#include "program/op.h"
#include "program/step_program.h"
#include "tests/executor/kernel_case.h"

// Embedding, products, loss, gradient norm and generation.

namespace ftplan::executor {
namespace {

using program::Op;
using program::Scalar;

// a [m, k] times b [k, n], each given by a function of row and column.
template <class A, class B>
Values product(std::int64_t m, std::int64_t n, std::int64_t k, const A& a, const B& b,
               double scale) {
  Values c;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l) sum += a(i, l) * b(l, j);
      c.push_back(scale * sum);
    }
  }
  return c;
}

// Element [i, j] of a matrix of `width` columns, or of its transpose.
auto plain(const Values& values, std::int64_t width) {
  return [&values, width](std::int64_t i, std::int64_t j) {
    return values[static_cast<std::size_t>(i * width + j)];
  };
}
auto transposed(const Values& values, std::int64_t width) {
  return [&values, width](std::int64_t i, std::int64_t j) {
    return values[static_cast<std::size_t>(j * width + i)];
  };
}

void add_to(Values& a, const Values& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
}

constexpr std::int64_t kTokens = 11;
constexpr std::int64_t kHidden = 19;
constexpr std::int64_t kVocabulary = 53;

}  // namespace

Values check_embed(const std::string& isa, DType dtype) {
  KernelCase scaled(Op::kEmbed, isa);
  const auto all_ids = scaled.tensor(DType::kI32, {2}, {1, 0});
  const auto small = scaled.random(dtype, {2, kHidden});
  const auto doubled = scaled.undefined(dtype, {2, kHidden});
  scaled.in({all_ids, small}).out({doubled}).attributes(program::EmbedAttributes{2}).run();
  Values twice = scaled.values(small);
  std::rotate(twice.begin(), twice.begin() + kHidden, twice.end());
  for (double& value : twice) value *= 2;
  EXPECT_EQ(scaled.values(doubled), twice);

  KernelCase c(Op::kEmbed, isa);
  const Values ids = {0, 52, 7, 7, 1};
  const auto id = c.tensor(DType::kI32, {5}, ids);
  const auto table = c.random(dtype, {kVocabulary, kHidden});
  const auto x = c.undefined(dtype, {5, kHidden});
  c.in({id, table}).out({x}).run();
  const Values rows = c.values(table);
  Values want;
  for (const double row : ids) {
    const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(row) * kHidden;
    want.insert(want.end(), begin, begin + kHidden);
  }
  EXPECT_EQ(c.values(x), want);

  // An f32 table is rounded.
  KernelCase rounds(Op::kEmbed, isa);
  const auto one = rounds.tensor(DType::kI32, {1}, {1});
  const auto wide = rounds.tensor(DType::kF32, {2, 2}, {0, 0, 1 + 1.0 / 4096, -3});
  const auto narrow = rounds.undefined(dtype, {1, 2});
  rounds.in({one, wide}).out({narrow}).run();
  EXPECT_EQ(rounds.values(narrow), (Values{dtype == DType::kF32 ? 1 + 1.0 / 4096 : 1, -3}));
  return c.values(x);
}

Values check_embed_backward(const std::string& isa, DType dtype) {
  const Values ids = {3, 52, 0, 3, 3, 17, 0, 51, 8, 3, 17};
  Values order(ids.size());
  std::iota(order.begin(), order.end(), 0.0);
  std::stable_sort(order.begin(), order.end(), [&](double a, double b) {
    return ids[static_cast<std::size_t>(a)] < ids[static_cast<std::size_t>(b)];
  });
  Values all;
  for (const bool accumulate : {false, true}) {
    const double scale = accumulate ? 4 : 1;
    for (const DType gradient : {dtype, DType::kF32}) {
      KernelCase c(Op::kEmbedBackward, isa, /*threads=*/3);
      const auto dx = c.random(dtype, {kTokens, kHidden});
      const auto id = c.tensor(DType::kI32, {kTokens}, ids);
      const auto sorted = c.tensor(DType::kI32, {kTokens}, order);
      const Shape shape{kVocabulary, kHidden};
      const auto table = accumulate ? c.random(gradient, shape) : c.undefined(gradient, shape);
      Values want = accumulate ? c.values(table) : Values(kVocabulary * kHidden, 0.0);
      const Values d = c.values(dx);
      for (std::size_t t = 0; t < ids.size(); ++t) {
        for (std::size_t i = 0; i < kHidden; ++i)
          want[static_cast<std::size_t>(ids[t]) * kHidden + i] += scale * d[t * kHidden + i];
      }
      if (accumulate) c.attributes(program::EmbedAttributes{scale});
      c.in({dx, id, sorted}).out({table}).accumulate(accumulate ? 1 : 0).run();
      expect_close(c.values(table), want, gradient, "d table");
      all = joined(all, c.values(table));
    }
  }
  return all;
}

Values check_linear(const std::string& isa, DType dtype) {
  KernelCase c(Op::kLinear, isa);
  const auto x = c.random(dtype, {kTokens, kHidden}, kHidden + 6);
  const auto w = c.random(dtype, {13, kHidden});
  const auto bias = c.random(dtype, {13});
  const auto y = c.undefined(dtype, {kTokens, 13});
  const Values xs = c.values(x);
  const Values ws = c.values(w);
  const Values bs = c.values(bias);
  Values want = product(kTokens, 13, kHidden, plain(xs, kHidden), transposed(ws, kHidden), 1);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += bs[i % 13];
  c.in({x, w, bias}).out({y}).run();
  expect_close(c.values(y), want, dtype, "y", 2);

  KernelCase more(Op::kLinearAccumulate, isa);
  const auto x2 = more.tensor(dtype, {kTokens, kHidden}, xs);
  const auto w2 = more.tensor(dtype, {13, kHidden}, ws);
  const auto y2 = more.random(dtype, {kTokens, 13});
  Values sum = more.values(y2);
  add_to(sum, product(kTokens, 13, kHidden, plain(xs, kHidden), transposed(ws, kHidden), 0.5));
  more.in({x2, w2}).update({y2}).attributes(program::LinearAttributes{0.5}).run();
  expect_close(more.values(y2), sum, dtype, "y + x w", 2);
  return joined(c.values(y), more.values(y2));
}

Values check_linear_gradients(const std::string& isa, DType dtype) {
  Values all;
  for (const bool accumulate : {false, true}) {
    KernelCase c(Op::kLinearInputGradient, isa);
    const auto dy = c.random(dtype, {kTokens, 13});
    const auto w = c.random(dtype, {13, kHidden});
    const Shape shape{kTokens, kHidden};
    const auto dx = accumulate ? c.random(dtype, shape) : c.undefined(dtype, shape);
    const Values dys = c.values(dy);
    const Values ws = c.values(w);
    Values want = product(kTokens, kHidden, 13, plain(dys, 13), plain(ws, kHidden), 2);
    if (accumulate) add_to(want, c.values(dx));
    c.in({dy, w})
        .out({dx})
        .accumulate(accumulate ? 1 : 0)
        .attributes(program::LinearAttributes{2})
        .run();
    expect_close(c.values(dx), want, dtype, "dx", 2);
    all = joined(all, c.values(dx));
    for (const DType gradient : {dtype, DType::kF32}) {
      KernelCase g(Op::kLinearWeightGradient, isa);
      const auto dy2 = g.tensor(dtype, {kTokens, 13}, dys);
      const auto x = g.random(dtype, {kTokens, kHidden});
      const Shape of_weight{13, kHidden};
      const auto dw = accumulate ? g.random(gradient, of_weight) : g.undefined(gradient, of_weight);
      const Values xs = g.values(x);
      Values want_w = product(13, kHidden, kTokens, transposed(dys, 13), plain(xs, kHidden), 2);
      if (accumulate) add_to(want_w, g.values(dw));
      g.in({dy2, x})
          .out({dw})
          .accumulate(accumulate ? 1 : 0)
          .attributes(program::LinearAttributes{2})
          .run();
      expect_close(g.values(dw), want_w, gradient, "dw", 2);
      all = joined(all, g.values(dw));
    }
  }
  return all;
}

Values check_bias_gradient(const std::string& isa, DType dtype) {
  KernelCase c(Op::kBiasGradient, isa, /*threads=*/3);
  const auto dy = c.random(dtype, {kTokens, kHidden}, kHidden + 1);
  const auto db = c.random(DType::kF32, {kHidden});
  Values want = c.values(db);
  const Values d = c.values(dy);
  for (std::size_t i = 0; i < d.size(); ++i) want[i % kHidden] += d[i];
  c.in({dy}).out({db}).accumulate(1).run();
  expect_close(c.values(db), want, DType::kF32, "db");
  return c.values(db);
}

namespace {

constexpr double kLossScale = 4;
const Values kTargets = {5, 0, -100, 52, 7, -100, -100, 51, 5, 5, 1};

// Logits, their loss and the gradient of the loss for the logits.
struct Loss {
  double sum = 0;
  Values gradient;
};
Loss loss_of(const Values& h, const Values& w, double target_tokens, double cap = 0,
             const Values& adapter = Values(kTokens * kVocabulary)) {
  Loss loss;
  Values logits =
      product(kTokens, kVocabulary, kHidden, plain(h, kHidden), transposed(w, kHidden), 1);
  add_to(logits, adapter);
  Values slopes(logits.size(), 1.0);
  for (std::size_t i = 0; cap > 0 && i < logits.size(); ++i) {
    const double share = std::tanh(logits[i] / cap);
    logits[i] = cap * share;
    slopes[i] = 1 - share * share;
  }
  for (std::size_t t = 0; t < kTokens; ++t) {
    double total = 0;
    for (std::size_t i = 0; i < kVocabulary; ++i) total += std::exp(logits[t * kVocabulary + i]);
    const bool counts = kTargets[t] >= 0;
    if (counts)
      loss.sum += std::log(total) - logits[t * kVocabulary + static_cast<std::size_t>(kTargets[t])];
    for (std::size_t i = 0; i < kVocabulary; ++i) {
      const double probability = std::exp(logits[t * kVocabulary + i]) / total;
      const double one = static_cast<double>(i) == kTargets[t] ? 1 : 0;
      const double slope = slopes[t * kVocabulary + i];
      loss.gradient.push_back(counts ? (probability - one) / target_tokens * slope : 0);
    }
  }
  return loss;
}

// With an adapter on a frozen head, whose b has the gradient of an earlier micro-step.
Values check_adapted_head(const std::string& isa, DType dtype, std::int64_t chunk) {
  constexpr std::int64_t kRank = 3;
  constexpr double kScale = 1.5;
  KernelCase c(Op::kLinearCrossEntropy, isa);
  const auto w = c.random(dtype, {kVocabulary, kHidden});
  const auto targets = c.tensor(DType::kI32, {kTokens}, kTargets);
  const auto b = c.random(dtype, {kVocabulary, kRank});
  const auto logits = c.undefined(dtype, {chunk, kVocabulary});
  const auto db = c.random(DType::kF32, {kVocabulary, kRank});
  const auto h = c.random(dtype, {kTokens, kHidden});
  const auto sum = c.tensor(DType::kF64, {1}, {0});
  const auto inner = c.random(dtype, {kTokens, kRank});
  const Values ws = c.values(w);
  const Values bs = c.values(b);
  const Values inners = c.values(inner);
  const Values added =
      product(kTokens, kVocabulary, kRank, plain(inners, kRank), transposed(bs, kRank), kScale);
  const Loss loss = loss_of(c.values(h), ws, 10 / kLossScale, 0, added);
  Values want_b = product(kVocabulary, kRank, kTokens, transposed(loss.gradient, kVocabulary),
                          plain(inners, kRank), kScale);
  add_to(want_b, c.values(db));
  const Values want_h = product(kTokens, kHidden, kVocabulary, plain(loss.gradient, kVocabulary),
                                plain(ws, kHidden), 1);
  const Values want_inner = product(kTokens, kRank, kVocabulary, plain(loss.gradient, kVocabulary),
                                    plain(bs, kRank), kScale);
  c.in({w, targets, b}).out({logits, program::kNone, db}).update({h, sum, inner}).accumulate(0b100);
  c.attributes(program::LossAttributes{chunk, 0, kScale})
      .scalar(Scalar::kTargetTokens, 10)
      .scalar(Scalar::kLossScale, kLossScale)
      .run();
  expect_close(c.values(sum), {loss.sum}, dtype, "loss", dtype == DType::kF32 ? 1 : 0.5);
  expect_close(c.values(h), want_h, dtype, "dh", 4);
  expect_close(c.values(inner), want_inner, dtype, "d inner", 4);
  expect_close(c.values(db), want_b, dtype, "db");
  return joined(joined(c.values(h), c.values(inner)), c.values(db));
}

}  // namespace

Values check_linear_cross_entropy(const std::string& isa, DType dtype) {
  Values all;
  for (const auto& [chunk, cap] :
       {std::pair{std::int64_t{4}, 0.0}, std::pair{kTokens, 0.0}, std::pair{kTokens, 1.5}}) {
    KernelCase c(Op::kLinearCrossEntropy, isa);
    const auto w = c.random(dtype, {kVocabulary, kHidden});
    const auto targets = c.tensor(DType::kI32, {kTokens}, kTargets);
    const auto logits = c.undefined(dtype, {chunk, kVocabulary});
    const auto dw = c.random(DType::kF32, {kVocabulary, kHidden});
    const auto h = c.random(dtype, {kTokens, kHidden});
    const auto sum = c.tensor(DType::kF64, {1}, {1.5});
    const Values hs = c.values(h);
    const Values ws = c.values(w);
    const Loss loss = loss_of(hs, ws, 10 / kLossScale, cap);
    Values want_w = product(kVocabulary, kHidden, kTokens, transposed(loss.gradient, kVocabulary),
                            plain(hs, kHidden), 1);
    add_to(want_w, c.values(dw));
    const Values want_h = product(kTokens, kHidden, kVocabulary, plain(loss.gradient, kVocabulary),
                                  plain(ws, kHidden), 1);
    c.in({w, targets}).out({logits, dw}).update({h, sum}).accumulate(0b10);
    c.attributes(program::LossAttributes{chunk, cap})
        .scalar(Scalar::kTargetTokens, 10)
        .scalar(Scalar::kLossScale, kLossScale)
        .run();
    // In bf16 the logits and their gradients are rounded in between.
    expect_close(c.values(sum), {1.5 + loss.sum}, dtype, "loss", dtype == DType::kF32 ? 1 : 0.5);
    expect_close(c.values(h), want_h, dtype, "dh", 4);
    expect_close(c.values(dw), want_w, dtype, "dw");
    all = joined(joined(joined(all, c.values(h)), c.values(dw)), c.values(sum));
  }
  for (const std::int64_t chunk : {std::int64_t{4}, kTokens})
    all = joined(all, check_adapted_head(isa, dtype, chunk));
  return all;
}

Values check_linear_loss(const std::string& isa, DType dtype) {
  KernelCase c(Op::kLinearLoss, isa);
  const auto h = c.random(dtype, {kTokens, kHidden});
  const auto w = c.random(dtype, {kVocabulary, kHidden});
  const auto targets = c.tensor(DType::kI32, {kTokens}, kTargets);
  const auto logits = c.undefined(dtype, {4, kVocabulary});
  const auto sum = c.tensor(DType::kF64, {1}, {0.25});
  const Values before = c.values(h);
  c.in({h, w, targets})
      .out({logits})
      .update({sum})
      .attributes(program::LossAttributes{4, 2.5})
      .run();
  expect_close(c.values(sum), {0.25 + loss_of(before, c.values(w), 1, 2.5).sum}, dtype, "loss");
  EXPECT_EQ(c.values(h), before);
  return c.values(sum);
}

Values check_square_sum(const std::string& isa, DType dtype) {
  // More than two chunks of the reduction, the last one odd.
  constexpr std::int64_t kCount = 2 * (1 << 15) + 4567;
  double first = 0;
  for (const int threads : {1, 3}) {
    KernelCase c(Op::kSquareSum, isa, threads);
    const auto g = c.random(dtype, {kCount});
    const auto sum = c.tensor(DType::kF64, {1}, {3});
    double want = 3;
    for (const double value : c.values(g)) want += value * value;
    c.in({g}).update({sum}).run();
    const double got = c.values(sum)[0];
    EXPECT_NEAR(got, want, 1e-12 * want);
    if (threads == 1) first = got;
    EXPECT_EQ(got, first) << "the sum depends on the number of threads";
  }
  return {first};
}

namespace {

using Chances = std::map<std::int64_t, double>;

// What transformers' warpers leave of softmax(logits / temperature), by token.
Chances chances_of(const Values& logits, double temperature, std::size_t top_k, double top_p) {
  std::vector<std::pair<double, std::int64_t>> likeliest;
  for (std::size_t i = 0; i < logits.size(); ++i)
    likeliest.emplace_back(std::exp(logits[i] / temperature), static_cast<std::int64_t>(i));
  std::sort(likeliest.rbegin(), likeliest.rend());
  if (top_k > 0) likeliest.resize(std::min(top_k, likeliest.size()));
  double sum = 0;
  for (const auto& [chance, id] : likeliest) sum += chance;
  Chances kept;
  double before = 0;
  for (const auto& [chance, id] : likeliest) {
    if (before >= top_p * sum) break;
    kept[id] = chance;
    before += chance;
  }
  for (auto& [id, chance] : kept) chance /= before;
  return kept;
}

Values draws(const std::string& isa, DType dtype, const Values& logits, std::int64_t count,
             const std::map<Scalar, double>& scalars, double cap) {
  KernelCase c(Op::kNextToken, isa);
  Values all;
  Values row_ids(static_cast<std::size_t>(count));
  std::iota(row_ids.begin(), row_ids.end(), 0.0);
  for (std::int64_t i = 0; i < count; ++i) all.insert(all.end(), logits.begin(), logits.end());
  const auto scores = c.tensor(dtype, {count, static_cast<std::int64_t>(logits.size())}, all);
  const auto rows = c.tensor(DType::kI32, {count}, row_ids);
  const auto ids = c.undefined(DType::kI32, {count});
  for (const auto& [scalar, value] : scalars) c.scalar(scalar, value);
  c.in({scores, rows}).out({ids}).attributes(program::NextTokenAttributes{cap}).run();
  return c.values(ids);
}

void expect_draws(const std::string& isa, DType dtype, double temperature, std::size_t top_k,
                  double top_p, double cap = 0) {
  constexpr std::int64_t kDraws = 4000;
  const Values logits = {0.5, 2, -1, 1.5, 0, 1.75, -3, 0.25};
  Values capped = logits;
  if (cap > 0) {
    for (double& logit : capped) logit = cap * std::tanh(logit / cap);
  }
  std::map<Scalar, double> scalars = {{Scalar::kTemperature, temperature},
                                      {Scalar::kTopK, static_cast<double>(top_k)},
                                      {Scalar::kTopP, top_p},
                                      {Scalar::kSeed, 3},
                                      {Scalar::kStep, 5}};
  const Values drawn = draws(isa, dtype, logits, kDraws, scalars, cap);
  std::map<std::int64_t, int> counts;
  for (const double id : drawn) ++counts[static_cast<std::int64_t>(id)];
  const Chances chances = chances_of(capped, temperature, top_k, top_p);
  for (const auto& [id, count] : counts) EXPECT_TRUE(chances.contains(id)) << "token " << id;
  for (const auto& [id, chance] : chances) {
    const double deviation = std::sqrt(kDraws * chance * (1 - chance));
    EXPECT_NEAR(counts[id], kDraws * chance, 4 * deviation + 1) << "token " << id;
  }
  if (chances.size() == 1) return;
  EXPECT_EQ(draws(isa, dtype, logits, kDraws, scalars, cap), drawn);
  scalars[Scalar::kStep] = 6;
  EXPECT_NE(draws(isa, dtype, logits, kDraws, scalars, cap), drawn);
  scalars[Scalar::kSeed] = 4;
  scalars[Scalar::kStep] = 5;
  EXPECT_NE(draws(isa, dtype, logits, kDraws, scalars, cap), drawn);
}

void check_next_token(const std::string& isa, DType dtype) {
  // The first of equal largest values; a row that is all negative.
  KernelCase likeliest(Op::kNextToken, isa);
  Values scores(2 * 5, -3.0);
  scores[2] = scores[4] = 7;
  scores[5 + 3] = -1;
  const auto logits = likeliest.tensor(dtype, {2, 5}, scores);
  const auto rows = likeliest.tensor(DType::kI32, {2}, {0, 1});
  const auto ids = likeliest.undefined(DType::kI32, {2});
  likeliest.in({logits, rows}).out({ids}).attributes(program::NextTokenAttributes{}).run();
  EXPECT_EQ(likeliest.values(ids), (Values{2, 3}));
  expect_draws(isa, dtype, 1, 0, 1);
  expect_draws(isa, dtype, 0.5, 0, 1);
  expect_draws(isa, dtype, 1, 3, 1);
  expect_draws(isa, dtype, 1, 0, 0.8);
  expect_draws(isa, dtype, 2, 5, 0.6);
  expect_draws(isa, dtype, 1, 1, 0.1);
  expect_draws(isa, dtype, 1, 0, 1, /*cap=*/1);
}

}  // namespace

Values check_generation(const std::string& isa, DType dtype) {
  check_next_token(isa, dtype);

  // Two rows of three tokens go behind the four that their caches of eight hold.
  const program::AttentionAttributes a{
      .rows = 2, .sequence = 3, .heads = 2, .kv_heads = 1, .head_size = 4, .cache = 8};
  KernelCase append(Op::kAppendCache, isa);
  const auto values = append.random(dtype, {2 * 3, 4}, /*row_stride=*/9);
  const auto cache = append.random(dtype, {2 * 8, 4});
  Values want = append.values(cache);
  const Values fresh = append.values(values);
  for (std::size_t row = 0; row < 2; ++row) {
    std::copy_n(fresh.begin() + static_cast<std::ptrdiff_t>(row * 3 * 4), 3 * 4,
                want.begin() + static_cast<std::ptrdiff_t>((row * 8 + 4) * 4));
  }
  append.in({values}).update({cache}).attributes(a).scalar(Scalar::kCacheLength, 4).run();
  EXPECT_EQ(append.values(cache), want);

  KernelCase last(Op::kTakeLast, isa);
  const auto h = last.random(dtype, {2 * 3, 5});
  const auto taken = last.undefined(dtype, {2, 5});
  last.in({h}).out({taken}).attributes(a).run();
  const Values all = last.values(h);
  Values ends(all.begin() + 2 * 5, all.begin() + 3 * 5);
  ends.insert(ends.end(), all.begin() + 5 * 5, all.end());
  EXPECT_EQ(last.values(taken), ends);
  return append.values(cache);
}

}  // namespace ftplan::executor
