// Files of a Gated DeltaNet layer, which name no format: the mixer alone. Input are normed rows, output what follows
// the output projection. Parameters lie in the files as in the libraries that made them: each by itself, or several in
// one matrix.
#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "kernels/delta_rule/delta_gates.h"
#include "kernels/delta_rule/gated_delta_rule.h"
#include "kernels/delta_rule/l2_norm.h"
#include "model/mixers/gdn/gdn_mixer.h"
#include "model/mixers/parameters.h"
#include "model/ops/heads.h"
#include "tests/golden/golden_file.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

ModelConfig ConfigOf(const H5Reader& file) {
  const nlohmann::json json = ParseJson(file.TextAttribute("/", "config"), "attribute config");
  const auto get = [&](const char* name) { return json.at(name).get<int32_t>(); };
  ModelConfig config;
  config.hidden_size = get("hidden_size");
  config.num_hidden_layers = 1;
  config.rms_norm_eps = std::stod(file.TextAttribute("/", "o_norm_eps"));
  config.mixers.Of<GdnConfig>() = {.key_heads = get("linear_num_key_heads"),
                                   .value_heads = get("linear_num_value_heads"),
                                   .key_head_dim = get("linear_key_head_dim"),
                                   .value_head_dim = get("linear_value_head_dim"),
                                   .conv_taps = get("linear_conv_kernel_dim"),
                                   .allow_neg_eigval = json.value("linear_allow_neg_eigval", false)};
  config.layers = {GdnLayer()};
  return config;
}

std::vector<ParameterSpec> SpecsOf(const ModelConfig& config) {
  ParameterList list(config, 1, false);
  list.Begin(0, "");
  config.layers[0]->AddParameters(config, false, list);
  return list.Take();
}

// Where the rows of a parameter lie: row i at first + i / block * stride + i % block.
struct FileRows {
  std::string dataset;
  int64_t block = 1;
  int64_t stride = 1;
  int64_t first = 0;
};

// Hugging Face's fused matrices: Qwen3-Next's have the rows of each key head together, Qwen3.5's those of each part.
class FileNames {
 public:
  FileNames(const H5Reader& file, const GdnConfig& gdn) : file_(file), gdn_(gdn) {}

  [[nodiscard]] FileRows Of(const std::string& name) const {
    if (file_.Has("/weights/" + name)) {
      return {name};
    }
    const std::string part = name.substr(std::string("linear_attn.").size());
    const int64_t share = gdn_.value_heads / gdn_.key_heads;
    const int64_t key = gdn_.key_head_dim;
    const int64_t value = share * gdn_.value_head_dim;  // of the value heads of a key head
    const int64_t keys = key * gdn_.key_heads;
    if (part == "o_norm.weight" || part == "o_proj.weight") {
      return {part == "o_norm.weight" ? "linear_attn.norm.weight" : "linear_attn.out_proj.weight"};
    }
    const char letter = part[0];
    const int64_t behind = letter == 'q' ? 0 : letter == 'k' ? keys : 2 * keys;
    if (part.ends_with("_conv1d.weight")) {
      return {"linear_attn.conv1d.weight", 1, 1, behind};
    }
    if (file_.Has("/weights/linear_attn.in_proj_qkvz.weight")) {
      if (letter == 'a' || letter == 'b') {
        return {"linear_attn.in_proj_ba.weight", share, 2 * share, letter == 'a' ? share : 0};
      }
      const int64_t first = letter == 'q' ? 0 : letter == 'k' ? key : letter == 'v' ? 2 * key : 2 * key + value;
      return {
          "linear_attn.in_proj_qkvz.weight", letter == 'q' || letter == 'k' ? key : value, 2 * (key + value), first};
    }
    if (letter == 'a' || letter == 'b' || letter == 'g') {
      return {std::string("linear_attn.in_proj_") + (letter == 'g' ? 'z' : letter) + ".weight"};
    }
    return {"linear_attn.in_proj_qkv.weight", 1, 1, behind};
  }

 private:
  const H5Reader& file_;
  const GdnConfig& gdn_;
};

class GdnCase {
 public:
  GdnCase(const H5Reader& file, const GoldenRun& run, Report& report)
      : file_(file),
        run_(run),
        report_(report),
        bounds_(BoundsOf(run.dtype)),
        config_(ConfigOf(file)),
        gdn_(config_.mixers.Of<GdnConfig>()),
        hidden_(LoadDataset(file, "/input/hidden", run)),
        store_(SpecsOf(config_), run.dtype, *run.place.memory, {}, run.place.stream),
        ropes_(hidden_.rows(), config_.rope_theta, store_.state_dtype(), *run.place.memory, run.place.stream),
        mixer_(config_.layers[0]->Bind(config_, LayerParameters(store_, ""), ropes_)) {
    call_.layout = {.text_tokens = static_cast<int32_t>(hidden_.rows())};
    call_.whole = call_.layout;
    call_.role = SummaryRole::kBypass;
  }

