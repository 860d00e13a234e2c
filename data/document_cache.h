#pragma once

#include <optional>
#include <span>
#include <string>

#include "data/documents.h"
#include "data/source.h"
#include "data/tokenizer.h"

/// Tokenized documents on disk, so that the same files are tokenized once.
namespace ftplan::data {

/// Documents are found by what made them: the bytes of the files, the tokenizer, the options. Names
/// and times do not matter, so a copied or touched file is found and an edited one never.
/// Anything wrong with the folder means that nothing is stored or found, not an error.
class DocumentCache {
 public:
  /// `folder` may not exist yet; empty: no cache.
  DocumentCache(std::string folder, std::span<const SourceFile> sources, const Tokenizer& tokenizer,
                const ReadOptions& options);

  /// What was stored, if it is whole.
  [[nodiscard]] std::optional<Documents> find() const;
  /// Whole or not at all. Whether it was stored.
  [[nodiscard]] bool store(const Documents& documents) const;
  /// The file in which they are or will be; empty without a cache.
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace ftplan::data
