#pragma once

#include <cstdint>

#include "program/attributes.h"
#include "program/op_table.h"

/// Causal attention with grouped keys and values, block by block, never a full score matrix.
///
/// Query i of a row attends to keys document_start[i] .. i of that row. With a cache, query i
/// stands at `cache length + i`, and keys are those of the cache. With a window a query sees the
/// last `window` of these; blocks of keys that no query of a block sees are not computed. With
/// alibi the score of a key grows with its place in its document, see `alibi_slope`.
///
/// Shapes   q_T(H*D), k_T(K*D), v_T(K*D), document_start_T -> o_T(H*D), log_sum_HT (f32)
/// Keeps    q, k, v, o and the log-sum: 4*H bytes a token beside them
/// Scratch  blocks of f32 scores and factors for each thread, see attention.cpp (CPU)
/// @source  Dao 2023, arXiv:2307.08691, algorithms 1 and 2
namespace ftplan::program {

/// in {q, k, v, document_start}, out {o, log_sum?}; AttentionAttributes
OpRow attention_row();
/// in {do, q, k, v, o, log_sum, document_start}, out {dq, dk, dv}, each may be absent; dq may be
/// do's bytes
OpRow attention_backward_row();

/// What scores of `head` grow by from key to key, before they are scaled: 2^(-8 (h+1) / n) for the
/// first n = 2^k heads, 2^(-4 (2h+1) / n) for those beyond.
/// @source Press et al. 2022, arXiv:2108.12409, section 3; transformers 5.23
///         `models/falcon/modeling_falcon.py`, build_alibi_tensor
float alibi_slope(std::int64_t head, std::int64_t heads);

/// Blocks of the CPU kernels and the f32 values each thread needs for them.
struct AttentionBlocks {
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t forward_floats = 0;
  std::int64_t backward_floats = 0;
};
AttentionBlocks attention_blocks(const AttentionAttributes& attributes);

}  // namespace ftplan::program
