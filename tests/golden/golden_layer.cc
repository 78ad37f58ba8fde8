// Files of format ksa-golden-layer-1: a mixer alone, a group a configuration. Input are its normed rows, output what
// follows its output projection.
#include <fmt/core.h>

#include "kernels/attention/attention.h"
#include "model/mixers/hca/hca_mixer.h"
#include "model/mixers/parameters.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"
#include "trainer/config/load.h"

namespace ksa::testing {
namespace {

// What a file says of a layer, with the least of a model around it.
ModelConfig LayerConfig(const H5Reader& file, const std::string& group, int32_t tokens) {
  std::string config = file.TextAttribute(group, "config");
  config.insert(1, "\"vocab_size\": 1, \"intermediate_size\": 0, \"num_hidden_layers\": 1, ");
  return ParseModelConfig("{\"model\": " + config + "}", "attribute config of " + group, tokens);
}

std::vector<ParameterSpec> SpecsOf(const ModelConfig& config) {
  ParameterList list(config, 1, false);
  list.Begin(0, "");
  config.layers[0]->AddParameters(config, false, list);
  return list.Take();
}

class LayerCase {
 public:
  LayerCase(const H5Reader& file, const std::string& group, const GoldenRun& run, Report& report)
      : file_(file),
        group_("/" + group),
        run_(run),
        report_(report),
        bounds_(BoundsOf(run.dtype)),
        hidden_(LoadDataset(file, group_ + "/input/hidden", run)),
        config_(LayerConfig(file, group_, static_cast<int32_t>(hidden_.rows()))),
        store_(SpecsOf(config_), run.dtype, *run.place.memory, {}, run.place.stream),
        ropes_(hidden_.rows(), config_.rope_theta, store_.state_dtype(), *run.place.memory, run.place.stream),
        mixer_(config_.layers[0]->Bind(config_, LayerParameters(store_, ""), ropes_)),
        first_chunk_(file.Integers(group_ + "/input/document_first_chunk")),
        chunk_tokens_(file.Integers(group_ + "/input/chunk_tokens")) {
    layout_ = {.text_tokens = static_cast<int32_t>(hidden_.rows()),
               .chunk_size = config_.ChunkSize(),
               .document_first_chunk = first_chunk_.data(),
               .chunk_tokens = chunk_tokens_.data()};
    first_chunk_there_ = IntegersAt(first_chunk_, run.place);
    chunk_tokens_there_ = IntegersAt(chunk_tokens_, run.place);
    call_.layout = There(layout_);
    call_.whole = call_.layout;
    call_.role = SummaryRole::kBypass;
  }

  void Run() {
    if (!LoadWeights(file_, group_ + "/weights", store_, run_, report_)) {
      return;
    }
    CompareVisibility();
    CompareRows();
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = run_.place.stream, .allocator = run_.place.memory};
    store_.BeginUpdate();
    const Var normed = Leaf(cx, hidden_, Placements::Rows());
    const Var out = mixer_->Forward(cx, normed, call_);
    Compare("out", "out", out.value, bounds_.forward);
    tape.Backward(cx, out, LoadDataset(file_, group_ + "/input/dout", run_));
    CompareGradient("hidden", tape.TakeGrad(normed.slot));
    store_.FinishGradients(cx.stream);
    for (const Parameter& parameter : store_.parameters()) {
      CompareGradient(parameter.spec.name, parameter.grad);
    }
  }

 private:
  // `layout` for kernels, whose tables lie where the rows do.
  [[nodiscard]] SummaryLayout There(SummaryLayout layout) const {
    layout.document_first_chunk = first_chunk_there_.As<int32_t>();
    layout.chunk_tokens = chunk_tokens_there_.As<int32_t>();
    return layout;
  }

  [[nodiscard]] SummaryLayout AllEntries() const {
    SummaryLayout layout = layout_;
    layout.summary_tokens = 1;
    layout.live_chunks = layout.chunks();
    layout.summary_positions = config_.mixers.Of<HcaConfig>().compressed_positions;
    return layout;
  }

  void CompareVisibility() {
    const SummaryLayout all = AllEntries();
    std::vector<double> visible;
    for (int32_t i = 0; i < all.text_tokens; ++i) {
      for (int32_t j = 0; j < all.text_tokens + all.chunks(); ++j) {
        const bool is_entry = j >= all.text_tokens;
        const RowId key = {is_entry, is_entry ? j - all.text_tokens : j};
        visible.push_back(Visible(all, WindowOf(*config_.layers[0]), 0, {false, i}, key) ? 1.0 : 0.0);
      }
    }
    report_.Compare("visibility", "of " + group_, visible, file_.Values(group_ + "/output/visible"), 0.0);
    std::vector<double> positions;
    for (int32_t c = 0; c < all.chunks(); ++c) {
      positions.push_back(all.ChunkTokens(0, c) < all.chunk_size ? -1.0 : all.SummaryPosition(0, c));
    }
    report_.Compare("positions", "of " + group_, positions, file_.Values(group_ + "/output/positions"), 0.0);
  }

