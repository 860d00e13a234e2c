#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/result.h"

/// Byte-pair encoding: merges the pair of neighbours with the lowest rank until none is left.
/// @source Sennrich et al. 2016, arXiv:1508.07909; the order of equal ranks as in
/// huggingface/tokenizers
///         `models/bpe/{model,word}.rs`: leftmost first
namespace ftplan::data {

/// What the symbols of a piece are before the first merge.
enum class Alphabet : std::uint8_t {
  kBytes,       ///< its bytes; tokens are spelled in GPT-2's byte alphabet
  kCharacters,  ///< its characters, or the tokens `<0xNN>` of their bytes
};

/// The `model` of a tokenizer.json, read but not checked.
struct BpeSpec {
  Alphabet alphabet = Alphabet::kBytes;
  std::vector<std::pair<std::string, std::int32_t>> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;
  std::optional<std::string> unk_token;
  bool byte_fallback = false;
  bool fuse_unk = false;
  bool ignore_merges = false;  ///< a piece that is a token as a whole is taken as it is
};

/// Rank and result of each pair that merges; open addressing, because long pieces ask for little
/// else.
class MergeTable {
 public:
  struct Merge {
    std::uint32_t rank = kNone;
    std::int32_t result = -1;
  };
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  void reserve(std::size_t merges);
  void set(std::int32_t left, std::int32_t right, Merge merge);
  /// Rank `kNone` where the pair does not merge.
  [[nodiscard]] Merge find(std::int32_t left, std::int32_t right) const;

 private:
  struct Slot {
    std::uint64_t pair = ~std::uint64_t{0};
    Merge merge;
  };
  [[nodiscard]] std::size_t place_of(std::uint64_t pair) const;
  std::vector<Slot> slots_;
};

/// Memory that encoding a piece needs; one per thread.
struct BpeScratch {
  struct Symbol {
    std::int32_t id = 0;
    std::int32_t previous = -1;
    std::int32_t next = -1;
    bool merged_away = false;
  };
  struct Candidate {
    std::uint32_t rank = 0;
    std::int32_t position = 0;
    std::int32_t result = 0;
  };
  std::vector<std::int32_t> ids;
  std::vector<std::uint32_t> ranks;
  std::vector<Symbol> symbols;
  std::vector<Candidate> queue;
};

class BpeModel {
 public:
  /// @error bad input at `where`: a merge or the unknown token is not in the vocabulary
  static Result<BpeModel> build(const BpeSpec& spec, const std::string& where);

  /// Appends the ids of `piece`. Time: n log n in its bytes.
  void encode(std::string_view piece, BpeScratch& scratch, std::vector<std::int32_t>& ids) const;

  /// The bytes of `rest` that the token `id` stands for, which encoding put at its start.
  [[nodiscard]] std::size_t bytes_of(std::int32_t id, std::string_view rest) const;

  /// The id of a token as the vocabulary spells it.
  [[nodiscard]] std::optional<std::int32_t> id_of(std::string_view token) const;
  /// Whether no token can reach over a place where a character other than U+2581 is followed by
  /// U+2581. Then a text may be cut there, and the cut pieces kept in a cache.
  [[nodiscard]] bool separates_words() const { return separates_words_; }

 private:
  BpeModel() = default;
  [[nodiscard]] bool knows_every_byte() const;
  [[nodiscard]] std::size_t symbol_size(std::string_view rest) const;
  void find_sizes();
  Result<void> add_merges(const BpeSpec& spec, const std::string& where);
  void start_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const;
  void start_characters(std::string_view piece, std::vector<std::int32_t>& ids) const;
  bool add_fallback(std::string_view character, std::vector<std::int32_t>& ids) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;

  Alphabet alphabet_ = Alphabet::kBytes;
  std::unordered_map<std::string, std::int32_t> ids_;     // by token as spelled
  std::unordered_map<std::string, std::int32_t> pieces_;  // by text that a token stands for
  std::vector<std::uint32_t> sizes_;                      // by id: bytes that it stands for
  std::array<std::int32_t, 256> byte_ids_{};  // of single bytes; -1: not in the vocabulary
  MergeTable merges_;
  std::optional<std::int32_t> unk_;
  bool byte_fallback_ = false;
  bool fuse_unk_ = false;
  bool ignore_merges_ = false;
  bool separates_words_ = false;
};

}  // namespace ftplan::data
