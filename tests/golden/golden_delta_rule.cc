// Files of the gated delta rule alone, which name no format: a group a shape.
#include <vector>

#include "kernels/delta_rule/gated_delta_rule.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

class DeltaRuleCase {
 public:
  DeltaRuleCase(const H5Reader& file, const std::string& group, const GoldenRun& run)
      : file_(file), group_("/" + group + "/"), run_(run), bounds_(BoundsOf(run.dtype)) {
    SetLayout();
  }

  void Run(Report& report) {
    const DType exact = AccumulationType(run_.dtype);
    const Tensor q = Load("q", run_.dtype);
    const Tensor k = Load("k", run_.dtype);
    const Tensor v = Load("v", run_.dtype);
    const Tensor dout = Load("dout", run_.dtype);
    const Tensor g = Load("g", exact);
    const Tensor beta = Load("beta", exact);
    const Tensor initial = Load("initial_state", exact);
    const Tensor dfinal = Load("dfinal_state", exact);
    const auto like = [&](const Tensor& x) { return Tensor::Empty(x.shape(), x.dtype(), *run_.place.memory); };
    const Tensor out = like(v);
    const Tensor final_state = like(initial);
    GatedDeltaRuleForward({.q = q,
                           .k = k,
                           .v = v,
                           .g = g,
                           .beta = beta,
                           .initial_state = initial,
                           .out = out,
                           .final_state = final_state,
                           .layout = layout_,
                           .allocator = run_.place.memory},
                          run_.place.stream);
    Compare("out", out, bounds_.forward, report);
    Compare("final_state", final_state, bounds_.forward, report);
    const Tensor dq = like(q);
    const Tensor dk = like(k);
    const Tensor dv = like(v);
    const Tensor dg = like(g);
    const Tensor dbeta = like(beta);
    const Tensor dinitial = like(initial);
    GatedDeltaRuleBackward({.q = q,
                            .k = k,
                            .v = v,
                            .g = g,
                            .beta = beta,
                            .initial_state = initial,
                            .dout = dout,
                            .dfinal_state = dfinal,
                            .dq = dq,
                            .dk = dk,
                            .dv = dv,
                            .dg = dg,
                            .dbeta = dbeta,
                            .dinitial_state = dinitial,
                            .layout = layout_,
                            .allocator = run_.place.memory},
                           run_.place.stream);
    Compare("dq", dq, bounds_.gradients, report);
    Compare("dk", dk, bounds_.gradients, report);
    Compare("dv", dv, bounds_.gradients, report);
    Compare("dg", dg, bounds_.gradients, report);
    Compare("dbeta", dbeta, bounds_.gradients, report);
    Compare("dinitial_state", dinitial, bounds_.gradients, report);
  }

 private:
  // The first document goes on from the initial state: it began a token before the rows that are here.
  void SetLayout() {
    const auto tokens = static_cast<int32_t>(file_.Read(group_ + "q").shape.at(0));
    layout_ = {.text_tokens = tokens, .chunk_size = 1, .total_tokens = tokens + 1, .first_chunk = 1};
    std::vector<int32_t> first(static_cast<size_t>(tokens) + 1, 0);
    const std::vector<int32_t> starts = file_.Integers(group_ + "document_starts");
    for (size_t d = 1; d < starts.size(); ++d) {
      std::fill(first.begin() + starts[d] + 1, first.end(), starts[d] + 1);
    }
    first_chunk_ = Table(first);
    chunk_tokens_ = Table(std::vector<int32_t>(first.size(), 1));
    layout_.document_first_chunk = first_chunk_.As<int32_t>();
    layout_.chunk_tokens = chunk_tokens_.As<int32_t>();
  }

  [[nodiscard]] Tensor Table(const std::vector<int32_t>& values) {
    const Tensor table = Tensor::Empty({static_cast<int64_t>(values.size())}, DType::kI32, host_);
    std::copy(values.begin(), values.end(), table.As<int32_t>());
    return ToPlace(table, run_.place);
  }

  // States are those of one slice.
  [[nodiscard]] Tensor Load(const std::string& name, DType dtype) {
    const H5Reader::Dataset dataset = file_.Read(group_ + name);
    const std::vector<int64_t>& size = dataset.shape;
    const bool is_state = name.ends_with("_state");
    const Shape shape = is_state           ? Shape{1, size.at(0), size.at(1), size.at(2)}
                        : size.size() == 2 ? Shape{size.at(0), size.at(1)}
                                           : Shape{size.at(0), size.at(1), size.at(2)};
    const Tensor x = Tensor::Empty(shape, dtype, host_);
    for (int64_t i = 0; i < x.size(); ++i) {
      SetElement(x, i, dataset.values[static_cast<size_t>(i)]);
    }
    return ToPlace(x, run_.place);
  }

  void Compare(const std::string& name, const Tensor& actual, double bound, Report& report) const {
    CompareDataset(file_, group_, name, actual, bound, run_, report);
  }

  const H5Reader& file_;
  std::string group_;
  GoldenRun run_;
  GoldenBounds bounds_;
  GuardAllocator host_;
  SummaryLayout layout_;
  Tensor first_chunk_;
  Tensor chunk_tokens_;
};

}  // namespace

void RunDeltaRuleFile(const H5Reader& file, const GoldenRun& run, Report& report) {
  for (const std::string& group : file.Children("/")) {
    DeltaRuleCase(file, group, run).Run(report);
  }
}

}  // namespace ksa::testing
