// A layout whose tables of documents lie on the GPU.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/summary_layout.h"
#include "tests/gpu/support.h"

namespace ksa::testing {

class GpuLayoutTest : public GpuTest {
 protected:
  // `layout` for kernels: its tables, which are on the host, are copied, and live as long as the test.
  [[nodiscard]] SummaryLayout OnGpu(SummaryLayout layout) {
    layout.document_first_chunk = Upload(layout, layout.document_first_chunk);
    layout.chunk_tokens = Upload(layout, layout.chunk_tokens);
    return layout;
  }

 private:
  [[nodiscard]] const int32_t* Upload(const SummaryLayout& layout, const int32_t* table) {
    if (table == nullptr) {
      return nullptr;
    }
    const TensorView on_host = {
        const_cast<int32_t*>(table), DType::kI32, {}, {layout.sequences, layout.total_chunks()}};
    tables_.push_back(ToGpu(on_host));
    return tables_.back().As<int32_t>();
  }

  std::vector<Tensor> tables_;
};

}  // namespace ksa::testing
