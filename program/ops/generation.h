#pragma once

#include "program/op_table.h"

/// What generation needs beside the forward ops.
namespace ftplan::program {

/// in {values_T(K*D)}, update {cache_(B*C)(K*D)}: row b's values go to positions cache length.. of
/// its cache; AttentionAttributes
OpRow append_cache_row();
/// in {h_TH}, out {last_BH}: the last position of each row; AttentionAttributes
OpRow take_last_row();
/// in {logits_BV}, out {ids_B}: the first of the largest
OpRow argmax_row();

}  // namespace ftplan::program
