#include "data/token_table.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "data/added_tokens.h"
#include "data/tokenizer.h"
#include "data/tokenizer_settings.h"

namespace ftplan::data {

void TokenTable::add_model_token(std::string_view token, std::int32_t id) {
  at(id).text = token;
  ids_[std::string(token)] = id;
  ++model_tokens_;
}

void TokenTable::add_token(AddedToken token) {
  if (token.content.empty()) return;
  token.id = id_of(token.content).value_or(next_id());
  Piece& piece = at(token.id);
  ids_[token.content] = token.id;
  piece.text = token.content;
  if (piece.added < 0) {
    piece.added = static_cast<std::int32_t>(added_.size());
    added_.push_back(std::move(token));
  } else {
    added_[static_cast<std::size_t>(piece.added)] = std::move(token);
  }
}

std::int32_t TokenTable::next_id() const {
  std::int32_t largest = -1;
  for (const AddedToken& token : added_) largest = std::max(largest, token.id);
  return std::max(largest + 1, model_tokens_);
}

TokenTable::Piece& TokenTable::at(std::int32_t id) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= pieces_.size()) pieces_.resize(index + 1);
  return pieces_[index];
}

std::optional<std::int32_t> TokenTable::id_of(std::string_view token) const {
  const auto found = ids_.find(std::string(token));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string& TokenTable::piece(std::int32_t id) const {
  static const std::string none;
  return id >= 0 && id < size() ? pieces_[static_cast<std::size_t>(id)].text : none;
}

const AddedToken* TokenTable::added(std::int32_t id) const {
  if (id < 0 || id >= size()) return nullptr;
  const std::int32_t index = pieces_[static_cast<std::size_t>(id)].added;
  return index < 0 ? nullptr : &added_[static_cast<std::size_t>(index)];
}

bool TokenTable::is_special(std::int32_t id) const {
  const AddedToken* token = added(id);
  return token != nullptr && token->special;
}

SpecialIds add_named_tokens(const TokenizerSettings& settings, TokenTable& table) {
  const auto is_added = [&](const std::string& token) {
    const auto id = table.id_of(token);
    return id && table.added(*id) != nullptr;
  };
  for (const AddedToken& token : settings.added) {
    if (!is_added(token.content)) table.add_token(token);
  }
  const auto add_special = [&](const std::string& token) {
    if (!is_added(token)) table.add_token({.content = token, .normalized = false, .special = true});
  };
  SpecialIds special;
  const auto named = [&](const std::optional<std::string>& token,
                         std::optional<std::int32_t> other) {
    if (!token) return other;
    add_special(*token);
    return table.id_of(*token);
  };
  const auto& eos_ids = settings.eos_ids;
  special.bos = named(settings.bos, settings.bos_id);
  special.eos =
      named(settings.eos, eos_ids.empty() ? std::nullopt : std::optional(eos_ids.front()));
  special.unk = named(settings.unk, std::nullopt);
  special.pad = named(settings.pad, settings.pad_id);
  for (const std::string& token : settings.extra_special) add_special(token);
  for (const std::string& token : settings.more) {
    if (!table.id_of(token)) table.add_token({.content = token, .normalized = false});
  }
  special.stop = eos_ids;
  if (special.eos && std::ranges::find(eos_ids, *special.eos) == eos_ids.end()) {
    special.stop.insert(special.stop.begin(), *special.eos);
  }
  return special;
}

}  // namespace ftplan::data
