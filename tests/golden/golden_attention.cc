// Files of the formats ksa-golden-attention-1 and -2: the attention operator alone, a group a shape. In the second one
// the queries are text alone, what stands behind the text keys are entries of chunks, and documents may be packed.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention/attention.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

class AttentionCase {
 public:
  AttentionCase(const H5Reader& file, const std::string& group, const GoldenRun& run)
      : file_(file), group_("/" + group), run_(run), heads_(Get("heads")), kv_heads_(Get("kv_heads")) {
    layout_.text_tokens = Get("text_tokens");
    layout_.chunk_size = Get("chunk_size");
    const bool entries = file.HasAttribute(group_, "visibility");
    layout_.summary_tokens = entries ? 1 : Get("summary_tokens");
    layout_.live_chunks = layout_.chunks();  // the file holds the dead summary rows as well
    window_ = AttentionWindow::Ksa(Get("window_chunks"));
    window_.overlap = entries && file.TextAttribute(group_, "visibility") == "overlap";
    head_dim_ = Get("head_dim");
    query_rows_ = entries ? layout_.text_rows() : layout_.rows();
    if (entries) {
      TakeDocuments();
    }
  }

  void Run(Report& report) {
    CompareVisibility(report);
    const double bound = run_.dtype == DType::kF64 ? 1e-11 : 2e-5;
    const double gradient_bound = run_.dtype == DType::kF64 ? 1e-11 : 1e-4;
    const Tensor q = Load("q", query_rows_, heads_);
    const Tensor k = Load("k", layout_.rows(), kv_heads_);
    const Tensor v = Load("v", layout_.rows(), kv_heads_);
    const Tensor dout = Load("dout", query_rows_, heads_);
    const Tensor out = Empty(query_rows_, heads_);
    const Tensor lse = Tensor::Empty({query_rows_, heads_}, AccumulationType(run_.dtype), *run_.place.memory);
    AttentionForward({.q = q,
                      .k = k,
                      .v = v,
                      .out = out,
                      .lse = lse,
                      .layout = LayoutThere(),
                      .window = window_,
                      .allocator = run_.place.memory},
                     run_.place.stream);
    Compare("out", out, bound, report);
    CompareLse(lse, bound, report);
    const Tensor dq = Empty(query_rows_, heads_);
    const Tensor dk = Empty(layout_.rows(), kv_heads_);
    const Tensor dv = Empty(layout_.rows(), kv_heads_);
    AttentionBackward({.q = q,
                       .k = k,
                       .v = v,
                       .out = out,
                       .lse = lse,
                       .dout = dout,
                       .dq = dq,
                       .dk = dk,
                       .dv = dv,
                       .layout = LayoutThere(),
                       .window = window_,
                       .allocator = run_.place.memory},
                      run_.place.stream);
    Compare("dq", dq, gradient_bound, report);
    Compare("dk", dk, gradient_bound, report);
    Compare("dv", dv, gradient_bound, report);
  }

 private:
  [[nodiscard]] int32_t Get(const char* attribute) const { return file_.IntegerAttribute(group_, attribute); }

  void TakeDocuments() {
    first_chunk_ = file_.Integers(group_ + "/document_first_chunk");
    chunk_tokens_ = file_.Integers(group_ + "/chunk_tokens");
    layout_.document_first_chunk = first_chunk_.data();
    layout_.chunk_tokens = chunk_tokens_.data();
    first_chunk_there_ = IntegersAt(first_chunk_, run_.place);
    chunk_tokens_there_ = IntegersAt(chunk_tokens_, run_.place);
  }

  // The layout for kernels, whose tables lie where the rows do.
  [[nodiscard]] SummaryLayout LayoutThere() const {
    SummaryLayout layout = layout_;
    layout.document_first_chunk = first_chunk_there_.As<int32_t>();
    layout.chunk_tokens = chunk_tokens_there_.As<int32_t>();
    return layout;
  }

  [[nodiscard]] Tensor Empty(int64_t rows, int32_t heads) {
    return Tensor::Empty({rows, heads, head_dim_}, run_.dtype, *run_.place.memory);
  }

  [[nodiscard]] Tensor Load(const std::string& name, int64_t rows, int32_t heads) {
    const Tensor x = Tensor::Empty({rows, heads, head_dim_}, run_.dtype, host_);
    const std::vector<double> values = file_.Values(group_ + "/" + name);
    KSA_CHECK(static_cast<int64_t>(values.size()) == x.size(), "{}/{} has another size", group_, name);
    for (int64_t i = 0; i < x.size(); ++i) {
      SetElement(x, i, values[static_cast<size_t>(i)]);
    }
    return ToPlace(x, run_.place);
  }

  void Compare(const std::string& name, const Tensor& actual, double bound, Report& report) {
    const std::string tensor = "of " + group_.substr(1);
    report.Compare(name,
                   tensor,
                   ValuesOf(actual, run_.place.stream),
                   file_.Values(group_ + "/" + name),
                   run_.Bound(name, tensor, bound));
  }

  // Of rows that see something; the others have minus infinity here and there.
  void CompareLse(const Tensor& lse, double bound, Report& report) {
    const std::string tensor = "of " + group_.substr(1);
    std::vector<double> actual;
    std::vector<double> expected = file_.Values(group_ + "/lse");
    size_t at = 0;
    for (const double value : ValuesOf(lse, run_.place.stream)) {
      if (value == -HUGE_VAL && expected.at(at) == -HUGE_VAL) {
        expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(at));
      } else {
        actual.push_back(value);
        ++at;
      }
    }
    report.Compare("lse", tensor, actual, expected, run_.Bound("lse", tensor, bound));
  }

  void CompareVisibility(Report& report) {
    const auto row = [&](int64_t i) {
      const bool is_summary = i >= layout_.text_rows();
      return RowId{is_summary, static_cast<int32_t>(is_summary ? i - layout_.text_rows() : i)};
    };
    std::vector<double> visible;
    for (int64_t i = 0; i < query_rows_; ++i) {
      for (int64_t j = 0; j < layout_.rows(); ++j) {
        visible.push_back(Visible(layout_, window_, 0, row(i), row(j)) ? 1.0 : 0.0);
      }
    }
    report.Compare("visibility", "of " + group_.substr(1), visible, file_.Values(group_ + "/visible"), 0.0);
  }

  const H5Reader& file_;
  std::string group_;
  GoldenRun run_;
  GuardAllocator host_;
  SummaryLayout layout_;
  AttentionWindow window_;
  int32_t heads_;
  int32_t kv_heads_;
  int32_t head_dim_ = 0;
  int64_t query_rows_ = 0;
  std::vector<int32_t> first_chunk_;
  std::vector<int32_t> chunk_tokens_;
  Tensor first_chunk_there_;
  Tensor chunk_tokens_there_;
};

}  // namespace

void RunAttentionFile(const H5Reader& file, const GoldenRun& run, Report& report) {
  for (const std::string& group : file.Children("/")) {
    AttentionCase(file, group, run).Run(report);
  }
}

}  // namespace ksa::testing
