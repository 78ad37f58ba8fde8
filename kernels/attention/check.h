// Whether a layout, a window and the rows of q and k make up a call of attention. Internal to the family.
#pragma once

#include <cstdint>

#include "kernels/core/summary_layout.h"

namespace ksa {

// What is checked; the rest of the arguments are tensors whose shapes follow from these.
struct AttentionRows {
  SummaryLayout layout;
  AttentionWindow window;
  bool text_queries = true;
  int64_t query_rows = 0;  // nq
  int64_t key_rows = 0;    // nk
};

// An Error(kInternal) that says what is wrong. Reads no document tables: they may be on a GPU.
void CheckAttentionRows(const AttentionRows& rows);

}  // namespace ksa
