// Files of format ksa-golden-pool-1: the pooling of chunks alone, a group a shape. Groups without values are of one
// matrix, which is key and value at once.
#include "kernels/pool/chunk_pool.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

class PoolCase {
 public:
  PoolCase(const H5Reader& file, const std::string& group, const GoldenRun& run)
      : file_(file), group_("/" + group + "/"), run_(run), bounds_(BoundsOf(run.dtype)) {
    layout_ = {.text_tokens = file.IntegerAttribute("/" + group, "tokens"),
               .chunk_size = file.IntegerAttribute("/" + group, "chunk_size"),
               .summary_tokens = 1,
               .live_chunks = file.IntegerAttribute("/" + group, "entries")};
  }

  void Run(Report& report) {
    const bool both = file_.Has(group_ + "cv");
    const Tensor gate = Load("z");
    const Tensor bias = Load("position_bias");
    const Tensor k = Load("ck");
    const Tensor v = both ? Load("cv") : Tensor();
    const Tensor yk = Empty(layout_.live_chunks);
    const Tensor yv = both ? Empty(layout_.live_chunks) : Tensor();
    ChunkPoolForward({.gate = gate, .bias = bias, .x = {k, v}, .y = {yk, yv}, .layout = layout_}, run_.place.stream);
    Compare("yk", yk, bounds_.forward, report);
    const Tensor dyk = Load("dyk");
    const Tensor dyv = both ? Load("dyv") : Tensor();
    const Tensor dgate = Empty(layout_.text_tokens);
    const Tensor dk = Empty(layout_.text_tokens);
    const Tensor dv = both ? Empty(layout_.text_tokens) : Tensor();
    const Tensor dbias = Tensor::Empty(bias.shape(), AccumulationType(run_.dtype), *run_.place.memory);
    ChunkPoolBackward({.gate = gate,
                       .bias = bias,
                       .x = {k, v},
                       .dy = {dyk, dyv},
                       .dgate = dgate,
                       .dx = {dk, dv},
                       .dbias = dbias,
                       .accumulate = false,
                       .layout = layout_,
                       .allocator = run_.place.memory},
                      run_.place.stream);
    Compare("dck", dk, bounds_.gradients, report);
    Compare("dz", dgate, bounds_.gradients, report);
    Compare("dposition_bias", dbias, bounds_.gradients, report);
    if (both) {
      Compare("yv", yv, bounds_.forward, report);
      Compare("dcv", dv, bounds_.gradients, report);
    }
  }

 private:
  [[nodiscard]] Tensor Load(const std::string& name) const { return LoadDataset(file_, group_ + name, run_); }

  [[nodiscard]] Tensor Empty(int64_t rows) const {
    return Tensor::Empty({rows, file_.Read(group_ + "z").shape.at(1)}, run_.dtype, *run_.place.memory);
  }

  void Compare(const std::string& name, const Tensor& actual, double bound, Report& report) const {
    CompareDataset(file_, group_, name, actual, bound, run_, report);
  }

  const H5Reader& file_;
  std::string group_;
  GoldenRun run_;
  GoldenBounds bounds_;
  SummaryLayout layout_;
};

}  // namespace

void RunPoolFile(const H5Reader& file, const GoldenRun& run, Report& report) {
  for (const std::string& group : file.Children("/")) {
    PoolCase(file, group, run).Run(report);
  }
}

}  // namespace ksa::testing
