// Files of multi-head latent attention, which name no format: a mixer alone, of one layer of text at the root, or in
// groups with summary rows. Input are normed rows, output what follows the output projection.
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/mla/mla_mixer.h"
#include "model/mixers/parameters.h"
#include "model/ops/collectives.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

// A row of the rotary part of our half-split form, in a file whose pairs are (2i, 2i + 1).
int64_t InterleavedRow(int64_t i, int64_t rope) {
  return i < rope / 2 ? 2 * i : 2 * (i - rope / 2) + 1;
}

class MlaCase {
 public:
  MlaCase(const H5Reader& file, const std::string& group, const GoldenRun& run, Report& report)
      : file_(file),
        group_(group),
        run_(run),
        report_(report),
        bounds_(BoundsOf(run.dtype)),
        json_(ParseJson(file.TextAttribute(group.empty() ? "/" : group, "config"), "attribute config")),
        with_summaries_(file.Has(group + "/input/hidden_text")),
        interleaved_(json_.value("rope_interleave", false)),
        config_(MakeConfig()),
        hidden_(LoadRows("hidden")),
        store_(Specs(), run.dtype, *run.place.memory, {}, run.place.stream),
        ropes_(hidden_.rows(), config_.rope_theta, store_.state_dtype(), *run.place.memory, run.place.stream),
        mixer_(config_.layers[0]->Bind(config_, LayerParameters(store_, ""), ropes_)) {
    const auto text =
        static_cast<int32_t>(file.Read(group + "/input/hidden" + (with_summaries_ ? "_text" : "")).shape[0]);
    call_.layout = {.text_tokens = text, .chunk_size = with_summaries_ ? config_.ksa.chunk_size : 1};
    if (with_summaries_) {
      call_.layout.summary_tokens = config_.ksa.summary_tokens;
      call_.layout.live_chunks = call_.layout.chunks();  // the file holds the dead summary rows as well
      call_.layout.summary_positions = config_.ksa.summary_positions;
    }
    call_.whole = call_.layout;
    call_.role = with_summaries_ ? SummaryRole::kAttend : SummaryRole::kBypass;
    call_.mix = json_.value("mix", 1.0);
  }

