// Times every row-wise kernel on GPU 0 at the sizes of the 1.9B model with 8K tokens, against a copy in the same run.
//
// Columns: milliseconds of a call (the median of 7 batches of 10 calls queued at once), GB/s of the bytes that the
// operation has to move, and that as a share of the copy's. Calls take turns over as many sets of tensors as it takes
// to find none of them in the cache. Arguments: the groups to run (elementwise, norm, rope, conv, pool, latent,
// activation, embedding, loss, update); none: all. The copy that is the measure always runs.
#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "kernels/activation/swiglu.h"
#include "kernels/copy/elementwise.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "kernels/embedding/embedding.h"
#include "kernels/latent/latent_heads.h"
#include "kernels/loss/softmax_rows_cuda.h"
#include "kernels/loss/softmax_shard_cuda.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/pool/chunk_pool.h"
#include "kernels/rope/qk_norm_rope.h"
#include "kernels/short_conv/short_conv.h"

namespace ksa {
namespace {

constexpr int64_t kRows = 9088;  // 8192 of text, 896 of summaries
constexpr int64_t kText = 8192;
constexpr int64_t kModel = 2048;
constexpr int64_t kFeedForward = 6144;
constexpr int64_t kHeads = 16;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kVocabulary = 151936;
constexpr int64_t kParameters = 2'233'000'000;
constexpr int kBatches = 7;
constexpr int kBatchCalls = 10;
constexpr int64_t kCacheBytes = int64_t{60} << 20;
constexpr int64_t kMemoryBytes = int64_t{44} << 30;  // the optimizer's state is the largest

class Bench {
 public:
  Bench() : queue_(0, 1), slabs_(0), memory_(slabs_, kMemoryBytes) {}

  [[nodiscard]] const Stream& stream() const { return queue_.stream(); }

  [[nodiscard]] Allocator& memory() { return memory_; }

  // Small numbers of both signs, the same block of them again and again.
  Tensor Values(const Shape& shape, DType dtype) {
    Tensor x = Tensor::Empty(shape, dtype, memory_);
    HostAllocator host;
    const int64_t block = std::min<int64_t>(x.size(), 1 << 20);
    const Tensor numbers = Tensor::Empty({block}, DType::kF32, host);
    for (int64_t i = 0; i < block; ++i) {
      numbers.As<float>()[i] = static_cast<float>((i * 7919) % 2003 - 1001) / 1001.0F;
    }
    const Tensor typed = Tensor::Empty({block}, dtype, host);
    Copy(numbers, typed, {});
    const TensorView flat = x.view().Reshape({x.size()});
    if (block > 0) {
      CopyFromHost(typed, flat.Rows(0, block), stream());
      Synchronize(stream());
    }
    for (int64_t done = block; done < x.size(); done *= 2) {
      const int64_t count = std::min(done, x.size() - done);
      Copy(flat.Rows(0, count), flat.Rows(done, count), stream());
    }
    return x;
  }

  Tensor Empty(const Shape& shape, DType dtype) { return Tensor::Empty(shape, dtype, memory_); }

  // `call(i)`: the operation on its set i; `bytes`: what one call has to move.
  void Run(const std::string& name, double bytes, const std::function<void(int)>& call) {
    std::vector<double> milliseconds;
    int calls = 0;
    for (int batch = 0; batch < kBatches + 1; ++batch) {
      Event begin;
      Event end;
      begin.Record(stream());
      for (int i = 0; i < kBatchCalls; ++i) {
        call(calls++);
      }
      end.Record(stream());
      end.Wait();
      if (batch > 0) {
        milliseconds.push_back(end.MillisecondsSince(begin) / kBatchCalls);
      }
    }
    std::sort(milliseconds.begin(), milliseconds.end());
    const double median = milliseconds[milliseconds.size() / 2];
    const double rate = bytes / median * 1e-6;
    copy_rate_ = copy_rate_ == 0.0 ? rate : copy_rate_;
    fmt::print("{:<40}{:>10.4f} ms{:>9.0f} GB/s{:>7.1f} %\n", name, median, rate, 100.0 * rate / copy_rate_);
  }

