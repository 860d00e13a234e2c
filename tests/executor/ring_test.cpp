#include "executor/ring.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "core/dtype.h"
#include "executor/transport.h"
#include "models/convert.h"
#include "program/ops/collective.h"

namespace ftplan::executor {
namespace {

// Messages between threads, by sender, receiver and tag.
class Mailbox {
 public:
  void put(int from, int to, std::int32_t tag, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    mail_[{from, to, tag}].emplace_back(bytes.begin(), bytes.end());
    arrived_.notify_all();
  }
  std::vector<std::byte> take(int from, int to, std::int32_t tag) {
    std::unique_lock lock(mutex_);
    auto& queue = mail_[{from, to, tag}];
    arrived_.wait(lock, [&] { return !queue.empty(); });
    std::vector<std::byte> bytes = std::move(queue.front());
    queue.pop_front();
    return bytes;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<std::tuple<int, int, std::int32_t>, std::deque<std::vector<std::byte>>> mail_;
};

class MailTransport final : public Transport {
 public:
  MailTransport(Mailbox& mail, int rank, int ranks) : mail_(mail), rank_(rank), ranks_(ranks) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int ranks() const override { return ranks_; }
  std::unique_ptr<Transfer> send(int to, std::int32_t tag,
                                 std::span<const std::byte> bytes) override {
    sent += static_cast<std::int64_t>(bytes.size());
    mail_.put(rank_, to, tag, bytes);
    return std::make_unique<Now>([] {});
  }
  // Arrives as late as possible.
  std::unique_ptr<Transfer> receive(int from, std::int32_t tag,
                                    std::span<std::byte> bytes) override {
    return std::make_unique<Now>([this, from, tag, bytes] {
      const auto mail = mail_.take(from, rank_, tag);
      ASSERT_EQ(mail.size(), bytes.size());
      std::memcpy(bytes.data(), mail.data(), mail.size());
    });
  }
  void abort() override {}

  std::int64_t sent = 0;

 private:
  class Now final : public Transfer {
   public:
    explicit Now(std::function<void()> work) : work_(std::move(work)) {}
    void wait() override { work_(); }

   private:
    std::function<void()> work_;
  };

  Mailbox& mail_;
  int rank_, ranks_;
};

struct Case {
  int ranks = 2;
  DType dtype = DType::kF32;
  std::int64_t elements = 0;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.ranks << " ranks, " << to_text(c.dtype) << " " << c.elements;
}

// As doubles: exact for every type that is added.
std::vector<double> numbers_of(std::span<const std::byte> bytes, DType dtype) {
  const std::size_t count = bytes.size() / static_cast<std::size_t>(size_of(dtype).value);
  std::vector<double> numbers(count);
  if (dtype == DType::kF64) {
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
    return numbers;
  }
  std::vector<float> values(count);
  models::to_f32(bytes, dtype, values);
  return {values.begin(), values.end()};
}

std::vector<std::byte> bytes_of(const std::vector<double>& numbers, DType dtype) {
  std::vector<std::byte> bytes(numbers.size() * static_cast<std::size_t>(size_of(dtype).value));
  if (dtype == DType::kF64) {
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
    return bytes;
  }
  const std::vector<float> values(numbers.begin(), numbers.end());
  models::from_f32(values, dtype, bytes);
  return bytes;
}

float rounded(float value, DType dtype) {
  if (dtype == DType::kBf16) return models::bf16_to_f32(models::f32_to_bf16(value));
  if (dtype == DType::kF16) return models::f16_to_f32(models::f32_to_f16(value));
  return value;
}

class Rings : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    for (int rank = 0; rank < GetParam().ranks; ++rank) {
      std::vector<double> numbers(static_cast<std::size_t>(GetParam().elements));
      for (double& number : numbers) number = normal(random);
      values_.push_back(bytes_of(numbers, GetParam().dtype));
    }
  }

  // Each rank on a thread of its own; bytes that each has sent.
  std::vector<std::int64_t> run(const std::function<void(Transport&)>& work) const {
    Mailbox mail;
    std::vector<std::int64_t> sent(values_.size());
    std::vector<std::thread> threads;
    for (std::size_t rank = 0; rank < values_.size(); ++rank) {
      threads.emplace_back([&, rank] {
        MailTransport transport(mail, static_cast<int>(rank), GetParam().ranks);
        work(transport);
        sent[rank] = transport.sent;
      });
    }
    for (std::thread& thread : threads) thread.join();
    return sent;
  }

