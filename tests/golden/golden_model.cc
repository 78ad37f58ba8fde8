// Files of format ksa-golden-1: a whole model, forward and backward.
#include <algorithm>

#include <fmt/core.h>

#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"
#include "trainer/config/load.h"

namespace ksa::testing {
namespace {

// What tests/golden/README.md finds fair.
struct Bounds {
  double forward;
  double gradients;
};

Bounds BoundsOf(DType dtype) {
  return dtype == DType::kF64 ? Bounds{1e-11, 1e-11} : Bounds{2e-5, 1e-4};
}

std::vector<double> Head(const std::vector<double>& x, size_t count) {
  return {x.begin(), x.begin() + static_cast<int64_t>(std::min(count, x.size()))};
}

void ComparePositions(const H5Reader& file, const SummaryLayout& layout, Report& report) {
  std::vector<double> text;
  std::vector<double> summary;
  for (int32_t i = 0; i < layout.text_tokens; ++i) {
    text.push_back(layout.TextPosition(0, i));
  }
  for (int32_t s = 0; s < layout.chunks() * layout.summary_tokens; ++s) {
    summary.push_back(layout.SummaryPosition(0, s));
  }
  report.Compare("positions", "of text", text, file.Values("/output/positions_text"), 0.0);
  report.Compare("positions", "of summaries", summary, file.Values("/output/positions_summary"), 0.0);
}

// `all_live` has rows for all summaries.
void CompareVisibility(const std::string& path,
                       const H5Reader& file,
                       const SummaryLayout& all_live,
                       const AttentionWindow& window,
                       bool summaries_see,
                       Report& report) {
  if (!file.Has(path)) {
    return;
  }
  const auto row = [&](int64_t i) {
    const bool is_summary = i >= all_live.text_rows();
    return RowId{is_summary, static_cast<int32_t>(is_summary ? i - all_live.text_rows() : i)};
  };
  std::vector<double> visible;
  for (int64_t q = 0; q < all_live.rows(); ++q) {
    for (int64_t k = 0; k < all_live.rows(); ++k) {
      const bool sees = (summaries_see || !row(q).is_summary) && Visible(all_live, window, 0, row(q), row(k));
      visible.push_back(sees ? 1.0 : 0.0);
    }
  }
  report.Compare("visibility", path, visible, file.Values(path), 0.0);
}

Tensor Integers(const std::vector<double>& values, Allocator& allocator) {
  Tensor x = Tensor::Empty({static_cast<int64_t>(values.size())}, DType::kI32, allocator);
  std::transform(
      values.begin(), values.end(), x.As<int32_t>(), [](double value) { return static_cast<int32_t>(value); });
  return x;
}

class ModelRun {
 public:
  ModelRun(const H5Reader& file, const ModelConfig& config, const GoldenRun& run, Report& report)
      : file_(file),
        report_(report),
        run_(run),
        bounds_(BoundsOf(run.dtype)),
        ids_(ToPlace(Integers(file.Values("/input/token_ids"), host_), run.place)),
        store_(ParameterSpecs(config), run.dtype, *run.place.memory, {}, run.place.stream),
        model_(config, store_, *run.place.memory, run.place.stream, ids_.size()) {}

  void Run(double mix) {
    if (!LoadWeights(file_, "/weights", store_, run_, report_)) {
      return;
    }
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = run_.place.stream, .allocator = run_.place.memory};
    std::vector<Var> trace;
    KsaModel::Input input;
    input.ids = ids_;
    input.layout = MakeLayout(model_.config(), 1, static_cast<int32_t>(ids_.size()));
    input.mix = mix;
    input.trace = &trace;
    store_.BeginUpdate();
    const Var hidden = model_.Hidden(cx, input);
    CompareStates(trace, input.layout.text_rows());
    Compare("logits", "", model_.Logits(cx, hidden.value), file_.Values("/output/logits"));
    trace.clear();
    CompareLossAndGradients(cx, hidden);
  }

 private:
  void CompareStates(const std::vector<Var>& trace, int64_t text_rows) {
    CompareRows("embedding", "/output/embedding", trace[0], text_rows);
    for (size_t layer = 0; layer + 1 < trace.size(); ++layer) {
      CompareRows("hidden", fmt::format("/output/hidden/{}", layer), trace[layer + 1], text_rows);
    }
  }

