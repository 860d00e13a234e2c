#include "data/bpe.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "data/byte_alphabet.h"
#include "data/mix.h"
#include "data/utf8.h"

namespace ftplan::data {
namespace {

// Up to this many symbols a scan for the lowest rank is faster than a heap.
constexpr std::size_t kShortPiece = 48;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return (std::uint64_t{static_cast<std::uint32_t>(left)} << 32U) |
         static_cast<std::uint32_t>(right);
}

std::string byte_token(char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  const auto value = static_cast<std::uint8_t>(byte);
  return {'<', '0', 'x', kDigits[value >> 4U], kDigits[value & 0xFU], '>'};
}

// The heap gives the lowest rank first, and of equal ranks the leftmost.
bool comes_later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

void MergeTable::reserve(std::size_t merges) {
  std::size_t slots = 16;
  while (slots < 2 * merges) slots *= 2;
  slots_.assign(slots, Slot{});
}

std::size_t MergeTable::place_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = static_cast<std::size_t>(mix64(pair)) & mask;
  while (slots_[at].merge.rank != kNone && slots_[at].pair != pair) at = (at + 1) & mask;
  return at;
}

void MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t pair = pair_of(left, right);
  slots_[place_of(pair)] = {pair, merge};
}

MergeTable::Merge MergeTable::find(std::int32_t left, std::int32_t right) const {
  return slots_[place_of(pair_of(left, right))].merge;
}

Result<BpeModel> BpeModel::build(const BpeSpec& spec, const std::string& where) {
  BpeModel model;
  model.alphabet_ = spec.alphabet;
  model.byte_fallback_ = spec.byte_fallback;
  model.fuse_unk_ = spec.fuse_unk;
  model.ignore_merges_ = spec.ignore_merges;
  model.ids_.reserve(spec.vocabulary.size());
  for (const auto& [token, id] : spec.vocabulary) model.ids_[token] = id;
  if (spec.alphabet == Alphabet::kCharacters) {
    model.pieces_ = model.ids_;
  } else {
    model.pieces_.reserve(spec.vocabulary.size());
    for (const auto& [token, id] : spec.vocabulary) {
      if (auto bytes = bytes_of_token(token)) model.pieces_[*bytes] = id;
    }
  }
  model.find_sizes();
  for (std::size_t byte = 0; byte < model.byte_ids_.size(); ++byte) {
    const auto found = model.pieces_.find(std::string(1, static_cast<char>(byte)));
    model.byte_ids_.at(byte) = found == model.pieces_.end() ? -1 : found->second;
  }
  if (spec.unk_token) {
    model.unk_ = model.id_of(*spec.unk_token);
    if (!model.unk_ && !model.knows_every_byte()) {
      return bad_input(where + "/unk_token",
                       "\"" + *spec.unk_token + "\" is not in the vocabulary");
    }
  }
  if (auto added = model.add_merges(spec, where); !added) return added.error();
  return model;
}

void BpeModel::find_sizes() {
  const auto set = [&](std::int32_t id, std::size_t size) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= sizes_.size()) sizes_.resize(at + 1);
    sizes_[at] = static_cast<std::uint32_t>(size);
  };
  for (const auto& [text, id] : pieces_) set(id, text.size());
  for (std::size_t byte = 0; byte_fallback_ && byte < byte_ids_.size(); ++byte) {
    if (const auto id = id_of(byte_token(static_cast<char>(byte)))) set(*id, 1);
  }
}

// Then nothing is ever unknown.
bool BpeModel::knows_every_byte() const {
  if (alphabet_ == Alphabet::kBytes) return std::ranges::find(byte_ids_, -1) == byte_ids_.end();
  if (!byte_fallback_) return false;
  for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    if (!id_of(byte_token(static_cast<char>(byte)))) return false;
  }
  return true;
}

Result<void> BpeModel::add_merges(const BpeSpec& spec, const std::string& where) {
  merges_.reserve(spec.merges.size());
  separates_words_ =
      alphabet_ == Alphabet::kCharacters && !ignore_merges_ && id_of(kMeta).has_value();
  std::uint32_t rank = 0;
  for (const auto& [left, right] : spec.merges) {
    for (const std::string& token : {left, right, left + right}) {
      if (!id_of(token)) {
        return bad_input(where + "/merges/" + std::to_string(rank),
                         "\"" + token + "\" is not in the vocabulary");
      }
    }
    if (right.starts_with(kMeta) && !left.ends_with(kMeta)) separates_words_ = false;
    merges_.set(*id_of(left), *id_of(right), {rank++, *id_of(left + right)});
  }
  return {};
}

