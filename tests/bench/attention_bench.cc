// Attention on a GPU, timed: `attention_bench PATH [FILTER]` with PATH auto, plain, mma, wgmma or cudnn; only the cases
// whose line contains FILTER. First the path's results are compared with the plain path's on a small shape.
//
// Milliseconds are medians between events around the whole call (summary queries and delta included). TFLOP/s count
// visible pairs of text queries alone: 4·e forward and 10·e backward for each pair and head.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "kernels/attention/attention.h"
#include "kernels/core/arena.h"
#include "kernels/core/gpu.h"
#include "model/ksa/cost.h"

namespace ksa {
namespace {

constexpr int kRuns = 21;

struct Case {
  int32_t tokens;
  int32_t chunk_size;
  int32_t window_chunks;  // 0: full causal, without summaries
  int32_t heads;
  int32_t groups;
  int32_t head_dim;

  [[nodiscard]] std::string Name() const {
    return fmt::format("{} T={} k={} w={} heads {}/{} d={}",
                       window_chunks == 0 ? "full" : "ksa",
                       tokens,
                       chunk_size,
                       window_chunks,
                       heads,
                       groups,
                       head_dim);
  }

  [[nodiscard]] AttentionWindow Window() const {
    return window_chunks == 0 ? AttentionWindow::Full() : AttentionWindow::Ksa(window_chunks);
  }

  [[nodiscard]] SummaryLayout Layout() const {
    SummaryLayout layout{.text_tokens = tokens, .chunk_size = chunk_size};
    if (window_chunks != 0) {
      layout.summary_tokens = 1;
      layout.live_chunks = LiveChunks(layout.chunks(), window_chunks);
    }
    return layout;
  }
};

constexpr Case kCases[] = {
    {8192, 8, 128, 16, 16, 128},
    {32768, 8, 128, 16, 16, 128},
    {131072, 8, 128, 16, 16, 128},
    {8192, 4, 256, 16, 16, 128},
    {8192, 16, 64, 16, 16, 128},
    {8192, 32, 32, 16, 16, 128},
    {32768, 4, 256, 16, 16, 128},
    {32768, 16, 64, 16, 16, 128},
    {32768, 32, 32, 16, 16, 128},
    {8192, 8, 128, 32, 8, 128},
    {32768, 8, 128, 32, 8, 128},
    {131072, 4, 256, 16, 16, 128},
    {131072, 16, 64, 16, 16, 128},
    {131072, 32, 32, 16, 16, 128},
    {32768, 8, 128, 16, 16, 64},
    {8192, 8, 0, 16, 16, 128},
    {32768, 8, 0, 16, 16, 128},
};
constexpr Case kSmall = {1033, 8, 16, 4, 2, 128};

AttentionPath PathOf(std::string_view name) {
  constexpr std::string_view kNames[] = {"auto", "plain", "mma", "wgmma", "cudnn"};
  const auto found = std::find(std::begin(kNames), std::end(kNames), name);
  KSA_CHECK(found != std::end(kNames), "no attention path '{}'; expected auto, plain, mma, wgmma or cudnn", name);
  return static_cast<AttentionPath>(found - std::begin(kNames));
}

// Normal random numbers: one block of them, of a length that no row divides, again and again.
class Normals {
 public:
  explicit Normals(const Stream& stream) : stream_(stream), block_((1 << 20) + 7) {
    std::mt19937_64 engine(1);
    std::normal_distribution<float> normal;
    std::generate(block_.begin(), block_.end(), [&] { return BFloat16(normal(engine)); });
  }

  void Fill(const TensorView& x) {
    const auto block = static_cast<int64_t>(block_.size());
    const TensorView flat = x.Reshape({x.size()});
    for (int64_t first = 0; first < x.size(); first += block - ++turn_) {
      const int64_t count = std::min(block - turn_ - 1, x.size() - first);
      CopyFromHost({block_.data() + turn_, DType::kBF16, {}, {count}}, flat.Rows(first, count), stream_);
    }
  }

 private:
  Stream stream_;
  std::vector<BFloat16> block_;
  int64_t turn_ = 0;  // another begin for each piece
};

struct Problem {
  Problem(const Case& c, const Stream& stream, Allocator& allocator, Normals& normals) {
    const SummaryLayout layout = c.Layout();
    const auto tensor = [&](int64_t heads) {
      tensors.push_back(Tensor::Empty({layout.rows(), heads, c.head_dim}, DType::kBF16, allocator));
      return tensors.back().view();
    };
    forward = {.q = tensor(c.heads), .k = tensor(c.groups), .v = tensor(c.groups), .out = tensor(c.heads)};
    tensors.push_back(Tensor::Empty({layout.rows(), c.heads}, DType::kF32, allocator));
    forward.lse = tensors.back();
    forward.layout = layout;
    forward.window = c.Window();
    forward.allocator = &allocator;
    backward = {.q = forward.q, .k = forward.k, .v = forward.v, .out = forward.out, .lse = forward.lse};
    backward.dout = tensor(c.heads);
    backward.dq = tensor(c.heads);
    backward.dk = tensor(c.groups);
    backward.dv = tensor(c.groups);
    backward.layout = layout;
    backward.window = c.Window();
    backward.allocator = &allocator;
    for (const TensorView& x : {forward.q, forward.k, forward.v, backward.dout}) {
      normals.Fill(x);
    }
    Synchronize(stream);
  }

