// Files of format ksa-golden-1: a whole model, forward and backward.
#include <algorithm>
#include <cmath>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "kernels/copy/elementwise.h"
#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "model/mixers/attention/attention_mixer.h"
#include "model/mixers/hca/hca_mixer.h"
#include "model/ops/norm.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"
#include "trainer/config/load.h"

namespace ksa::testing {
namespace {

Tensor Integers(const std::vector<double>& values, Allocator& allocator) {
  Tensor x = Tensor::Empty({static_cast<int64_t>(values.size())}, DType::kI32, allocator);
  std::transform(
      values.begin(), values.end(), x.As<int32_t>(), [](double value) { return static_cast<int32_t>(value); });
  return x;
}

// A batch of one sequence, as a file has it: format ksa-golden-1 holds one document, ksa-golden-2 may pack several.
class Text {
 public:
  Text(const H5Reader& file, const ModelConfig& config, const Place& place)
      : ids(ToPlace(Integers(file.Values("/input/token_ids"), host_), place)), layout(LayoutOf(config)) {
    const std::string first = "/input/document_first_chunk";
    if (!file.Has(first)) {
      return;
    }
    on_host_[0] = Integers(file.Values(first), host_);
    on_host_[1] = Integers(file.Values("/input/chunk_tokens"), host_);
    KSA_CHECK(on_host_[0].size() == layout.chunks() && on_host_[1].size() == layout.chunks(),
              "{} and chunk_tokens have {} and {} chunks of {}",
              first,
              on_host_[0].size(),
              on_host_[1].size(),
              layout.chunks());
    on_place_[0] = ToPlace(on_host_[0], place);
    on_place_[1] = ToPlace(on_host_[1], place);
    layout.document_first_chunk = on_place_[0].As<int32_t>();
    layout.chunk_tokens = on_place_[1].As<int32_t>();
  }

  // The layout with rows for all summaries, for questions on the host.
  [[nodiscard]] SummaryLayout AllLive() const {
    SummaryLayout all = layout;
    all.live_chunks = all.chunks();
    if (!on_host_[0].empty()) {
      all.document_first_chunk = on_host_[0].As<int32_t>();
      all.chunk_tokens = on_host_[1].As<int32_t>();
    }
    return all;
  }

 private:
  [[nodiscard]] SummaryLayout LayoutOf(const ModelConfig& config) const {
    return MakeLayout(config, 1, static_cast<int32_t>(ids.size()));
  }

  GuardAllocator host_;
  Tensor on_host_[2];
  Tensor on_place_[2];

 public:
  Tensor ids;
  SummaryLayout layout;  // what the model runs
};

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
  if (layout.summary_tokens > 0) {
    report.Compare("positions", "of summaries", summary, file.Values("/output/positions_summary"), 0.0);
  }
}

// `all_live` has rows for all summaries; those of the file are queries too, or keys alone.
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
  for (int64_t q = 0; q < file.Read(path).shape.at(0); ++q) {
    for (int64_t k = 0; k < all_live.rows(); ++k) {
      const bool sees = (summaries_see || !row(q).is_summary) && Visible(all_live, window, 0, row(q), row(k));
      visible.push_back(sees ? 1.0 : 0.0);
    }
  }
  report.Compare("visibility", path, visible, file.Values(path), 0.0);
}

// Format ksa-golden-2: a mask a layer.
void CompareLayerMasks(const H5Reader& file, const ModelConfig& config, const SummaryLayout& all, Report& report) {
  for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const Mixer& mixer = *config.layers[static_cast<size_t>(layer)];
    SummaryLayout keys = all;
    if (WindowOf(mixer).summaries) {
      keys.summary_tokens = std::max(1, all.summary_tokens);  // entries, where there are no summary rows
    }
    CompareVisibility(
        fmt::format("/output/visible/{}", layer), file, keys, WindowOf(mixer), config.SummariesAttend(layer), report);
  }
}

// By summary row of a sequence: whether some text sees it in a layer.
std::vector<bool> SeenBy(const AttentionWindow& window, const SummaryLayout& all) {
  std::vector<bool> seen(static_cast<size_t>(all.live_summaries()), false);
  for (int32_t s = 0; s < all.live_summaries(); ++s) {
    for (int32_t i = 0; i < all.text_tokens; ++i) {
      seen[static_cast<size_t>(s)] = seen[static_cast<size_t>(s)] || Visible(all, window, 0, {false, i}, {true, s});
    }
  }
  return seen;
}

