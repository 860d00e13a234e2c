#include "data/tokenizer.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const ftplan::FuzzFolder kFolder;
  (void)kFolder.write("tokenizer.model", ftplan::text_of(data, size));
  const auto tokenizer = ftplan::data::load_tokenizer(kFolder.path());
  if (!tokenizer) return 0;
  const auto ids = (*tokenizer)->encode("Hello  world, 1234 \xC3\xA9\xF0\x9F\x98\x80\xFF<s>\n");
  if (ids) (void)(*tokenizer)->decode(*ids);
  return 0;
}