  void SetPath(AttentionPath path) {
    forward.path = path;
    backward.path = path;
  }

  std::vector<Tensor> tensors;
  AttentionForwardArgs forward;
  AttentionBackwardArgs backward;
};

template <typename Call>
double MedianMilliseconds(const Stream& stream, const Call& call) {
  std::vector<double> times;
  for (int run = -3; run < kRuns; ++run) {
    Event begin;
    Event end;
    begin.Record(stream);
    call();
    end.Record(stream);
    end.Wait();
    if (run >= 0) {
      times.push_back(end.MillisecondsSince(begin));
    }
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// |a - b| / |b| over all elements.
double RelativeError(const std::vector<BFloat16>& a, const std::vector<BFloat16>& b) {
  double error = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<float>(a[i]) - static_cast<float>(b[i]);
    error += difference * difference;
    norm += static_cast<double>(static_cast<float>(b[i])) * static_cast<float>(b[i]);
  }
  return std::sqrt(error / norm);
}

std::vector<std::vector<BFloat16>> Results(Problem& problem, AttentionPath path, const Stream& stream) {
  problem.SetPath(path);
  AttentionForward(problem.forward, stream);
  AttentionBackward(problem.backward, stream);
  std::vector<std::vector<BFloat16>> results;
  for (const TensorView& x : {problem.forward.out, problem.backward.dq, problem.backward.dk, problem.backward.dv}) {
    results.emplace_back(static_cast<size_t>(x.size()));
    CopyToHost(x, {results.back().data(), DType::kBF16, {}, x.shape}, stream);
  }
  return results;
}

void Compare(AttentionPath path, const Stream& stream, Allocator& allocator, Normals& normals) {
  Problem problem(kSmall, stream, allocator, normals);
  const auto plain = Results(problem, AttentionPath::kPlain, stream);
  const auto actual = Results(problem, path, stream);
  fmt::print("{} against the plain path, |difference| / |plain|: out {:.1e} dq {:.1e} dk {:.1e} dv {:.1e}\n",
             kSmall.Name(),
             RelativeError(actual[0], plain[0]),
             RelativeError(actual[1], plain[1]),
             RelativeError(actual[2], plain[2]),
             RelativeError(actual[3], plain[3]));
}

void Time(const Case& c, AttentionPath path, const Stream& stream, Allocator& allocator, Normals& normals) {
  Problem problem(c, stream, allocator, normals);
  problem.SetPath(path);
  const double forward = MedianMilliseconds(stream, [&] { AttentionForward(problem.forward, stream); });
  const double backward = MedianMilliseconds(stream, [&] { AttentionBackward(problem.backward, stream); });
  const double flops =
      1e-9 * static_cast<double>(CountTextPairs(c.Layout(), c.Window()).OfTextQueries()) * c.heads * c.head_dim;
  fmt::print("{}: forward {:.3f} ms {:.0f} TFLOP/s, backward {:.3f} ms {:.0f} TFLOP/s\n",
             c.Name(),
             forward,
             4.0 * flops / forward,
             backward,
             10.0 * flops / backward);
  std::fflush(stdout);
}

int Run(const std::vector<std::string_view>& arguments) {
  KSA_CHECK(!arguments.empty(), "usage: attention_bench auto|plain|mma|wgmma|cudnn [FILTER]");
  KSA_CHECK(GpuCount() > 0, "attention_bench needs a GPU");
  const AttentionPath path = PathOf(arguments[0]);
  const GpuStream owner(0, 1);
  GpuSlabs slabs(0);
  ArenaAllocator allocator(slabs);
  Normals normals(owner.stream());
  fmt::print("{}\n", QueryGpu(0).name);
  if (path != AttentionPath::kCudnn) {  // which does full layers alone
    Compare(path, owner.stream(), allocator, normals);
  }
  for (const Case& c : kCases) {
    if (arguments.size() < 2 || c.Name().find(arguments[1]) != std::string::npos) {
      Time(c, path, owner.stream(), allocator, normals);
    }
  }
  return 0;
}

}  // namespace
}  // namespace ksa

int main(int argc, char** argv) {
  try {
    return ksa::Run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