std::optional<std::int32_t> BpeModel::id_of(std::string_view token) const {
  const auto found = ids_.find(std::string(token));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

void BpeModel::encode(std::string_view piece, BpeScratch& scratch,
                      std::vector<std::int32_t>& ids) const {
  if (ignore_merges_) {
    const auto whole = pieces_.find(std::string(piece));
    if (whole != pieces_.end()) return ids.push_back(whole->second);
  }
  scratch.ids.clear();
  start_symbols(piece, scratch.ids);
  if (scratch.ids.size() <= kShortPiece) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
  ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
}

void BpeModel::start_symbols(std::string_view piece, std::vector<std::int32_t>& ids) const {
  if (alphabet_ == Alphabet::kCharacters || unk_) return start_characters(piece, ids);
  for (const char byte : piece) {
    const std::int32_t id = byte_ids_.at(static_cast<std::uint8_t>(byte));
    // Without an unknown token the reference drops what it does not know.
    if (id >= 0) ids.push_back(id);
  }
}

void BpeModel::start_characters(std::string_view piece, std::vector<std::int32_t>& ids) const {
  bool unknown_pending = false;
  for (std::size_t at = 0; at < piece.size();) {
    const std::string character(piece.substr(at, symbol_size(piece.substr(at))));
    at += character.size();
    const auto found = pieces_.find(character);
    if (found != pieces_.end()) {
      if (unknown_pending) ids.push_back(*unk_);
      unknown_pending = false;
      ids.push_back(found->second);
      continue;
    }
    // As in the reference, bytes overtake an unknown character that is still pending.
    if (byte_fallback_ && add_fallback(character, ids)) continue;
    if (!unk_) continue;
    if (unknown_pending && !fuse_unk_) ids.push_back(*unk_);
    unknown_pending = true;
  }
  if (unknown_pending) ids.push_back(*unk_);
}

// Bytes of the first symbol, before anything merges.
std::size_t BpeModel::symbol_size(std::string_view rest) const {
  return alphabet_ == Alphabet::kBytes ? 1 : decode_utf8(rest, 0).bytes;
}

std::size_t BpeModel::bytes_of(std::int32_t id, std::string_view rest) const {
  if (rest.empty()) return 0;
  if (id != unk_) {
    const auto at = static_cast<std::size_t>(id);
    return std::min<std::size_t>(at < sizes_.size() ? sizes_[at] : 0, rest.size());
  }
  std::size_t end = symbol_size(rest);
  const auto is_unknown = [&](std::string_view from) {
    return !pieces_.contains(std::string(from.substr(0, symbol_size(from))));
  };
  while (fuse_unk_ && end < rest.size() && is_unknown(rest.substr(end))) {
    end += symbol_size(rest.substr(end));
  }
  return end;
}

bool BpeModel::add_fallback(std::string_view character, std::vector<std::int32_t>& ids) const {
  const std::size_t before = ids.size();
  for (const char byte : character) {
    const auto id = id_of(byte_token(byte));
    if (!id) {
      ids.resize(before);
      return false;
    }
    ids.push_back(*id);
  }
  return true;
}

// Scans all ranks for the lowest before each merge.
void BpeModel::merge_short(BpeScratch& scratch) const {
  auto& ids = scratch.ids;
  auto& ranks = scratch.ranks;  // of the pair that begins at each symbol
  const auto rank_at = [&](std::size_t i) {
    return i + 1 < ids.size() ? merges_.find(ids[i], ids[i + 1]).rank : MergeTable::kNone;
  };
  ranks.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ranks[i] = rank_at(i);
  while (!ids.empty()) {
    const auto lowest = std::min_element(ranks.begin(), ranks.end());
    if (*lowest == MergeTable::kNone) return;
    const auto at = static_cast<std::size_t>(lowest - ranks.begin());
    ids[at] = merges_.find(ids[at], ids[at + 1]).result;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    ranks.erase(lowest + 1);
    ranks[at] = rank_at(at);
    if (at > 0) ranks[at - 1] = rank_at(at - 1);
  }
}

// The same with a heap of candidates; one that a merge has made stale is skipped when it comes up.
void BpeModel::merge_long(BpeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  const auto count = static_cast<std::int32_t>(scratch.ids.size());
  symbols.clear();
  queue.clear();
  const auto symbol = [&](std::int32_t i) -> BpeScratch::Symbol& {
    return symbols[static_cast<std::size_t>(i)];
  };
  for (std::int32_t i = 0; i < count; ++i) {
    symbols.push_back(
        {scratch.ids[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1});
  }
  const auto consider = [&](std::int32_t left) {
    if (left < 0 || symbol(left).next < 0) return false;
    const auto merge = merges_.find(symbol(left).id, symbol(symbol(left).next).id);
    if (merge.rank == MergeTable::kNone) return false;
    queue.push_back({merge.rank, left, merge.result});
    return true;
  };
  const auto push = [&](std::int32_t left) {
    if (consider(left)) std::push_heap(queue.begin(), queue.end(), comes_later);
  };
  for (std::int32_t i = 0; i < count; ++i) consider(i);
  std::make_heap(queue.begin(), queue.end(), comes_later);
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), comes_later);
    const BpeScratch::Candidate best = queue.back();
    queue.pop_back();
    BpeScratch::Symbol& left = symbol(best.position);
    if (left.merged_away || left.next < 0) continue;
    BpeScratch::Symbol& right = symbol(left.next);
    if (merges_.find(left.id, right.id).result != best.result) continue;
    left.id = best.result;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) symbol(left.next).previous = best.position;
    push(left.previous);
    push(best.position);
  }
  scratch.ids.clear();
  for (std::int32_t i = count == 0 ? -1 : 0; i >= 0; i = symbol(i).next) {
    scratch.ids.push_back(symbol(i).id);
  }
}

}  // namespace ftplan::data