  // What attention reads and what comes of it, of rows that are no padding and entries that some text sees.
  void CompareRows() {
    const ExecContext cx = {.tape = nullptr, .stream = run_.place.stream, .allocator = run_.place.memory};
    const auto& hca = dynamic_cast<const BoundHca&>(*mixer_);
    const BoundHca::Rows rows = hca.MakeRows(cx, Leaf(cx, hidden_, Placements::Rows()), call_);
    const int64_t text = hidden_.rows();
    CompareChosen("q", rows.q.value, "q", RealRows());
    CompareChosen("k", rows.k.value.Rows(0, text), "k", RealRows());
    CompareChosen("v", rows.v.value.Rows(0, text), "v", RealRows());
    const int64_t entries = rows.k.rows() - text;
    CompareChosen("entries", rows.k.value.Rows(text, entries), "entry_k", SeenEntries(entries));
    CompareChosen("entries", rows.v.value.Rows(text, entries), "entry_v", SeenEntries(entries));
    SummaryLayout layout = There(AllEntries());
    layout.live_chunks = static_cast<int32_t>(entries);
    const int64_t e = config_.head_dim;
    const auto heads = [&](const Tensor& x) { return x.view().Reshape({x.rows(), x.cols() / e, e}); };
    const Tensor core = cx.Empty(rows.q.value.shape(), run_.dtype);
    const Tensor lse = cx.Empty({text, rows.q.cols() / e}, AccumulationType(run_.dtype));
    AttentionForward({.q = heads(rows.q.value),
                      .k = heads(rows.k.value),
                      .v = heads(rows.v.value),
                      .out = heads(core),
                      .lse = lse,
                      .layout = layout,
                      .window = WindowOf(*config_.layers[0]),
                      .allocator = run_.place.memory},
                     cx.stream);
    Compare("core", "core", core, bounds_.forward);
    CompareChosen("lse", lse, "lse", RealRows());
  }

  [[nodiscard]] std::vector<bool> RealRows() const {
    std::vector<bool> real;
    for (int32_t i = 0; i < layout_.text_tokens; ++i) {
      real.push_back(!layout_.IsPadding(0, i));
    }
    return real;
  }

  [[nodiscard]] std::vector<bool> SeenEntries(int64_t count) const {
    const H5Reader::Dataset visible = file_.Read(group_ + "/output/visible");
    const int64_t text = visible.shape.at(0);
    std::vector<bool> seen(static_cast<size_t>(count), false);
    for (int64_t i = 0; i < text; ++i) {
      for (int64_t c = 0; c < count; ++c) {
        const bool sees = visible.values[static_cast<size_t>(i * visible.shape.at(1) + text + c)] != 0.0;
        seen[static_cast<size_t>(c)] = seen[static_cast<size_t>(c)] || sees;
      }
    }
    return seen;
  }

  // Of the rows that are chosen: `actual` against the first rows of a dataset.
  void CompareChosen(const std::string& quantity,
                     const TensorView& actual,
                     const std::string& name,
                     const std::vector<bool>& chosen) {
    const std::vector<double> values = ValuesOf(actual, run_.place.stream);
    const std::vector<double> expected = file_.Values(group_ + "/output/" + name);
    std::vector<double> here;
    std::vector<double> there;
    for (size_t r = 0; r < chosen.size(); ++r) {
      const size_t cols = values.size() / chosen.size();
      for (size_t c = r * cols; chosen[r] && c < (r + 1) * cols; ++c) {
        here.push_back(values[c]);
        there.push_back(expected.at(c));
      }
    }
    report_.Compare(
        quantity, name + " of " + group_, here, there, run_.Bound(quantity, name + " of " + group_, bounds_.forward));
  }

  void Compare(const std::string& quantity, const std::string& name, const TensorView& actual, double bound) {
    report_.Compare(quantity,
                    "of " + group_,
                    ValuesOf(actual, run_.place.stream),
                    file_.Values(group_ + "/output/" + name),
                    run_.Bound(quantity, "of " + group_, bound));
  }

  void CompareGradient(const std::string& name, const TensorView& actual) {
    const std::string tensor = name + " of " + group_;
    report_.Compare("gradients",
                    tensor,
                    ValuesOf(actual, run_.place.stream),
                    file_.Values(group_ + "/grad/" + name),
                    run_.Bound("gradients", tensor, bounds_.gradients));
  }

  const H5Reader& file_;
  std::string group_;
  GoldenRun run_;
  Report& report_;
  GoldenBounds bounds_;
  Tensor hidden_;
  ModelConfig config_;
  ParameterStore store_;
  RopeTables ropes_;
  std::unique_ptr<BoundMixer> mixer_;
  std::vector<int32_t> first_chunk_;
  std::vector<int32_t> chunk_tokens_;
  Tensor first_chunk_there_;
  Tensor chunk_tokens_there_;
  SummaryLayout layout_;  // with tables on the host
  MixerCall call_;
};

}  // namespace

void RunLayerFile(const H5Reader& file, const GoldenRun& run, Report& report) {
  for (const std::string& group : file.Children("/")) {
    LayerCase(file, group, run, report).Run();
  }
}

}  // namespace ksa::testing
