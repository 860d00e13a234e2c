#include "models/safetensors.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "models/safetensors_header.h"
#include "tests/models/support.h"

namespace ftplan::models {
namespace {

// Parses a header by hand in front of `data` bytes.
std::string parse_error(std::string_view json, std::size_t data) {
  const std::string bytes = safetensors_bytes(json, data);
  return error_text(parse_header(std::as_bytes(std::span(bytes)), "f"));
}

TEST(Safetensors, ReadsScalarsEmptyTensorsAndMetadata) {
  const TempFolder temp;
  put(temp / "f", safetensors_bytes(R"({"__metadata__":{"format":"pt"},
    "empty":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},
    "scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   )",
                                    4));
  const auto file = SafetensorsFile::open(temp / "f");
  ASSERT_EQ(error_text(file), "ok");
  EXPECT_EQ(file->metadata(), torch_metadata());
  ASSERT_EQ(file->tensors().size(), 2U);
  EXPECT_EQ(file->tensors()[0].name, "scalar");  // in the order of bytes
  EXPECT_EQ(*file->find("scalar")->shape(), Shape());
  EXPECT_EQ(file->find("scalar")->bytes.size(), 4U);
  EXPECT_EQ(*file->find("empty")->shape(), (Shape{0, 7}));
  EXPECT_TRUE(file->find("empty")->bytes.empty());
  EXPECT_EQ(file->find("other"), nullptr);
}

TEST(Safetensors, AFileWithoutTensorsIsValid) {
  EXPECT_EQ(parse_error("{}", 0), "ok");
  EXPECT_EQ(parse_error(R"({"__metadata__":{}})", 0), "ok");
}

TEST(Safetensors, KeysThatTheFormatLacksAreIgnored) {
  EXPECT_EQ(parse_error(R"({"a":{"x":[1,{"dtype":[]}],"dtype":"U8","y":null,"shape":[1],"z":"dtype",
                           "data_offsets":[0,1],"w":{"shape":2}}})",
                        1),
            "ok");
}

TEST(Safetensors, WhatFtplanDoesNotComputeWithIsRefusedOnlyWhenUsed) {
  const TempFolder temp;
  put(temp / "f", safetensors_bytes(
                      R"({"a":{"dtype":"F8_E4M3","shape":[1,1,1,1,2],"data_offsets":[0,2]}})", 2));
  const auto file = SafetensorsFile::open(temp / "f");
  ASSERT_EQ(error_text(file), "ok");
  const TensorView& tensor = file->tensors()[0];
  EXPECT_EQ(tensor.shape_text(), "[1, 1, 1, 1, 2]");
  EXPECT_EQ(error_text(tensor.dtype(), temp.path()),
            "f: tensor \"a\" has elements of type F8_E4M3, expected F32 | BF16 | F16 | F64 | I64 | "
            "I32 | I16 | "
            "I8 | U8 | BOOL");
  EXPECT_EQ(error_text(tensor.shape(), temp.path()),
            "f: tensor \"a\" has 5 dimensions, expected 0..4");
}

TEST(Safetensors, SubByteElementsMustFillTheirBytes) {
  EXPECT_EQ(parse_error(R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}})", 2), "ok");
  EXPECT_EQ(parse_error(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2),
            "f: tensor \"a\": its F4 elements end inside a byte");
}

TEST(Safetensors, ReleasedPagesAreReadAgain) {
  const TempFolder temp;
  const std::vector<TensorSpec> specs = {{"a", DType::kF32, {5000}}, {"b", DType::kF32, {5000}}};
  put_safetensors(temp / "f", specs);
  const auto file = SafetensorsFile::open(temp / "f");
  ASSERT_EQ(error_text(file), "ok");
  for (const TensorSpec& spec : specs) {
    const TensorView& tensor = *file->find(spec.name);
    tensor.release();
    EXPECT_EQ(std::vector(tensor.bytes.begin(), tensor.bytes.end()), toy_bytes(spec));
  }
}

TEST(Safetensors, AViewOutlivesTheFileThatWasMoved) {
  const TempFolder temp;
  put_safetensors(temp / "f", {{"a", DType::kF32, {2}}});
  auto file = SafetensorsFile::open(temp / "f");
  ASSERT_EQ(error_text(file), "ok");
  const TensorView* tensor = file->find("a");
  const SafetensorsFile moved = *std::move(file);
  EXPECT_EQ(moved.find("a"), tensor);
  EXPECT_EQ(tensor->file->path(), temp / "f");
}

TEST(Safetensors, NamesTheFileThatCannotBeOpened) {
  const TempFolder temp;
  EXPECT_EQ(error_text(SafetensorsFile::open(temp / "x"), temp.path()),
            "x: cannot be opened: No such file or directory");
  EXPECT_EQ(SafetensorsFile::open(temp.path()).error().message, "is not a file");
}

TEST(Safetensors, RefusesFilesWithoutAHeader) {
  const auto parse = [](std::string bytes) {
    return error_text(parse_header(std::as_bytes(std::span(bytes)), "f"));
  };
  EXPECT_EQ(parse(""), "f: has 0 bytes, a safetensors file has at least 8");
  EXPECT_EQ(parse("1234567"), "f: has 7 bytes, a safetensors file has at least 8");
  EXPECT_EQ(parse(std::string(8, '\xff')),
            "f: its header claims 18446744073709551615 bytes, more than 100000000: not a "
            "safetensors file");
  EXPECT_EQ(parse(std::string("\x03\0\0\0\0\0\0\0{}", 10)),
            "f: its header claims 3 bytes of a file of 10: the file is cut off");
  EXPECT_EQ(parse(std::string(8, '\0')), "f: its header does not begin with '{'");
}