  // What the order of the ring makes of element i of part p, rounded at each hop; at the last after
  // it was added to `onto`.
  [[nodiscard]] std::vector<std::byte> expected(float onto = 0) const {
    const auto [ranks, dtype, elements] = GetParam();
    const std::int64_t part = program::ring_buffers(elements, dtype, ranks).part;
    std::vector<std::vector<double>> numbers;
    for (const auto& values : values_) numbers.push_back(numbers_of(values, dtype));
    std::vector<double> sums(static_cast<std::size_t>(elements));
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const int owner = static_cast<int>(static_cast<std::int64_t>(i) / part);
      double sum = 0;
      for (int hop = 1; hop <= ranks; ++hop) {
        const double next = numbers[static_cast<std::size_t>((owner + hop) % ranks)][i];
        const float before = hop == ranks ? onto : 0;
        if (hop == 1) {
          sum = next;
        } else if (dtype == DType::kF64) {
          sum = before + (sum + next);
        } else {
          const float added = static_cast<float>(sum) + static_cast<float>(next);
          sum = rounded(before + added, dtype);
        }
      }
      sums[i] = sum;
    }
    return bytes_of(sums, dtype);
  }

  [[nodiscard]] program::RingBuffers ring() const {
    return program::ring_buffers(GetParam().elements, GetParam().dtype, GetParam().ranks);
  }
  [[nodiscard]] std::int64_t part_bytes() const {
    return ring().part * size_of(GetParam().dtype).value;
  }

  std::vector<std::vector<std::byte>> values_;
};