  // The rows of `value` against the first ones of the file's: dead summary rows have none here, and summary rows end in
  // the last KSA layer.
  void CompareRows(const std::string& quantity, const std::string& group, const Var& value, int64_t text_rows) {
    Compare(quantity, group + "/text", value.value.Rows(0, text_rows), file_.Values(group + "/text"));
    const int64_t summaries = value.rows() - text_rows;
    if (summaries > 0) {
      Compare(quantity,
              group + "/summary",
              value.value.Rows(text_rows, summaries),
              Head(file_.Values(group + "/summary"), static_cast<size_t>(summaries * value.cols())));
    }
  }

  // Of the forward pass.
  void Compare(const std::string& quantity,
               const std::string& tensor,
               const TensorView& actual,
               const std::vector<double>& expected) {
    const double bound = run_.Bound(quantity, tensor, bounds_.forward);
    report_.Compare(quantity, tensor, ValuesOf(actual, run_.place.stream), expected, bound);
  }

  void CompareLossAndGradients(const ExecContext& cx, const Var& hidden) {
    const std::vector<double> labels = file_.Values("/input/labels");
    const auto has_target = [](double label) { return label >= 0.0; };
    const double count = static_cast<double>(std::count_if(labels.begin(), labels.end(), has_target));
    const Tensor targets = ToPlace(Integers(labels, host_), run_.place);
    const CrossEntropyResult loss = model_.Loss(cx, hidden, targets, 1.0 / count);
    const std::vector<double> rows = ValuesOf(loss.row_loss, cx.stream);
    std::vector<double> token_loss;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (has_target(labels[i])) {
        token_loss.push_back(rows[i]);
      }
    }
    report_.Compare("token loss",
                    "",
                    token_loss,
                    file_.Values("/output/token_loss"),
                    run_.Bound("token loss", "", bounds_.forward));
    report_.Compare("loss",
                    "",
                    {ValuesOf(loss.loss_sum.value, cx.stream)[0] / count},
                    file_.Values("/output/loss"),
                    run_.Bound("loss", "", bounds_.forward));
    cx.tape->Backward(cx, loss.loss_sum, Tensor());
    store_.FinishGradients(cx.stream);
    for (const Parameter& parameter : store_.parameters()) {
      const std::string& name = parameter.spec.name;
      report_.Compare("gradients",
                      name,
                      ValuesOf(parameter.grad, cx.stream),
                      file_.Values("/grad/" + name),
                      run_.Bound("gradients", name, bounds_.gradients));
    }
  }

  const H5Reader& file_;
  Report& report_;
  GoldenRun run_;
  Bounds bounds_;
  GuardAllocator host_;
  Tensor ids_;
  ParameterStore store_;
  KsaModel model_;
};

}  // namespace

void RunModelFile(const H5Reader& file, const std::string& variant, const GoldenRun& run, Report& report) {
  const int32_t tokens = static_cast<int32_t>(file.Read("/input/token_ids").shape.at(0));
  const ModelConfig config =
      ParseModelConfig("{\"model\": " + file.TextAttribute("/", variant) + "}", "attribute " + variant, tokens);
  SummaryLayout layout = MakeLayout(config, 1, tokens);
  layout.live_chunks = layout.chunks();
  ComparePositions(file, layout, report);
  CompareVisibility("/output/visible", file, layout, AttentionWindow::Ksa(config.ksa.window_chunks), true, report);
  CompareVisibility("/output/visible_full",
                    file,
                    layout,
                    AttentionWindow::Full(),
                    config.ksa.full_layers == FullLayers::kAttend,
                    report);
  double mix = 1.0;
  if (file.HasAttribute("/", "step")) {
    mix = AnnealMix(config, file.IntegerAttribute("/", "step"));
    report.Compare("mix", "", {mix}, {file.NumberAttribute("/", "mix")}, 1e-15);
  }
  ModelRun(file, config, run, report).Run(mix);
}

}  // namespace ksa::testing