  void Run() {
    SetWeights(store_, run_, [&](const ParameterSpec& spec) { return ValuesOfParameter("/weights/", spec); });
    CompareRule();
    Tape tape;
    const ExecContext cx = {.tape = &tape, .stream = run_.place.stream, .allocator = run_.place.memory};
    store_.BeginUpdate();
    const Var normed = Leaf(cx, hidden_, Placements::Rows());
    const Var out = mixer_->Forward(cx, normed, call_);
    Compare("out", out.value, file_.Values("/output/out"), bounds_.forward);
    tape.Backward(cx, out, LoadDataset(file_, "/input/dout", run_));
    Compare("gradients", tape.TakeGrad(normed.slot), file_.Values("/grad/hidden"), bounds_.gradients, "hidden");
    store_.FinishGradients(cx.stream);
    for (const Parameter& parameter : store_.parameters()) {
      Compare("gradients",
              parameter.grad,
              ValuesOfParameter("/grad/", parameter.spec),
              bounds_.gradients,
              parameter.spec.name);
    }
  }

 private:
  // Of one of our parameters, from the rows of the file's that it is.
  [[nodiscard]] std::vector<double> ValuesOfParameter(const std::string& group, const ParameterSpec& spec) const {
    const FileRows rows = FileNames(file_, gdn_).Of(spec.name);
    const H5Reader::Dataset dataset = file_.Read(group + rows.dataset);
    const int64_t columns = spec.shape.SizeBehind(0);
    KSA_CHECK(static_cast<int64_t>(dataset.values.size()) % columns == 0,
              "{} has rows of another length than {}",
              rows.dataset,
              spec.name);
    std::vector<double> values;
    for (int64_t i = 0; i < spec.shape[0]; ++i) {
      const int64_t row = rows.first + i / rows.block * rows.stride + i % rows.block;
      for (int64_t c = 0; c < columns; ++c) {
        values.push_back(dataset.values.at(static_cast<size_t>(row * columns + c)));
      }
    }
    return values;
  }

  // What goes into the rule and comes out of it.
  void CompareRule() {
    const ExecContext cx = {.tape = nullptr, .stream = run_.place.stream, .allocator = run_.place.memory};
    const BoundGdn::Rows rows =
        dynamic_cast<const BoundGdn&>(*mixer_).MakeRows(cx, Leaf(cx, hidden_, Placements::Rows()), call_);
    const DType exact = AccumulationType(run_.dtype);
    const auto directions = [&](const Var& x) {
      Tensor y = cx.Empty(x.value.shape(), run_.dtype);
      L2NormForward({.x = Heads(x.value, gdn_.key_head_dim), .y = Heads(y, gdn_.key_head_dim)}, cx.stream);
      return y;
    };
    const Tensor q = directions(rows.q);
    const Tensor k = directions(rows.k);
    const Tensor g = cx.Empty(rows.a.value.shape(), exact);
    const Tensor beta = cx.Empty(rows.a.value.shape(), exact);
    DeltaGatesForward({.a = rows.a.value,
                       .b = rows.b.value,
                       .a_log = store_.Get("linear_attn.A_log").value,
                       .dt_bias = store_.Get("linear_attn.dt_bias").value,
                       .g = g,
                       .beta = beta,
                       .most = gdn_.allow_neg_eigval ? 2.0 : 1.0},
                      cx.stream);
    const Tensor core = cx.Empty(rows.v.value.shape(), run_.dtype);
    const Tensor state = cx.Empty({1, gdn_.value_heads, gdn_.key_head_dim, gdn_.value_head_dim}, exact);
    GatedDeltaRuleForward({.q = Heads(q, gdn_.key_head_dim),
                           .k = Heads(k, gdn_.key_head_dim),
                           .v = Heads(rows.v.value, gdn_.value_head_dim),
                           .g = g,
                           .beta = beta,
                           .out = Heads(core, gdn_.value_head_dim),
                           .final_state = state,
                           .layout = call_.layout,
                           .allocator = cx.allocator},
                          cx.stream);
    CompareOutput("q", q);
    CompareOutput("k", k);
    CompareOutput("v", rows.v.value);
    CompareOutput("g", g);
    CompareOutput("beta", beta);
    CompareOutput("core", core);
    CompareOutput("state", state);
  }

  void CompareOutput(const std::string& name, const TensorView& actual) {
    Compare(name, actual, file_.Values("/output/" + name), bounds_.forward);
  }

  void Compare(const std::string& quantity,
               const TensorView& actual,
               const std::vector<double>& expected,
               double bound,
               const std::string& tensor = "") {
    report_.Compare(
        quantity, tensor, ValuesOf(actual, run_.place.stream), expected, run_.Bound(quantity, tensor, bound));
  }

  const H5Reader& file_;
  GoldenRun run_;
  Report& report_;
  GoldenBounds bounds_;
  ModelConfig config_;
  const GdnConfig& gdn_;
  Tensor hidden_;
  ParameterStore store_;
  RopeTables ropes_;
  std::unique_ptr<BoundMixer> mixer_;
  MixerCall call_;
};

}  // namespace

void RunGdnLayerFile(const H5Reader& file, const GoldenRun& run, Report& report) {
  GdnCase(file, run, report).Run();
}

}  // namespace ksa::testing
