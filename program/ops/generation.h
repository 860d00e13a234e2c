#pragma once

#include "program/op_table.h"

/// What generation needs beside the forward ops.
namespace ftplan::program {

/// in {values_T(K*D)}, update {cache_(B*C)(K*D)}: row b's values go to positions cache length.. of
/// its cache; AttentionAttributes
OpRow append_cache_row();
/// in {h_TH}, out {last_BH}: the last position of each row; AttentionAttributes
OpRow take_last_row();
/// in {logits_BV, row_ids_B}, out {ids_B}; NextTokenAttributes: the first of the largest, or, with
/// a temperature, one drawn from softmax(logits / temperature) of the kTopK largest, of which those
/// stay that make up kTopP of their probability. The draw depends on (kSeed, row id, kStep) alone.
///
/// Scratch  16*V bytes
/// @source  transformers 5.23 generation/logits_process.py, TemperatureLogitsWarper,
///          TopKLogitsWarper, TopPLogitsWarper, in this order
OpRow next_token_row();

}  // namespace ftplan::program
