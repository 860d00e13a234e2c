#pragma once

#include "program/op_table.h"

/// Values that come from outside the program, or leave it.
namespace ftplan::program {

/// out {ids, targets, positions, document_start, row_ids, token_order?}: the next micro-batch
OpRow batch_row();
/// out {tensor}: a tensor of the checkpoint, converted; FileAttributes
OpRow load_row();
/// out {packed, absmax, nested?, offset?}: a matrix of the checkpoint, quantized; FileAttributes
/// Scratch  absmax in f32 where it is quantized too, unless the file has it so
OpRow load_nf4_row();
/// out {codes, scales}: a matrix of the checkpoint, quantized by rows; FileAttributes
OpRow load_int8_row();
/// out {tensor}: a new LoRA matrix, A uniform in +-1/sqrt(in), B zero; FileAttributes
OpRow init_adapter_row();
/// in {tensor}: a weight or half of a LoRA pair, given to the host; FileAttributes
OpRow store_row();

}  // namespace ftplan::program
