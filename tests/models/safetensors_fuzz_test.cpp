#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "models/safetensors_header.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

constexpr int kRounds = 4000;

std::string valid_file() {
  return safetensors_bytes(
      R"({"__metadata__":{"format":"pt"},"a.weight":{"dtype":"BF16","shape":[3,4],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"I64","shape":[2],"data_offsets":[24,40]},"c":{"dtype":"F4","shape":[2,0],)"
      R"("data_offsets":[40,40]},"d":{"dtype":"U8","shape":[],"data_offsets":[40,41]}}  )",
      41);
}

// Pieces of the format's own language reach deeper than random bytes.
const std::vector<std::string>& pieces() {
  static const std::vector<std::string> kPieces = {"{",
                                                   "}",
                                                   "[",
                                                   "]",
                                                   ",",
                                                   ":",
                                                   "\"",
                                                   "0",
                                                   "-1",
                                                   "1e3",
                                                   "9223372036854775807",
                                                   "18446744073709551616",
                                                   "null",
                                                   "true",
                                                   "\"dtype\"",
                                                   "\"shape\"",
                                                   "\"data_offsets\"",
                                                   "\"__metadata__\"",
                                                   "\"F6_E2M3\"",
                                                   "\\u0000",
                                                   "\xff",
                                                   std::string(1, '\0'),
                                                   "[[[[",
                                                   "{\"x\":"};
  return kPieces;
}

void mutate(std::string& bytes, std::mt19937_64& random) {
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  switch (below(6)) {
    case 0:
      bytes[below(bytes.size())] = static_cast<char>(random());
      break;
    case 1:
      bytes.resize(below(bytes.size() + 1));
      break;
    case 2:
      bytes.insert(below(bytes.size() + 1), pieces()[below(pieces().size())]);
      break;
    case 3:
      bytes.erase(below(bytes.size()), 1 + below(8));
      break;
    case 4: {
      const std::size_t at = below(bytes.size());
      bytes.insert(below(bytes.size() + 1), bytes.substr(at, 1 + below(40)));
      break;
    }
    default: {
      const std::string& piece = pieces()[below(pieces().size())];
      bytes.replace(below(bytes.size()), piece.size(), piece);
    }
  }
  // Most rounds keep the length true, or every mutation would end at the first check.
  if (bytes.size() > 8 && below(8) != 0) {
    const std::size_t data =
        below(4) == 0 ? below(bytes.size() - 7) : std::min<std::size_t>(41, bytes.size() - 8);
    const std::uint64_t length = bytes.size() - 8 - data;
    std::memcpy(bytes.data(), &length, sizeof length);
  }
}

// What any accepted header must fulfil, whatever the bytes were.
void check_accepted(const Header& header, std::size_t size) {
  std::int64_t end = 0;
  for (const TensorInfo& tensor : header.tensors) {
    ASSERT_EQ(tensor.begin, end);
    ASSERT_GE(tensor.end, tensor.begin);
    ASSERT_NE(tensor.dtype, nullptr);
    end = tensor.end;
  }
  ASSERT_EQ(header.size.value + end, static_cast<std::int64_t>(size));
}

TEST(SafetensorsFuzz, BrokenBytesAreRefusedOnOneLineAndNeverCrash) {
  int accepted = 0;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);  // the seed
    std::mt19937_64 random(static_cast<std::uint64_t>(round));
    std::string bytes = valid_file();
    for (std::uint64_t count = 1 + random() % 4; count > 0 && !bytes.empty(); --count)
      mutate(bytes, random);
    // A copy of exactly this size, so that a sanitizer sees a read behind it.
    const std::vector<char> exact(bytes.begin(), bytes.end());
    const auto header = parse_header(std::as_bytes(std::span(exact)), "f");
    if (header) {
      ++accepted;
      check_accepted(*header, bytes.size());
    } else {
      ASSERT_EQ(header.error().text().find('\n'), std::string::npos);
      ASSERT_TRUE(header.error().text().starts_with("f: ")) << header.error().text();
    }
  }
  // Most mutations break the file, but some must get through, or they all end at the first check.
  EXPECT_GT(accepted, kRounds / 100);
  EXPECT_LT(accepted, kRounds / 2);
}

}  // namespace
}  // namespace ftplan::models