struct Malformed {
  const char* header;
  std::size_t data;
  const char* message;
};

class MalformedHeader : public testing::TestWithParam<Malformed> {};

TEST_P(MalformedHeader, IsRefusedWithItsReason) {
  EXPECT_EQ(parse_error(GetParam().header, GetParam().data),
            std::string("f: ") + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Json, MalformedHeader,
    testing::Values(
        Malformed{" {}", 0, "its header does not begin with '{'"},
        Malformed{"[]", 0, "its header does not begin with '{'"},
        Malformed{"{", 0, "not valid UTF-8 JSON at byte 2 of the header"},
        Malformed{"{} x", 0, "not valid UTF-8 JSON at byte 4 of the header"},
        Malformed{"{\"\xff\":1}", 0, "not valid UTF-8 JSON at byte 3 of the header"},
        Malformed{"{\"a\":\"\\ud800\"}", 0,
                  "tensor \"a\": not valid UTF-8 JSON at byte 13 of the header"},
        Malformed{R"({"a":1})", 0, "tensor \"a\": got 1, expected an object"},
        Malformed{R"({"a":null})", 0, "tensor \"a\": got null, expected an object"},
        Malformed{R"({"a":[]})", 0, "tensor \"a\": got a list, expected an object"},
        Malformed{R"({"__metadata__":null})", 0, "__metadata__ is null, expected an object"},
        Malformed{R"({"__metadata__":{"a":1}})", 0, "__metadata__ holds 1, expected strings"},
        Malformed{R"({"__metadata__":{"a":{}}})", 0,
                  "__metadata__ holds an object, expected strings"},
        Malformed{R"({"__metadata__":{"a":"1","a":"2"}})", 0,
                  "__metadata__ has two keys named \"a\""},
        Malformed{R"({"__metadata__":{},"__metadata__":{}})", 0,
                  "two keys are named __metadata__"}));

INSTANTIATE_TEST_SUITE_P(
    Tensors, MalformedHeader,
    testing::Values(
        Malformed{R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1,
                  "tensor \"a\": its dtype is missing"},
        Malformed{R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1,
                  "tensor \"a\": its shape is missing"},
        Malformed{R"({"a":{"dtype":"U8","shape":[1]}})", 1,
                  "tensor \"a\": its data_offsets are missing"},
        Malformed{R"({"a":{"dtype":"Q8","shape":[1],"data_offsets":[0,1]}})", 1,
                  "tensor \"a\": dtype \"Q8\" is not known"},
        Malformed{R"({"a":{"dtype":7}})", 0, "tensor \"a\": dtype is 7, expected a string"},
        Malformed{R"({"a":{"shape":7}})", 0, "tensor \"a\": shape is 7, expected a list"},
        Malformed{R"({"a":{"shape":[-1]}})", 0,
                  "tensor \"a\": shape holds -1, expected integers from 0"},
        Malformed{R"({"a":{"shape":[1.0]}})", 0,
                  "tensor \"a\": shape holds 1.0, expected integers from 0"},
        Malformed{R"({"a":{"shape":[[1]]}})", 0,
                  "tensor \"a\": shape holds a list, expected integers from 0"},
        Malformed{R"({"a":{"shape":[18446744073709551615]}})", 0,
                  "tensor \"a\": 18446744073709551615 is beyond 63 bits"},
        Malformed{R"({"a":{"data_offsets":{}}})", 0,
                  "tensor \"a\": data_offsets is an object, expected a list"},
        Malformed{R"({"a":{"data_offsets":[0]}})", 0,
                  "tensor \"a\": data_offsets has 1 numbers, expected 2"},
        Malformed{R"({"a":{"data_offsets":[0,1,2]}})", 0,
                  "tensor \"a\": data_offsets has 3 numbers, expected 2"},
        Malformed{R"({"a":{"dtype":"U8","dtype":"U8"}})", 0,
                  "tensor \"a\": it has two keys named dtype"},
        Malformed{R"({"a":{"shape":[],"shape":[]}})", 0,
                  "tensor \"a\": it has two keys named shape"},
        Malformed{R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},
                      "a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                  0, "tensor \"a\": two tensors have this name"},
        Malformed{"{\"a\\nb\":{}}", 0, "tensor \"a\\nb\": its dtype is missing"}));

INSTANTIATE_TEST_SUITE_P(
    Offsets, MalformedHeader,
    testing::Values(
        Malformed{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2,
                  "tensor \"a\": offsets [1, 2] leave a hole, expected to begin at 0"},
        Malformed{R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                      "b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                  3, "tensor \"b\": offsets [1, 3] overlap another tensor, expected to begin at 2"},
        Malformed{R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                      "b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
                  5, "tensor \"b\": offsets [3, 5] leave a hole, expected to begin at 2"},
        Malformed{R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2,
                  "tensor \"a\": offsets [2, 0] end before they begin"},
        Malformed{R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", 7,
                  "tensor \"a\": offsets [0, 7], but its shape and F32 need 8 bytes"},
        Malformed{R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
                  8, "tensor \"a\": its shape has more bytes than 64 bits count"},
        Malformed{R"({"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,8]}})", 8,
                  "tensor \"a\": its shape has more bytes than 64 bits count"},
        Malformed{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 0,
                  "its tensors end at byte 62, the file at 61: the file is cut off"},
        Malformed{R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 3,
                  "its tensors end at byte 62, the file at 64"}));

TEST(Safetensors, ANulByteDoesNotEndTheHeader) {
  EXPECT_EQ(parse_error(std::string_view("{}\0{}", 5), 0), "f: its header holds a NUL byte");
}

}  // namespace
}  // namespace ftplan::models
