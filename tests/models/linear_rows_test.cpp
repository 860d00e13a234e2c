#include "models/linear_rows.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/model_config.h"
#include "models/checkpoint.h"
#include "models/config_reader.h"
#include "models/convert.h"
#include "models/family.h"
#include "models/int8.h"
#include "models/merge.h"
#include "models/nf4.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

// Rows that straddle blocks, more than one group of them for a thread, and a part of a block last.
constexpr std::int64_t kRows = 150;
constexpr std::int64_t kWidth = 13;
const TensorSpec kMatrix{"w", DType::kF32, {kRows, kWidth}};

// All values of `rows`, put together from the parts that threads were handed.
std::vector<float> values_by_parts(const LinearRows& rows, int threads) {
  std::vector<float> all(static_cast<std::size_t>(rows.rows() * rows.width()));
  const auto found = rows.for_each(
      threads,
      [&](std::size_t first, std::span<float> values, std::span<float>) {
        std::copy(values.begin(), values.end(),
                  all.begin() + static_cast<std::ptrdiff_t>(first) * rows.width());
        return Rounding{.squares = static_cast<double>(values.size())};
      },
      nullptr);
  EXPECT_EQ(error_text(found), "ok");
  EXPECT_EQ(found->squares, kRows * kWidth);
  return all;
}

class Rows : public testing::TestWithParam<int> {
 protected:
  Rows() { put_safetensors(temp_ / "m.safetensors", {kMatrix}); }
  TempFolder temp_;
};
INSTANTIATE_TEST_SUITE_P(Threads, Rows, testing::Values(1, 3));

TEST_P(Rows, AreQuantizedAsTheWholeMatrix) {
  const auto file = SafetensorsFile::open(temp_ / "m.safetensors");
  ASSERT_EQ(error_text(file), "ok");
  const LinearRows rows = LinearRows::of_floats(*file->find("w"));
  const std::vector<float> values = toy_values(kMatrix);
  EXPECT_EQ(values_by_parts(rows, GetParam()), values);

  const Nf4Counts counts = nf4_counts(kRows * kWidth);
  std::vector<std::uint8_t> packed(static_cast<std::size_t>(counts.packed));
  std::vector<float> absmax(static_cast<std::size_t>(counts.blocks));
  quantize_nf4(values, packed, absmax);
  std::vector<float> expected(values.size());
  dequantize_nf4(packed, absmax, expected);
  EXPECT_EQ(nf4_scales(rows, /*twice=*/false, GetParam()).absmax, absmax);
  EXPECT_EQ(values_by_parts(rows.quantized(StoredLinears::kNf4, GetParam()), GetParam()), expected);

  const float offset = mean_of(absmax);
  std::vector<std::uint8_t> codes(absmax.size());
  std::vector<float> nested(static_cast<std::size_t>(counts.nested));
  quantize_absmax(absmax, offset, codes, nested);
  dequantize_absmax(codes, nested, offset, absmax);
  dequantize_nf4(packed, absmax, expected);
  EXPECT_EQ(values_by_parts(rows.quantized(StoredLinears::kNf4Double, GetParam()), GetParam()),
            expected);

  for (std::size_t row = 0; row < kRows; ++row) {
    std::vector<std::int8_t> bytes(kWidth);
    const auto from = std::span(values).subspan(row * kWidth, kWidth);
    quantize_int8(from, int8_absmax(from), bytes);
    dequantize_int8(bytes, int8_absmax(from), std::span(expected).subspan(row * kWidth, kWidth));
  }
  EXPECT_EQ(values_by_parts(rows.quantized(StoredLinears::kInt8, GetParam()), GetParam()),
            expected);
}

TEST(ConvertedModel, IsReadAsTheCodesThatWereWritten) {
  const TempFolder temp;
  put_toy_model(temp / "base");
  for (const StoredLinears into :
       {StoredLinears::kNf4, StoredLinears::kNf4Double, StoredLinears::kInt8}) {
    const std::string folder = temp / to_text(into);
    const auto summary =
        merge_adapter({.base = temp / "base", .output = folder, .threads = 3, .into = into});
    ASSERT_EQ(error_text(summary), "ok");
    EXPECT_EQ(summary->merged, 0);
    EXPECT_EQ(summary->converted, /*layers=*/2 * /*linears=*/7);
    const auto config = read_config(get(folder + "/config.json"), "config.json");
    ASSERT_EQ(error_text(config), "ok");
    EXPECT_EQ(config->stored_linears, into);
    const auto checkpoint = Checkpoint::open(folder);
    ASSERT_EQ(error_text(checkpoint), "ok");
    EXPECT_EQ(error_text(check_weights(*checkpoint, *config)), "ok");

    // Floats of the codes are those of the same rounding at once.
    ASSERT_EQ(error_text(merge_adapter({.base = folder, .output = folder + "-values"})), "ok");
    ASSERT_EQ(error_text(merge_adapter(
                  {.base = temp / "base", .output = folder + "-at-once", .trained = into})),
              "ok");
    EXPECT_EQ(get(folder + "-values/model.safetensors"),
              get(folder + "-at-once/model.safetensors"));
    EXPECT_NE(get(folder + "-values/model.safetensors"), get(temp / "base/model.safetensors"));
  }
}

}  // namespace
}  // namespace ftplan::models