  void Run() {
    if (!LoadAllWeights()) {
      return;
    }
    if (with_summaries_) {
      CompareMask();
    }
    CompareLatents();
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = run_.place.stream, .allocator = run_.place.memory};
    store_.BeginUpdate();
    const Var normed = Leaf(cx, hidden_, Placements::Rows());
    const Var out = mixer_->Forward(cx, normed, call_);
    Compare("out", ValuesOf(out.value, cx.stream), ValuesOfRows("/output/out"), bounds_.forward);
    tape.Backward(cx, out, LoadRows("dout"));
    Compare("gradients of hidden",
            ValuesOf(tape.TakeGrad(normed.slot), cx.stream),
            ValuesOfRows("/grad/hidden"),
            bounds_.gradients);
    store_.FinishGradients(cx.stream);
    for (const Parameter& parameter : store_.parameters()) {
      Compare("gradients of " + parameter.spec.name,
              ValuesOf(parameter.grad, cx.stream),
              Permuted(parameter.spec, file_.Values(group_ + "/grad/" + parameter.spec.name)),
              bounds_.gradients);
    }
  }

 private:
  [[nodiscard]] int32_t Get(const char* name) const { return json_.at(name).get<int32_t>(); }

  [[nodiscard]] ModelConfig MakeConfig() const {
    ModelConfig config;
    config.hidden_size = Get("hidden_size");
    config.num_attention_heads = config.num_key_value_heads = Get("num_attention_heads");
    config.rope_theta = json_.at("rope_theta").get<double>();
    config.num_hidden_layers = 1;
    MlaConfig& mla = config.mixers.Of<MlaConfig>();
    if (!json_.at("q_lora_rank").is_null()) {
      mla.q_lora_rank = Get("q_lora_rank");
    }
    mla.kv_lora_rank = Get("kv_lora_rank");
    mla.qk_nope_head_dim = Get("qk_nope_head_dim");
    mla.qk_rope_head_dim = Get("qk_rope_head_dim");
    mla.v_head_dim = Get("v_head_dim");
    if (with_summaries_) {
      config.ksa.chunk_size = Get("chunk_size");
      config.ksa.summary_tokens = Get("summary_tokens");
      config.ksa.independent.qkv = json_.at("own_qkv").get<bool>();
      config.ksa.independent.qk_norm = json_.at("own_norm").get<bool>();
      KSA_CHECK(json_.at("text_positions") == "origin" && json_.at("summary_positions") == "chunk_end",
                "positions that this test does not know");
      config.layers = {WithMla(KsaKind(), AttentionWindow::Ksa(Get("window_chunks")))};
    } else {
      config.layers = {MlaLayer()};
    }
    return config;
  }

  [[nodiscard]] std::vector<ParameterSpec> Specs() const {
    ParameterList list(config_, 1, false);
    list.Begin(0, "");
    config_.layers[0]->AddParameters(config_, with_summaries_, list);
    return list.Take();
  }

  // Text rows, then summary rows.
  [[nodiscard]] std::vector<double> ValuesOfRows(const std::string& path) const {
    if (!with_summaries_) {
      return file_.Values(group_ + path);
    }
    std::vector<double> rows = file_.Values(group_ + path + "_text");
    const std::vector<double> behind = file_.Values(group_ + path + "_summary");
    rows.insert(rows.end(), behind.begin(), behind.end());
    return rows;
  }

  [[nodiscard]] Tensor LoadRows(const std::string& name) {
    const std::vector<double> values = ValuesOfRows("/input/" + name);
    const int64_t d = config_.hidden_size;
    const Tensor x = Tensor::Empty({static_cast<int64_t>(values.size()) / d, d}, run_.dtype, host_);
    for (int64_t i = 0; i < x.size(); ++i) {
      SetElement(x, i, values[static_cast<size_t>(i)]);
    }
    return ToPlace(x, run_.place);
  }

  // A matrix of the file with the rows of its rotary parts in our order, as an import would put them.
  [[nodiscard]] std::vector<double> Permuted(const ParameterSpec& spec, const std::vector<double>& values) const {
    const MlaConfig& mla = config_.mixers.Of<MlaConfig>();
    const bool of_queries =
        spec.name.find("q_proj") != std::string::npos || spec.name.find("q_b_proj") != std::string::npos;
    const bool of_keys = spec.name.find("kv_a_proj") != std::string::npos;
    if (!interleaved_ || (!of_queries && !of_keys)) {
      return values;
    }
    const int64_t rope = mla.qk_rope_head_dim;
    const int64_t head = of_keys ? spec.shape[0] : mla.key_dim();
    const int64_t cols = spec.shape[1];
    std::vector<double> permuted = values;
    for (int64_t first = head - rope; first < spec.shape[0]; first += head) {
      for (int64_t i = 0; i < rope; ++i) {
        const auto from = values.begin() + (first + InterleavedRow(i, rope)) * cols;
        std::copy(from, from + cols, permuted.begin() + (first + i) * cols);
      }
    }
    return permuted;
  }

  [[nodiscard]] bool LoadAllWeights() {
    if (!LoadWeights(file_, group_ + "/weights", store_, run_, report_)) {
      return false;
    }
    SetWeights(store_, run_, [&](const ParameterSpec& spec) {
      return Permuted(spec, file_.Values(group_ + "/weights/" + spec.name));
    });
    return true;
  }

  void CompareMask() {
    const SummaryLayout& layout = call_.layout;
    const auto row = [&](int64_t i) {
      const bool is_summary = i >= layout.text_rows();
      return RowId{is_summary, static_cast<int32_t>(is_summary ? i - layout.text_rows() : i)};
    };
    std::vector<double> visible;
    std::vector<double> positions;
    for (int64_t q = 0; q < layout.rows(); ++q) {
      positions.push_back(layout.Position(q));
      for (int64_t k = 0; k < layout.rows(); ++k) {
        visible.push_back(Visible(layout, WindowOf(*config_.layers[0]), 0, row(q), row(k)) ? 1.0 : 0.0);
      }
    }
    report_.Compare("visibility", "of " + group_, visible, file_.Values(group_ + "/output/visible"), 0.0);
    report_.Compare("positions", "of " + group_, positions, file_.Values(group_ + "/output/positions"), 0.0);
  }

  void CompareLatents() {
    const ExecContext cx = {.tape = nullptr, .stream = run_.place.stream, .allocator = run_.place.memory};
    const Var entered = TensorEnter(cx, Leaf(cx, hidden_, Placements::Rows()), call_.RowsIn());
    const BoundMla::Latents latents = dynamic_cast<const BoundMla&>(*mixer_).MakeLatents(cx, entered, call_);
    Compare(
        "latent", ValuesOf(latents.latent.value, cx.stream), file_.Values(group_ + "/output/latent"), bounds_.forward);
    Compare("rope", ValuesOf(latents.rope.value, cx.stream), file_.Values(group_ + "/output/k_rope"), bounds_.forward);
  }

  void Compare(const std::string& quantity,
               const std::vector<double>& actual,
               const std::vector<double>& expected,
               double bound) {
    report_.Compare(quantity, "of " + group_, actual, expected, run_.Bound(quantity, "of " + group_, bound));
  }

  const H5Reader& file_;
  std::string group_;  // "" or "/name"
  GoldenRun run_;
  Report& report_;
  GoldenBounds bounds_;
  nlohmann::json json_;
  bool with_summaries_;
  bool interleaved_;
  ModelConfig config_;
  GuardAllocator host_;
  Tensor hidden_;
  ParameterStore store_;
  RopeTables ropes_;
  std::unique_ptr<BoundMixer> mixer_;
  MixerCall call_;
};

}  // namespace

void RunMlaFile(const H5Reader& file, const GoldenRun& run, Report& report) {
  if (file.HasAttribute("/", "config")) {
    MlaCase(file, "", run, report).Run();
    return;
  }
  for (const std::string& group : file.Children("/")) {
    MlaCase(file, "/" + group, run, report).Run();
  }
}

}  // namespace ksa::testing
