// Encodes and decodes what comes on stdin with the tokenizer of a folder, for tests that compare
// with other implementations. One JSON value a line: a string is encoded and decoded again, a list
// of ids is decoded.
//   out: {"ids": body, "ends": the offset in bytes behind each, "all": with what the tokenizer puts
//   around, "text": decoded, "stream": id by id}
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "core/json.h"
#include "data/tokenizer.h"

namespace {

using ftplan::Json;

std::string stream(const ftplan::data::Tokenizer& tokenizer, const std::vector<std::int32_t>& ids) {
  ftplan::data::StreamDecoder decoder(tokenizer);
  std::string text;
  for (const std::int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

Json answer(const ftplan::data::Tokenizer& tokenizer, ftplan::data::Encoder& encoder,
            const Json& question) {
  using ftplan::data::SpecialText;
  if (question.is_array()) {
    const auto ids = question.get<std::vector<std::int32_t>>();
    return {{"text", tokenizer.decode(ids)},
            {"shown", tokenizer.decode(ids, SpecialText::kShow)},
            {"stream", stream(tokenizer, ids)}};
  }
  const auto text = question.get<std::string>();
  const auto body = encoder.encode(text);
  if (!body) return {{"error", body.error().text()}};
  const std::vector<std::int32_t> ids(body->begin(), body->end());
  const auto tracked = encoder.encode_with_ends(text);
  const auto all = tokenizer.encode(text);
  if (!tracked || !all) return {{"error", "only with ends, or only with special tokens"}};
  const bool same = std::equal(ids.begin(), ids.end(), tracked->ids.begin(), tracked->ids.end());
  return {{"ids", ids},
          {"ends", same ? Json(std::vector<std::size_t>(tracked->ends.begin(), tracked->ends.end()))
                        : Json("other ids with ends than without")},
          {"all", *all},
          {"text", tokenizer.decode(*all)},
          {"shown", tokenizer.decode(*all, SpecialText::kShow)},
          {"stream", stream(tokenizer, *all)}};
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const auto tokenizer = ftplan::data::load_tokenizer(arguments[1]);
  if (!tokenizer) {
    std::cerr << tokenizer.error().text() << "\n";
    return 2;
  }
  const auto encoder = (*tokenizer)->encoder();
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answer(**tokenizer, *encoder, Json::parse(line)).dump() << "\n";
  }
  return 0;
}