// By summary row of a sequence: whether some text sees it in some layer. The others are dead, and no rows of the file
// are of use where documents end.
std::vector<bool> SeenSummaries(const ModelConfig& config, const SummaryLayout& all) {
  std::vector<bool> seen(static_cast<size_t>(all.live_summaries()), false);
  for (const LayerSpec& layer : config.layers) {
    const std::vector<bool> here = SeenBy(WindowOf(*layer), all);
    for (size_t s = 0; s < seen.size(); ++s) {
      seen[s] = seen[s] || here[s];
    }
  }
  return seen;
}

// The rows of a matrix that are wanted.
std::vector<double> Chosen(const std::vector<double>& x, const std::vector<bool>& wanted, int64_t rows, int64_t cols) {
  std::vector<double> chosen;
  for (int64_t r = 0; r < rows; ++r) {
    if (wanted[static_cast<size_t>(r)]) {
      chosen.insert(chosen.end(), x.begin() + r * cols, x.begin() + (r + 1) * cols);
    }
  }
  return chosen;
}

class ModelRun {
 public:
  ModelRun(const H5Reader& file, const ModelConfig& config, const GoldenRun& run, Report& report)
      : file_(file),
        report_(report),
        run_(run),
        bounds_(BoundsOf(run.dtype)),
        text_(file, config, run.place),
        seen_(config.HasSummaryRows() ? SeenSummaries(config, text_.AllLive()) : std::vector<bool>()),
        store_(ParameterSpecs(config), run.dtype, *run.place.memory, {}, run.place.stream),
        model_(config, store_, *run.place.memory, run.place.stream, text_.ids.size()),
        attention_sum_(Tensor::Empty({1}, DType::kF64, *run.place.memory)),
        term_sums_(Tensor::Empty({3}, DType::kF64, *run.place.memory)) {
    if (file.HasAttribute("/", "distill")) {
      distill_ = nlohmann::json::parse(file.TextAttribute("/", "distill"));
    }
  }

  [[nodiscard]] const Text& text() const { return text_; }

