#include "models/safetensors_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "core/shape.h"
#include "core/units.h"
#include "models/safetensors.h"
#include "models/safetensors_header.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

std::vector<TensorSpec> mixed_specs() {
  return {{"b", DType::kF32, {2, 3}}, {"a", DType::kF32, {}},
          {"half", DType::kF16, {5}}, {"n", DType::kI64, {1}},
          {"empty", DType::kU8, {0}}, {"brain", DType::kBf16, {1, 1, 3}}};
}

TEST(SafetensorsHeader, SortsByAlignmentThenByName) {
  std::vector<std::string> names;
  for (const TensorSpec& spec : file_order(mixed_specs())) names.push_back(spec.name);
  EXPECT_EQ(names, (std::vector<std::string>{"n", "a", "b", "brain", "half", "empty"}));
}

TEST(SafetensorsHeader, IsPaddedToEightBytes) {
  const std::vector<TensorSpec> specs = {{"w", DType::kF32, {2, 3}}};
  // {"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}: 88
  // characters
  const std::string json =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
  const std::string header = render_header(specs, torch_metadata());
  EXPECT_EQ(header.substr(8), json + std::string((8 - json.size() % 8) % 8, ' '));
  EXPECT_EQ(static_cast<std::uint8_t>(header[0]), header.size() - 8);
  EXPECT_EQ(header_size(specs).value, static_cast<std::int64_t>(header.size()));
  EXPECT_EQ(file_size(specs).value, static_cast<std::int64_t>(header.size()) + /*2*3*4=*/24);
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  const TempFolder temp;
  put_safetensors(temp / "f", mixed_specs());
  EXPECT_EQ(get(temp / "f").size(), static_cast<std::size_t>(file_size(mixed_specs()).value));
  const auto file = SafetensorsFile::open(temp / "f");
  ASSERT_EQ(error_text(file), "ok");
  for (const TensorSpec& spec : mixed_specs()) {
    const TensorView* tensor = file->find(spec.name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(*spec_of(*tensor), spec);
    EXPECT_EQ(std::vector(tensor->bytes.begin(), tensor->bytes.end()), toy_bytes(spec));
  }
}

TEST(SafetensorsWriter, PiecesInAnyOrderGiveTheSameFile) {
  const TempFolder temp;
  put_safetensors(temp / "whole", mixed_specs());
  auto writer = SafetensorsWriter::create(temp / "pieces", mixed_specs());
  ASSERT_EQ(error_text(writer), "ok");
  for (std::size_t at = 0; at < 24;
       at += 3) {  // round robin over the tensors, three bytes at a time
    for (const TensorSpec& spec : mixed_specs()) {
      const std::vector<std::byte> bytes = toy_bytes(spec);
      if (at >= bytes.size()) continue;
      const std::size_t size = std::min<std::size_t>(3, bytes.size() - at);
      ASSERT_EQ(error_text(writer->write(spec.name, std::span(bytes).subspan(at, size))), "ok");
    }
  }
  ASSERT_TRUE(writer->complete());
  ASSERT_EQ(error_text(writer->finish()), "ok");
  EXPECT_EQ(get(temp / "pieces"), get(temp / "whole"));
}

TEST(SafetensorsWriter, TheNameAppearsOnlyWhenTheFileIsComplete) {
  const TempFolder temp;
  {
    auto writer = SafetensorsWriter::create(temp / "f", {{"a", DType::kF32, {2}}});
    ASSERT_EQ(error_text(writer), "ok");
    EXPECT_EQ(temp.names(), std::vector<std::string>{"f.partial"});
    EXPECT_FALSE(writer->complete());
  }
  EXPECT_TRUE(temp.names().empty());  // given up
}

TEST(SafetensorsWriter, AMappedFileSurvivesItsReplacement) {
  const TempFolder temp;
  const std::vector<TensorSpec> specs = {{"a", DType::kF32, {2}}};
  put_safetensors(temp / "f", specs);
  const auto old = SafetensorsFile::open(temp / "f");
  ASSERT_EQ(error_text(old), "ok");
  put_safetensors(temp / "f", {{"other", DType::kU8, {1}}});
  EXPECT_EQ(std::vector(old->find("a")->bytes.begin(), old->find("a")->bytes.end()),
            toy_bytes(specs[0]));
}

TEST(SafetensorsWriter, SaysWhatTheDiskLacksBeforeWriting) {
  const TempFolder temp;
  const auto writer =
      SafetensorsWriter::create(temp / "f", {{"a", DType::kF32, {std::int64_t{1} << 50}}});
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.error().code, ErrorCode::kRunFailed);
  EXPECT_EQ(writer.error().where, temp / "f");
  // 2^50 * 4 bytes = 4194304 GiB
  EXPECT_TRUE(writer.error().message.starts_with("the disk is full: 4194304.00 GiB needed, "))
      << writer.error().message;
  EXPECT_TRUE(writer.error().message.ends_with(" GiB missing"));
  EXPECT_TRUE(temp.names().empty());
}

TEST(SafetensorsWriterDeathTest, MoreBytesThanAnnouncedAreABug) {
  const TempFolder temp;
  auto writer = SafetensorsWriter::create(temp / "f", {{"a", DType::kU8, {2}}});
  ASSERT_EQ(error_text(writer), "ok");
  const std::vector<std::byte> three(3);
  EXPECT_DEATH((void)writer->write("a", three), "");
  EXPECT_DEATH((void)writer->write("b", std::span(three).first(1)), "");
}

}  // namespace
}  // namespace ftplan::models
