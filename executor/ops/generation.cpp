#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/dtype.h"
#include "executor/call.h"
#include "executor/ops/philox.h"
#include "executor/ops/simd.h"
#include "program/attributes.h"
#include "program/step_program.h"

namespace ftplan::executor::FTPLAN_ISA {
namespace {

struct Choice {
  double score;  // logit / temperature, then its share of the probability, not normalized
  std::int64_t id;
};

bool is_likelier(const Choice& a, const Choice& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

template <class T>
std::int32_t likeliest(const T* row, std::int64_t width) {
  std::int64_t best = 0;
  for (std::int64_t i = 1; i < width; ++i) {
    if (widen(row[i]) > widen(row[best])) best = i;
  }
  return static_cast<std::int32_t>(best);
}

struct Sampling {
  double temperature, top_p, cap;
  std::int64_t top_k;
  std::uint64_t seed;
  std::uint32_t step;

  explicit Sampling(const Call& call)
      : temperature(call.scalar(program::Scalar::kTemperature)),
        top_p(call.scalar(program::Scalar::kTopP)),
        cap(call.attributes<program::NextTokenAttributes>().cap),
        top_k(static_cast<std::int64_t>(call.scalar(program::Scalar::kTopK))),
        seed(static_cast<std::uint64_t>(call.scalar(program::Scalar::kSeed))),
        step(static_cast<std::uint32_t>(call.scalar(program::Scalar::kStep))) {}

  // In [0, 1).
  [[nodiscard]] double uniform(std::int32_t row_id) const {
    const Philox random{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    const auto words = random(step, static_cast<std::uint32_t>(row_id), 0, 0);
    return (static_cast<double>(words[0]) + static_cast<double>(words[1]) / 4294967296.0) /
           4294967296.0;
  }

  template <class T>
  [[nodiscard]] std::int32_t draw(const T* row, std::int32_t row_id,
                                  std::span<Choice> choices) const {
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const double logit = widen(row[i]);
      choices[i] = {(cap > 0 ? cap * std::tanh(logit / cap) : logit) / temperature,
                    static_cast<std::int64_t>(i)};
    }
    // Tokens as likely as the last of the largest stay too.
    if (top_k > 0 && top_k < static_cast<std::int64_t>(choices.size())) {
      const auto last = choices.begin() + (top_k - 1);
      std::nth_element(choices.begin(), last, choices.end(), is_likelier);
      const double least = last->score;
      const auto end =
          std::partition(last, choices.end(), [&](const Choice& c) { return c.score >= least; });
      choices = choices.first(static_cast<std::size_t>(end - choices.begin()));
    }
    std::sort(choices.begin(), choices.end(), is_likelier);
    const double most = choices.front().score;
    double sum = 0;
    for (Choice& choice : choices) sum += choice.score = std::exp(choice.score - most);
    // A token goes when it and all that are less likely make up no more than 1 - top_p.
    double left = 0;
    while (choices.size() > 1 && left + choices.back().score <= (1 - top_p) * sum) {
      left += choices.back().score;
      choices = choices.first(choices.size() - 1);
    }
    double at = uniform(row_id) * (sum - left);
    for (const Choice& choice : choices) {
      at -= choice.score;
      if (at < 0) return static_cast<std::int32_t>(choice.id);
    }
    return static_cast<std::int32_t>(choices.back().id);
  }
};

}  // namespace

void append_cache(Call& call) {
  const auto& a = call.attributes<program::AttentionAttributes>();
  const View values = call.in[0];
  const View cache = call.update[0];
  const auto length = static_cast<std::int64_t>(call.scalar(program::Scalar::kCacheLength));
  const std::int64_t row_bytes = values.width() * size_of(values.dtype()).value;
  with_type(values.dtype(), [&]<class T>(T) {
    for (std::int64_t row = 0; row < a.rows; ++row) {
      for (std::int64_t token = 0; token < a.sequence; ++token) {
        std::memcpy(row_of<T>(cache, row * a.cache + length + token),
                    row_of<T>(values, row * a.sequence + token),
                    static_cast<std::size_t>(row_bytes));
      }
    }
  });
}

void take_last(Call& call) {
  const auto& a = call.attributes<program::AttentionAttributes>();
  const View h = call.in[0];
  const std::int64_t row_bytes = h.width() * size_of(h.dtype()).value;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    std::memcpy(call.out[0].data + row * row_bytes,
                h.data + ((row + 1) * a.sequence - 1) * row_bytes,
                static_cast<std::size_t>(row_bytes));
  }
}

void next_token(Call& call) {
  const View logits = call.in[0];
  const Sampling sampling(call);
  const std::span<Choice> choices = call.scratch.take_array<Choice>(logits.width());
  with_type(logits.dtype(), [&]<class T>(T) {
    for (std::int64_t r = 0; r < logits.rows(); ++r) {
      const T* row = row_of<T>(logits, r);
      const std::int32_t row_id = call.in[1].as<std::int32_t>()[r];
      call.out[0].as<std::int32_t>()[r] = sampling.temperature > 0
                                              ? sampling.draw(row, row_id, choices)
                                              : likeliest(row, logits.width());
    }
  });
}

}  // namespace ftplan::executor::FTPLAN_ISA