 private:
  GpuStream queue_;
  GpuSlabs slabs_;
  ArenaAllocator memory_;
  double copy_rate_ = 0.0;
};

// Sets of tensors that calls take turns over.
template <typename T>
class Turns {
 public:
  Turns(double bytes, const std::function<T()>& make) {
    const auto count = std::max<int64_t>(2, static_cast<int64_t>(static_cast<double>(kCacheBytes) / bytes) + 2);
    for (int64_t i = 0; i < count; ++i) {
      sets_.push_back(make());
    }
  }

  const T& operator[](int i) const { return sets_[static_cast<size_t>(i) % sets_.size()]; }

 private:
  std::vector<T> sets_;
};

SummaryLayout Layout() {
  return {.sequences = 1, .text_tokens = kText, .chunk_size = 8, .summary_tokens = 1, .live_chunks = kRows - kText};
}

void CopyMeasure(Bench& b) {
  const Tensor from = b.Values({int64_t{1} << 29}, DType::kBF16);
  const Tensor to = b.Empty({int64_t{1} << 29}, DType::kBF16);
  b.Run("Copy 1 GiB (the measure)", 0x1p31, [&](int) { Copy(from, to, b.stream()); });
}

void Elementwise(Bench& b) {
  {
    const Tensor from = b.Values({int64_t{1} << 29}, DType::kBF16);
    const Tensor to = b.Empty({int64_t{1} << 29}, DType::kBF16);
    const Tensor wide = b.Values({int64_t{1} << 28}, DType::kF32);
    b.Run("Copy fp32 to bf16, 256 Mi", 6.0 * 0x1p28, [&](int) { Copy(wide, to.Rows(0, 1 << 28), b.stream()); });
    b.Run("Copy bf16 to fp32, 256 Mi", 6.0 * 0x1p28, [&](int) { Copy(from.Rows(0, 1 << 28), wide, b.stream()); });
    b.Run("Zero 1 GiB", 0x1p30, [&](int) { Zero(to, b.stream()); });
  }
  const double bytes = 2.0 * kRows * kModel;
  const Turns<Tensor> x(bytes, [&] { return b.Values({kRows, kModel}, DType::kBF16); });
  b.Run("Copy [9088, 2048]", 2.0 * bytes, [&](int i) { Copy(x[2 * i], x[2 * i + 1], b.stream()); });
  b.Run("Add [9088, 2048]", 3.0 * bytes, [&](int i) { Add(x[3 * i], x[3 * i + 1], x[3 * i + 2], b.stream()); });
  b.Run("Axpby [9088, 2048]", 3.0 * bytes, [&](int i) { Axpby(0.5, x[2 * i], 0.5, x[2 * i + 1], b.stream()); });
}

void Norm(Bench& b) {
  struct Set {
    Tensor x, residual, sum, y, rstd;
  };

  const double bytes = 2.0 * kRows * kModel;
  const Tensor weight = b.Values({kModel}, DType::kBF16);
  const Tensor dweight = b.Values({2, kModel}, DType::kF32);
  const Turns<Set> sets(3.0 * bytes, [&] {
    return Set{.x = b.Values({kRows, kModel}, DType::kBF16),
               .residual = b.Values({kRows, kModel}, DType::kBF16),
               .sum = b.Empty({kRows, kModel}, DType::kBF16),
               .y = b.Values({kRows, kModel}, DType::kBF16),
               .rstd = b.Empty({kRows}, DType::kF32)};
  });
  b.Run("RmsNormForward", 2.0 * bytes, [&](int i) {
    const Set& s = sets[i];
    RmsNormForward({.x = s.x, .weight = weight, .weight_summary = weight, .y = s.y, .rstd = s.rstd, .split = kText},
                   b.stream());
  });
  b.Run("RmsNormForward with residual", 4.0 * bytes, [&](int i) {
    const Set& s = sets[i];
    RmsNormForward({.x = s.x,
                    .residual = s.residual,
                    .sum_out = s.sum,
                    .weight = weight,
                    .weight_summary = weight,
                    .y = s.y,
                    .rstd = s.rstd,
                    .split = kText},
                   b.stream());
  });
  const auto backward = [&](const Set& s, const TensorView& past) {
    RmsNormBackward({.dy = s.y,
                     .x = s.x,
                     .rstd = s.rstd,
                     .weight = weight,
                     .weight_summary = weight,
                     .dx_residual = past,
                     .dx = s.sum,
                     .dweight = dweight.view().Rows(0, 1).Reshape({kModel}),
                     .dweight_summary = dweight.view().Rows(1, 1).Reshape({kModel}),
                     .split = kText,
                     .allocator = &b.memory()},
                    b.stream());
  };
  b.Run("RmsNormBackward", 3.0 * bytes, [&](int i) { backward(sets[i], {}); });
  b.Run("RmsNormBackward with residual", 4.0 * bytes, [&](int i) { backward(sets[i], sets[i].residual); });
}

void Rope(Bench& b) {
  struct Set {
    Tensor x, y, dx, rstd;
  };

  const Shape shape{kRows, kHeads, kHeadDim};
  const double bytes = 2.0 * kRows * kModel;
  const Tensor weight = b.Values({kHeadDim}, DType::kBF16);
  const Tensor dweight = b.Values({kHeadDim}, DType::kF32);
  const Tensor table = b.Empty({kText, kHeadDim / 2, 2}, DType::kF32);
  b.Run("FillRopeTable 8192", static_cast<double>(table.view().bytes()), [&](int) {
    FillRopeTable(table, 1e6, b.stream());
  });
  const Turns<Set> sets(2.0 * bytes, [&] {
    return Set{.x = b.Values(shape, DType::kBF16),
               .y = b.Values(shape, DType::kBF16),
               .dx = b.Empty(shape, DType::kBF16),
               .rstd = b.Empty({kRows, kHeads}, DType::kF32)};
  });
  for (const bool norm : {true, false}) {
    const TensorView w = norm ? weight.view() : TensorView{};
    const auto table_bytes = static_cast<double>(table.view().bytes());
    b.Run(norm ? "QkNormRopeForward" : "Rope forward", 2.0 * bytes + table_bytes, [&](int i) {
      const Set& s = sets[i];
      QkNormRopeForward(
          {.x = s.x, .weight = w, .table = table, .y = s.y, .rstd = s.rstd, .layout = Layout(), .split = kText},
          b.stream());
    });
    b.Run(norm ? "QkNormRopeBackward" : "Rope backward", (norm ? 3.0 : 2.0) * bytes + table_bytes, [&](int i) {
      const Set& s = sets[i];
      QkNormRopeBackward({.dy = s.y,
                          .x = s.x,
                          .rstd = s.rstd,
                          .weight = w,
                          .table = table,
                          .dx = s.dx,
                          .dweight = norm ? dweight.view() : TensorView{},
                          .layout = Layout(),
                          .split = kText,
                          .allocator = &b.memory()},
                         b.stream());
    });
  }
}

// Of one of q, k and v.
void Conv(Bench& b) {
  struct Set {
    Tensor x, dy, y;
  };

  const double bytes = 2.0 * kRows * kModel;
  const Turns<Set> sets(3.0 * bytes, [&] {
    return Set{.x = b.Values({kRows, kModel}, DType::kBF16),
               .dy = b.Values({kRows, kModel}, DType::kBF16),
               .y = b.Empty({kRows, kModel}, DType::kBF16)};
  });
  for (const int64_t taps : {4, 16}) {
    const Tensor weight = b.Values({kModel, 1, taps}, DType::kBF16);
    const Tensor dweight = b.Values({kModel, 1, taps}, DType::kF32);
    b.Run(fmt::format("ShortConvForward, {} taps", taps), 2.0 * bytes, [&](int i) {
      ShortConvForward({.x = sets[i].x, .weight = weight, .y = sets[i].y, .layout = Layout()}, b.stream());
    });
    b.Run(fmt::format("ShortConvBackward, {} taps", taps), 3.0 * bytes, [&](int i) {
      ShortConvBackward({.dy = sets[i].dy,
                         .x = sets[i].x,
                         .weight = weight,
                         .dx = sets[i].y,
                         .dweight = dweight,
                         .layout = Layout(),
                         .allocator = &b.memory()},
                        b.stream());
    });
  }
}

void Pool(Bench& b) {
  struct Set {
    Tensor gate, k, v, dgate, dk, dv, yk, yv;
  };

  for (const int32_t chunk_size : {8, 64}) {
    SummaryLayout layout = Layout();
    layout.chunk_size = chunk_size;
    layout.live_chunks = layout.chunks();
    const double bytes = 2.0 * kText * kModel;
    const double entries = bytes / chunk_size;
    const Turns<Set> sets(6.0 * bytes, [&] {
      const auto rows = [&] { return b.Values({kText, kModel}, DType::kBF16); };
      const auto few = [&] { return b.Values({layout.live_chunks, kModel}, DType::kBF16); };
      return Set{rows(), rows(), rows(), rows(), rows(), rows(), few(), few()};
    });
    const Tensor bias = b.Values({chunk_size, kModel}, DType::kBF16);
    const Tensor dbias = b.Values({chunk_size, kModel}, DType::kF32);
    b.Run(fmt::format("ChunkPoolForward, chunks of {}", chunk_size), 3.0 * bytes + 2.0 * entries, [&](int i) {
      const Set& s = sets[i];
      ChunkPoolForward({.gate = s.gate, .bias = bias, .x = {s.k, s.v}, .y = {s.yk, s.yv}, .layout = layout},
                       b.stream());
    });
    b.Run(fmt::format("ChunkPoolBackward, chunks of {}", chunk_size), 6.0 * bytes + 2.0 * entries, [&](int i) {
      const Set& s = sets[i];
      ChunkPoolBackward({.gate = s.gate,
                         .bias = bias,
                         .x = {s.k, s.v},
                         .dy = {s.yk, s.yv},
                         .dgate = s.dgate,
                         .dx = {s.dk, s.dv},
                         .dbias = dbias,
                         .layout = layout,
                         .allocator = &b.memory()},
                        b.stream());
    });
  }
}

void Latent(Bench& b) {
  struct Set {
    Tensor kv, rope, k, v;
  };

  constexpr int64_t kRope = 64;
  constexpr int64_t kKey = kHeadDim + kRope;
  const double kv_bytes = 2.0 * kRows * kHeads * 2 * kHeadDim;
  const double k_bytes = 2.0 * kRows * kHeads * kKey;
  const double rope_bytes = 2.0 * kRows * kRope;
  const Tensor table = b.Empty({kText, kRope / 2, 2}, DType::kF32);
  FillRopeTable(table, 1e6, b.stream());
  const Turns<Set> sets(2.0 * kv_bytes, [&] {
    return Set{.kv = b.Values({kRows, kHeads, 2 * kHeadDim}, DType::kBF16),
               .rope = b.Values({kRows, kRope}, DType::kBF16),
               .k = b.Values({kRows, kHeads, kKey}, DType::kBF16),
               .v = b.Values({kRows, kHeads, kHeadDim}, DType::kBF16)};
  });
  b.Run("RotateTails, 16 heads of 128 + 64", 2.0 * k_bytes, [&](int i) {
    RotateTails({.x = sets[i].k, .table = table, .y = sets[i + 1].k, .layout = Layout()}, b.stream());
  });
  const double bytes = kv_bytes + rope_bytes + k_bytes + kv_bytes / 2.0;
  b.Run("LatentHeadsForward", bytes, [&](int i) {
    LatentHeadsForward({.kv = sets[i].kv, .rope = sets[i].rope, .k = sets[i].k, .v = sets[i].v}, b.stream());
  });
  b.Run("LatentHeadsBackward", bytes, [&](int i) {
    LatentHeadsBackward({.dk = sets[i].k, .dv = sets[i].v, .dkv = sets[i].kv, .drope = sets[i].rope}, b.stream());
  });
}

void Activation(Bench& b) {
  struct Set {
    Tensor gate, up, dy, dgate, dup;
  };

  const Shape shape{kRows, kFeedForward};
  const double bytes = 2.0 * kRows * kFeedForward;
  const Turns<Set> sets(3.0 * bytes, [&] {
    return Set{.gate = b.Values(shape, DType::kBF16),
               .up = b.Values(shape, DType::kBF16),
               .dy = b.Values(shape, DType::kBF16),
               .dgate = b.Empty(shape, DType::kBF16),
               .dup = b.Empty(shape, DType::kBF16)};
  });
  b.Run("SwigluForward", 3.0 * bytes, [&](int i) {
    SwigluForward({.gate = sets[i].gate, .up = sets[i].up, .y = sets[i].dgate}, b.stream());
  });
  b.Run("SwigluBackward", 5.0 * bytes, [&](int i) {
    const Set& s = sets[i];
    SwigluBackward({.dy = s.dy, .gate = s.gate, .up = s.up, .dgate = s.dgate, .dup = s.dup}, b.stream());
  });
}

// Token numbers: `vocabulary` of them in equal shares, or one for all.
Tensor Ids(Bench& b, int64_t rows, int64_t vocabulary) {
  HostAllocator host;
  const Tensor numbers = Tensor::Empty({rows}, DType::kI32, host);
  for (int64_t i = 0; i < rows; ++i) {
    numbers.As<int32_t>()[i] = static_cast<int32_t>(i * 7919 % vocabulary);
  }
  Tensor ids = b.Empty({rows}, DType::kI32);
  CopyFromHost(numbers, ids, b.stream());
  Synchronize(b.stream());
  return ids;
}

void EmbeddingOf(Bench& b, const char* name, int64_t text, int64_t vocabulary, int64_t used, int64_t d) {
  const SummaryLayout layout = {.sequences = 1,
                                .text_tokens = static_cast<int32_t>(text),
                                .chunk_size = 8,
                                .summary_tokens = 1,
                                .live_chunks = static_cast<int32_t>(text / 8 - 128)};
  const Tensor table = b.Values({vocabulary, d}, DType::kBF16);
  const Tensor dtable = b.Values({vocabulary, d}, DType::kF32);
  const Tensor summary = b.Values({1, d}, DType::kBF16);
  const Tensor dsummary = b.Values({1, d}, DType::kF32);
  const Tensor ids = Ids(b, text, used);
  const double bytes = 2.0 * static_cast<double>(layout.rows() * d);
  const Turns<Tensor> y(bytes, [&] { return b.Values({layout.rows(), d}, DType::kBF16); });
  b.Run(fmt::format("EmbeddingForward {}", name), 2.0 * bytes, [&](int i) {
    EmbeddingForward({.ids = ids, .table = table, .summary_table = summary, .y = y[i], .layout = layout}, b.stream());
  });
  const auto touched = static_cast<double>(std::min(used, text) * d);
  b.Run(fmt::format("EmbeddingBackward {}", name), bytes + 8.0 * touched, [&](int i) {
    EmbeddingBackward({.ids = ids,
                       .dy = y[i],
                       .dtable = dtable,
                       .dsummary_table = dsummary,
                       .layout = layout,
                       .allocator = &b.memory()},
                      b.stream());
  });
}

void Embeddings(Bench& b) {
  EmbeddingOf(b, "8K, all different", kText, kVocabulary, kVocabulary, kModel);
  EmbeddingOf(b, "8K, 1000 tokens", kText, kVocabulary, 1000, kModel);
  EmbeddingOf(b, "32K, all different", 4 * kText, kVocabulary, kVocabulary, kModel);
  EmbeddingOf(b, "32K, bytes", 4 * kText, 257, 257, 512);
  EmbeddingOf(b, "32K, one token", 4 * kText, kVocabulary, 1, kModel);
}

// A chunk of rows of the cross-entropy, of the whole vocabulary and of one of two parts. The logits are larger than the
// cache.
void Losses(Bench& b) {
  constexpr int64_t kChunk = 4096;
  const Tensor targets = Ids(b, kChunk, kVocabulary);
  const Tensor losses = b.Empty({kChunk}, DType::kF32);
  const auto elements = [&](int64_t v) { return static_cast<double>(kChunk * v); };
  const Tensor logits = b.Values({kChunk, kVocabulary}, DType::kF32);
  const Tensor gradient = b.Empty({kChunk, kVocabulary}, DType::kBF16);
  cuda::SoftmaxRowsArgs whole{.logits = logits, .targets = targets.As<int32_t>(), .losses = losses.As<float>()};
  b.Run("Softmax, loss alone", 4.0 * elements(kVocabulary), [&](int) { cuda::SoftmaxRows(whole, b.stream()); });
  whole.gradient = gradient;
  b.Run("Softmax", 6.0 * elements(kVocabulary), [&](int) { cuda::SoftmaxRows(whole, b.stream()); });
  const int64_t v = kVocabulary / 2;
  const Tensor stats = b.Values({2, kChunk, 3}, DType::kF32);
  const cuda::SoftmaxShardArgs part{.logits = logits.view().Reshape({2 * kChunk, v}).Rows(0, kChunk),
                                    .targets = targets.As<int32_t>(),
                                    .stats = stats,
                                    .losses = losses.As<float>(),
                                    .gradient = gradient.view().Reshape({2 * kChunk, v}).Rows(0, kChunk),
                                    .vocabulary = kVocabulary};
  b.Run("ShardStatistics, half a vocabulary", 4.0 * elements(v), [&](int) { cuda::ShardStatistics(part, b.stream()); });
  b.Run("FinishShard, half a vocabulary", 6.0 * elements(v), [&](int) { cuda::FinishShard(part, b.stream()); });
}

void Updates(Bench& b) {
  const Tensor grad = b.Values({kParameters}, DType::kF32);
  const Tensor out = b.Empty({1}, DType::kF64);
  b.Run("SumOfSquares, 2.23e9", 4.0 * kParameters, [&](int) { SumOfSquares(grad, out, b.stream(), &b.memory()); });
  const Tensor weight = b.Values({kParameters}, DType::kF32);
  const Tensor exp_avg = b.Values({kParameters}, DType::kF32);
  const Tensor exp_avg_sq = b.Values({kParameters}, DType::kF32);
  Axpby(0.0, exp_avg_sq, 0.0, exp_avg_sq, b.stream());
  const Tensor compute = b.Empty({kParameters}, DType::kBF16);
  HostAllocator host;
  const Tensor one = Tensor::Empty({1}, DType::kF64, host);
  *one.As<double>() = 0.5;
  const Tensor scale = b.Empty({1}, DType::kF64);
  CopyFromHost(one, scale, b.stream());
  b.Run("AdamW, 2.23e9, with the bf16 copy", 30.0 * kParameters, [&](int i) {
    AdamW({.weight = weight,
           .grad = grad,
           .exp_avg = exp_avg,
           .exp_avg_sq = exp_avg_sq,
           .compute = compute,
           .grad_scale = scale,
           .lr = 1e-3,
           .step = i + 1},
          b.stream());
  });
}

int Main(const std::vector<std::string>& wanted) {
  if (GpuCount() == 0) {
    fmt::print("no GPU\n");
    return 0;
  }
  fmt::print("{}\n", QueryGpu(0).name);
  const std::pair<const char*, void (*)(Bench&)> groups[] = {{"elementwise", Elementwise},
                                                             {"norm", Norm},
                                                             {"rope", Rope},
                                                             {"conv", Conv},
                                                             {"pool", Pool},
                                                             {"latent", Latent},
                                                             {"activation", Activation},
                                                             {"embedding", Embeddings},
                                                             {"loss", Losses},
                                                             {"update", Updates}};
  Bench bench;
  CopyMeasure(bench);
  for (const auto& [name, run] : groups) {
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end()) {
      run(bench);
    }
  }
  return 0;
}

}  // namespace
}  // namespace ksa

int main(int argc, char** argv) {
  try {
    return ksa::Main({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