  void Run(double mix) {
    if (!LoadWeights(file_, "/weights", store_, run_, report_)) {
      return;
    }
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = run_.place.stream, .allocator = run_.place.memory};
    std::vector<Var> trace;
    KsaModel::Input input;
    input.ids = text_.ids;
    input.layout = text_.layout;
    input.mix = mix;
    input.trace = &trace;
    KsaModel::Teaching teaching;
    std::vector<Tensor> outputs;
    if (distills()) {
      teaching.normalize = distill_.at("normalize").get<bool>();
      teaching.sum = attention_sum_;
      teaching.trace = &outputs;
      teaching.scale = Factor("f_attn") / AttentionElements();
      Zero(attention_sum_, cx.stream);
      input.teaching = &teaching;
    }
    store_.BeginUpdate();
    const Var hidden = model_.Hidden(cx, input);
    CompareStates(trace, input.layout.text_rows());
    CompareEntries(trace);
    Compare("logits", "", model_.Logits(cx, hidden.value), file_.Values("/output/logits"));
    trace.clear();
    if (distills()) {
      CompareTeacher(cx, teaching, outputs);
    }
    CompareLossAndGradients(cx, hidden, teaching.hidden);
  }

 private:
  [[nodiscard]] bool distills() const { return !distill_.is_null(); }

  [[nodiscard]] double Factor(const char* name) const { return distill_.at(name).get<double>(); }

  [[nodiscard]] std::vector<int32_t> PulledLayers() const {
    std::vector<int32_t> layers;
    for (int32_t i = 0; i < model_.config().num_hidden_layers; ++i) {
      if (model_.config().SummariesAttend(i)) {
        layers.push_back(i);
      }
    }
    return layers;
  }

  [[nodiscard]] double AttentionElements() const {
    return static_cast<double>(PulledLayers().size()) * static_cast<double>(text_.ids.size()) *
           model_.config().hidden_size;
  }

  void CompareTeacher(const ExecContext& cx, const KsaModel::Teaching& teaching, const std::vector<Tensor>& outputs) {
    Compare("teacher logits", "", model_.Logits(cx, teaching.hidden), file_.Values("/output/teacher_logits"));
    const std::vector<int32_t> layers = PulledLayers();
    KSA_CHECK(outputs.size() == layers.size(), "{} layers of {} are pulled", outputs.size(), layers.size());
    for (size_t i = 0; i < layers.size(); ++i) {
      std::vector<double> values = ValuesOf(outputs[i], cx.stream);
      if (teaching.normalize) {
        DivideByRoot(values, outputs[i].cols());
      }
      const std::string path = fmt::format("/output/attn_teacher/{}", layers[i]);
      Compare("teacher's attention", path, values, file_.Values(path));
    }
  }

  // Rows by the root of their mean square, as the file has them.
  static void DivideByRoot(std::vector<double>& x, int64_t cols) {
    for (auto row = x.begin(); row != x.end(); row += cols) {
      double squares = 0.0;
      std::for_each(row, row + cols, [&](double value) { squares += value * value; });
      const double divisor = std::sqrt(squares / static_cast<double>(cols)) + 1e-6;
      std::for_each(row, row + cols, [&](double& value) { value /= divisor; });
    }
  }

  void CompareStates(const std::vector<Var>& trace, int64_t text_rows) {
    CompareRows("embedding", "/output/embedding", trace[0], text_rows);
    for (size_t layer = 0; layer + 1 < trace.size(); ++layer) {
      CompareRows("hidden", fmt::format("/output/hidden/{}", layer), trace[layer + 1], text_rows);
    }
  }

  // The rows of `value` against the file's: dead summary rows have none here, or are not looked at, and summary rows
  // end in the last KSA layer.
  void CompareRows(const std::string& quantity, const std::string& group, const Var& value, int64_t text_rows) {
    Compare(quantity, group + "/text", value.value.Rows(0, text_rows), file_.Values(group + "/text"));
    const int64_t summaries = value.rows() - text_rows;
    if (summaries > 0) {
      Compare(
          quantity,
          group + "/summary",
          Chosen(ValuesOf(value.value.Rows(text_rows, summaries), run_.place.stream), seen_, summaries, value.cols()),
          Chosen(file_.Values(group + "/summary"), seen_, summaries, value.cols()));
    }
  }

  // What hca layers make of the rows that come into them, of chunks that some text sees.
  void CompareEntries(const std::vector<Var>& trace) {
    const ModelConfig& config = model_.config();
    const ExecContext cx = {.tape = nullptr, .stream = run_.place.stream, .allocator = run_.place.memory};
    RopeTables ropes(text_.ids.size(), config.rope_theta, store_.state_dtype(), *cx.allocator, cx.stream);
    for (int32_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      const std::string group = fmt::format("/output/entries/{}/", layer);
      if (!file_.Has(group + "k")) {
        continue;
      }
      const Mixer& mixer = *config.layers[static_cast<size_t>(layer)];
      const LayerParameters parameters(store_, LayerPrefix(layer));
      const auto bound = mixer.Bind(config, parameters, ropes);
      const Var& x = trace[static_cast<size_t>(layer)];
      Parameter& norm = *parameters.Get("input_layernorm.weight");
      const Var normed = RmsNorm(cx, x, x.rows(), norm, nullptr, config.rms_norm_eps);
      const BoundHca::Rows rows = dynamic_cast<const BoundHca&>(*bound).MakeRows(
          cx, normed, {.layout = text_.layout, .whole = text_.layout, .role = SummaryRole::kBypass});
      SummaryLayout all = text_.AllLive();
      all.summary_tokens = 1;
      const std::vector<bool> seen = SeenBy(WindowOf(mixer), all);
      const int64_t text_rows = text_.layout.text_rows();
      const int64_t entries = rows.k.rows() - text_rows;
      const auto compare = [&](const Var& actual, const std::string& name) {
        const std::vector<double> values = ValuesOf(actual.value.Rows(text_rows, entries), cx.stream);
        Compare("entries",
                group + name,
                Chosen(values, seen, entries, actual.cols()),
                Chosen(file_.Values(group + name), seen, entries, actual.cols()));
      };
      compare(rows.k, "k");
      compare(rows.v, "v");
    }
  }

  // Of the forward pass.
  void Compare(const std::string& quantity,
               const std::string& tensor,
               const std::vector<double>& actual,
               const std::vector<double>& expected) {
    report_.Compare(quantity, tensor, actual, expected, run_.Bound(quantity, tensor, bounds_.forward));
  }

  void Compare(const std::string& quantity,
               const std::string& tensor,
               const TensorView& actual,
               const std::vector<double>& expected) {
    Compare(quantity, tensor, ValuesOf(actual, run_.place.stream), expected);
  }

  // The terms of the loss, of which `rows` holds the weighted sum.
  void CompareTerms(const ExecContext& cx, double loss_sum, double count) {
    const std::vector<double> terms = ValuesOf(term_sums_, cx.stream);
    const double attention = ValuesOf(attention_sum_, cx.stream)[0] / AttentionElements();
    const auto compare = [&](const char* name, double value) {
      Compare(name, "", std::vector<double>{value}, file_.Values(std::string("/output/") + name));
    };
    compare("loss_lm", terms[0] / count);
    compare("loss_kl", terms[1] / count);
    compare("loss_attn", attention);
    compare("loss_total", loss_sum / count + Factor("f_attn") * attention);
  }

  void CompareLossAndGradients(const ExecContext& cx, const Var& hidden, const Tensor& teacher) {
    const std::vector<double> labels = file_.Values("/input/labels");
    const auto has_target = [](double label) { return label >= 0.0; };
    const double count = static_cast<double>(std::count_if(labels.begin(), labels.end(), has_target));
    const Tensor targets = ToPlace(Integers(labels, host_), run_.place);
    LossOptions options = {.grad_scale = 1.0 / count, .teacher = teacher};
    if (distills()) {
      options.weights = {Factor("f_lm"), Factor("f_kl"), 0.0};
      options.term_sums = term_sums_;
      Zero(term_sums_, cx.stream);
    }
    const CrossEntropyResult loss = model_.Loss(cx, hidden, targets, options);
    const double loss_sum = ValuesOf(loss.loss_sum.value, cx.stream)[0];
    if (distills()) {
      CompareTerms(cx, loss_sum, count);
    } else {
      CompareRowLosses(cx, loss, labels, loss_sum / count);
    }
    CompareGradients(cx, loss);
  }

  void CompareRowLosses(const ExecContext& cx,
                        const CrossEntropyResult& loss,
                        const std::vector<double>& labels,
                        double mean) {
    const std::vector<double> rows = ValuesOf(loss.row_loss, cx.stream);
    std::vector<double> token_loss;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (labels[i] >= 0.0) {
        token_loss.push_back(rows[i]);
      }
    }
    report_.Compare("token loss",
                    "",
                    token_loss,
                    file_.Values("/output/token_loss"),
                    run_.Bound("token loss", "", bounds_.forward));
    report_.Compare("loss", "", {mean}, file_.Values("/output/loss"), run_.Bound("loss", "", bounds_.forward));
  }

  void CompareGradients(const ExecContext& cx, const CrossEntropyResult& loss) {
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
  GoldenBounds bounds_;
  GuardAllocator host_;
  Text text_;
  std::vector<bool> seen_;  // by summary row
  ParameterStore store_;
  KsaModel model_;
  nlohmann::json distill_;  // f_lm, f_kl, f_attn, normalize; null: no teacher
  Tensor attention_sum_;
  Tensor term_sums_;
};

}  // namespace

void RunModelFile(const H5Reader& file, const std::string& variant, const GoldenRun& run, Report& report) {
  const int32_t tokens = static_cast<int32_t>(file.Read("/input/token_ids").shape.at(0));
  const ModelConfig config =
      ParseModelConfig("{\"model\": " + file.TextAttribute("/", variant) + "}", "attribute " + variant, tokens);
  ModelRun model(file, config, run, report);
  const SummaryLayout layout = model.text().AllLive();
  ComparePositions(file, layout, report);
  if (file.Has("/output/visible/0")) {
    CompareLayerMasks(file, config, layout, report);
  } else {
    CompareVisibility("/output/visible", file, layout, AttentionWindow::Ksa(config.ksa.window_chunks), true, report);
    CompareVisibility("/output/visible_full",
                      file,
                      layout,
                      AttentionWindow::Full(),
                      config.ksa.full_layers == FullLayers::kAttend,
                      report);
  }
  double mix = 1.0;
  if (file.HasAttribute("/", "step")) {
    mix = AnnealMix(config, file.IntegerAttribute("/", "step"));
    report.Compare("mix", "", {mix}, {file.NumberAttribute("/", "mix")}, 1e-15);
  }
  model.Run(mix);
}

}  // namespace ksa::testing