// A piece of 1 MiB has 262,144 f32: parts of one, two and three pieces.
INSTANTIATE_TEST_SUITE_P(
    Sizes, Rings,
    testing::Values(Case{2, DType::kF32, 512}, Case{2, DType::kF32, 2 * 300'032},
                    Case{2, DType::kF32, 2 * 600'064}, Case{3, DType::kF32, 768},
                    Case{3, DType::kF32, 3 * 600'064}, Case{4, DType::kF32, 1024},
                    Case{3, DType::kBf16, 768}, Case{3, DType::kBf16, 3 * 530'176},
                    Case{3, DType::kF16, 768}, Case{4, DType::kF64, 1024}));

TEST_P(Rings, ReduceScatterAddsInTheOrderOfTheRing) {
  std::vector<std::vector<std::byte>> parts(values_.size());
  const auto sent = run([&](Transport& transport) {
    std::vector<std::byte> buffer(static_cast<std::size_t>(ring().total().value));
    const auto rank = static_cast<std::size_t>(transport.rank());
    parts[rank].resize(static_cast<std::size_t>(part_bytes()));
    ring_reduce_scatter(transport, {.dtype = GetParam().dtype,
                                    .whole = values_[rank],
                                    .result = parts[rank].data(),
                                    .ring = ring(),
                                    .buffer = buffer});
  });
  std::vector<std::byte> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  EXPECT_EQ(all, expected());
  for (const std::int64_t bytes : sent) EXPECT_EQ(bytes, (GetParam().ranks - 1) * part_bytes());
}

TEST_P(Rings, ReduceScatterMayWriteOverItsOwnPart) {
  auto values = values_;
  run([&](Transport& transport) {
    std::vector<std::byte> buffer(static_cast<std::size_t>(ring().total().value));
    auto& own = values[static_cast<std::size_t>(transport.rank())];
    ring_reduce_scatter(transport, {.dtype = GetParam().dtype,
                                    .whole = own,
                                    .result = own.data() + transport.rank() * part_bytes(),
                                    .ring = ring(),
                                    .buffer = buffer});
  });
  const auto sums = expected();
  for (int rank = 0; rank < GetParam().ranks; ++rank) {
    const std::size_t begin = static_cast<std::size_t>(rank * part_bytes());
    EXPECT_EQ(std::memcmp(values[static_cast<std::size_t>(rank)].data() + begin,
                          sums.data() + begin, static_cast<std::size_t>(part_bytes())),
              0);
  }
}

TEST_P(Rings, ReduceScatterAddsToWhatIsThere) {
  const DType dtype = GetParam().dtype;
  const auto ones = bytes_of(std::vector<double>(static_cast<std::size_t>(ring().part), 1), dtype);
  std::vector<std::vector<std::byte>> parts(values_.size(), ones);
  run([&](Transport& transport) {
    std::vector<std::byte> buffer(static_cast<std::size_t>(ring().total().value));
    const auto rank = static_cast<std::size_t>(transport.rank());
    ring_reduce_scatter(transport, {.dtype = dtype,
                                    .whole = values_[rank],
                                    .result = parts[rank].data(),
                                    .accumulates = true,
                                    .ring = ring(),
                                    .buffer = buffer});
  });
  std::vector<std::byte> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  EXPECT_EQ(all, expected(1));
}

// As gradients in 16 bits are, over micro-steps.
TEST(RingSums, Of16BitsMayBeKeptInF32) {
  Mailbox mail;
  const std::vector<double> numbers = {1, 2, 3, 4};
  const std::vector<std::byte> whole = bytes_of(numbers, DType::kBf16);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      MailTransport transport(mail, rank, 2);
      const auto ring = program::ring_buffers(4, DType::kBf16, 2);
      std::vector<std::byte> buffer(static_cast<std::size_t>(ring.total().value));
      std::vector<float> sums = {0x1p-20F, 0x1p-20F};
      ring_reduce_scatter(transport, {.dtype = DType::kBf16,
                                      .whole = whole,
                                      .result = reinterpret_cast<std::byte*>(sums.data()),
                                      .result_dtype = DType::kF32,
                                      .accumulates = true,
                                      .ring = ring,
                                      .buffer = buffer});
      const float first = rank == 0 ? 1 : 3;
      EXPECT_EQ(sums, (std::vector{2 * first + 0x1p-20F, 2 * (first + 1) + 0x1p-20F}));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(Rings, AllGatherBringsEachPartToAll) {
  auto values = values_;
  const auto sent = run([&](Transport& transport) {
    ring_all_gather(transport, values[static_cast<std::size_t>(transport.rank())], part_bytes());
  });
  for (const auto& gathered : values) {
    for (int from = 0; from < GetParam().ranks; ++from) {
      const std::size_t begin = static_cast<std::size_t>(from * part_bytes());
      EXPECT_EQ(std::memcmp(gathered.data() + begin,
                            values_[static_cast<std::size_t>(from)].data() + begin,
                            static_cast<std::size_t>(part_bytes())),
                0);
    }
  }
  for (const std::int64_t bytes : sent) EXPECT_EQ(bytes, (GetParam().ranks - 1) * part_bytes());
}

// Parts of a few values are short, or empty.
class FewValues : public Rings {};
INSTANTIATE_TEST_SUITE_P(Counts, FewValues,
                         testing::Values(Case{2, DType::kF64, 1}, Case{3, DType::kF64, 1},
                                         Case{4, DType::kF32, 5}, Case{4, DType::kF64, 7}));

TEST_P(FewValues, AllReduceGivesAllTheSameBits) {
  auto values = values_;
  run([&](Transport& transport) {
    std::vector<std::byte> buffer(static_cast<std::size_t>(ring().total().value));
    auto& own = values[static_cast<std::size_t>(transport.rank())];
    const auto size = static_cast<std::int64_t>(own.size());
    ring_reduce_scatter(transport,
                        {.dtype = GetParam().dtype,
                         .whole = own,
                         .result = own.data() + std::min(transport.rank() * part_bytes(), size),
                         .ring = ring(),
                         .buffer = buffer});
    ring_all_gather(transport, own, part_bytes());
  });
  for (const auto& sums : values) EXPECT_EQ(sums, expected());
}

TEST(RingBuffers, AreTwoPiecesPerLaneWhereSumsArePassedOn) {
  EXPECT_EQ(program::ring_buffers(512, DType::kF32, 1).total(), Bytes{});
  // One lane with one buffer: the sum goes where it stays.
  EXPECT_EQ(program::ring_buffers(512, DType::kF32, 2).total().value, /*part=*/256 * 4);
  EXPECT_EQ(program::ring_buffers(768, DType::kF32, 3).total().value, /*buffers=*/2 * 256 * 4);
  // Many pieces: two lanes of 1 MiB.
  EXPECT_EQ(program::ring_buffers(1 << 24, DType::kBf16, 2).total().value, 2 * 1024 * 1024);
  EXPECT_EQ(program::ring_buffers(1 << 24, DType::kF32, 4).total().value, 2 * 2 * 1024 * 1024);
}

}  // namespace
}  // namespace ftplan::executor
