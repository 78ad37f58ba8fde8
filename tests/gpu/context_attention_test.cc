// Attention over sequences that are spread over ranks, on a GPU: ranks that share one, or one each; and its plan.
#include "model/ops/context_attention.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/core/arena.h"
#include "model/ops/attention.h"
#include "parallel/comm/nccl.h"
#include "parallel/comm/threads.h"
#include "parallel/context/slices.h"
#include "tests/gpu/ranks_on_gpus.h"
#include "tests/gpu/shared_gpu_group.h"
#include "tests/gpu/support.h"

namespace ksa {
namespace {

using testing::GuardAllocator;

struct Case {
  std::string name;
  SummaryLayout whole;
  AttentionWindow window;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int head_dim = 64;
  bool summary_queries = true;
};

SummaryLayout Layout(int32_t sequences, int32_t tokens, int32_t k, int32_t m, int32_t live) {
  return {.sequences = sequences, .text_tokens = tokens, .chunk_size = k, .summary_tokens = m, .live_chunks = live};
}

// Tiles of 128 rows, cut by slices of a few hundred; the last chunk is short.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  cases.push_back({"ksa", Layout(2, 1213, 8, 1, LiveChunks(152, 16)), AttentionWindow::Ksa(16)});
  cases.push_back({"ksa, a window longer than slices",
                   Layout(1, 1213, 8, 2, LiveChunks(152, 90)),
                   AttentionWindow::Ksa(90),
                   4,
                   4,
                   128});
  cases.push_back({"ksa, text queries alone", Layout(1, 1213, 8, 1, 140), AttentionWindow::Ksa(16), 4, 2, 64, false});
  cases.push_back(
      {"ksa, another head dim", Layout(1, 301, 4, 1, LiveChunks(76, 5)), AttentionWindow::Ksa(5), 4, 2, 40});
  cases.push_back({"full, summaries attend", Layout(2, 611, 8, 1, 60), AttentionWindow::Full(), 4, 2, 128});
  cases.push_back({"sca", Layout(1, 611, 8, 1, 60), AttentionWindow::SlidingChunks(10)});
  cases.push_back({"swa", Layout(1, 611, 8, 1, 60), AttentionWindow::SlidingTokens(100)});
  return cases;
}

struct Inputs {
  Tensor q, k, v, dout;
};

Inputs MakeInputs(const Case& c, DType dtype, Allocator& memory) {
  const int64_t nq = c.summary_queries ? c.whole.rows() : c.whole.text_rows();
  const int64_t nk = c.whole.rows();
  const int64_t q_cols = c.heads * c.head_dim;
  const int64_t k_cols = c.kv_heads * c.head_dim;
  return {testing::Normal("q", {nq, q_cols}, dtype, memory),
          testing::Normal("k", {nk, k_cols}, dtype, memory),
          testing::Normal("v", {nk, k_cols}, dtype, memory),
          testing::Normal("dout", {nq, q_cols}, dtype, memory)};
}

struct Outputs {
  Tensor out, dq, dk, dv;
};

template <typename Op>
Outputs Run(ExecContext cx, const Inputs& x, const Op& op) {
  Tape tape;
  cx.tape = &tape;
  const Placements placement = Placements::Rows(Placement::Sharded(1));
  const Var q = Leaf(cx, x.q, placement);
  const Var k = Leaf(cx, x.k, placement);
  const Var v = Leaf(cx, x.v, placement);
  const Var out = op(cx, q, k, v);
  tape.Backward(cx, out, x.dout);
  return {out.value, tape.TakeGrad(q.slot), tape.TakeGrad(k.slot), tape.TakeGrad(v.slot)};
}

Outputs OnOneRank(const Case& c, const Inputs& x, Allocator& memory, const Stream& stream = {}) {
  const ExecContext cx = {.stream = stream, .allocator = &memory};
  return Run(cx, x, [&](const ExecContext& inner, const Var& q, const Var& k, const Var& v) {
    return Attention(inner, q, k, v, {.layout = c.whole, .window = c.window, .head_dim = c.head_dim});
  });
}

Outputs OnRanks(const ExecContext& cx, const Case& c, const Inputs& x, ContextMethod method) {
  return Run(cx, x, [&](const ExecContext& inner, const Var& q, const Var& k, const Var& v) {
    const auto keys = StartContextKeys(
        inner, k, v, c.heads, {.whole = c.whole, .window = c.window, .head_dim = c.head_dim, .method = method});
    return ContextAttention(inner, q, keys);
  });
}

// Rows of a rank, on the host or up to the GPU.
Tensor TakeRows(const Tensor& whole, const std::vector<RowSegment>& segments, Allocator& memory, const Stream& stream) {
  Tensor local = Tensor::Empty({segments.back().local + segments.back().rows, whole.cols()}, whole.dtype(), memory);
  for (const RowSegment& s : segments) {
    CopyFromHost(whole.view().Rows(s.whole, s.rows), local.view().Rows(s.local, s.rows), stream);
  }
  Synchronize(stream);
  return local;
}

void PutRows(const Tensor& local, const std::vector<RowSegment>& segments, const Tensor& whole, const Stream& stream) {
  ASSERT_FALSE(local.empty());
  for (const RowSegment& s : segments) {
    CopyToHost(local.view().Rows(s.local, s.rows), whole.view().Rows(s.whole, s.rows), stream);
  }
}

// Where a rank computes. Memory is taken at once: while ranks talk the driver must not be asked for more (it would wait
// for kernels that wait for the other rank).
struct RankGpu {
  explicit RankGpu(int ordinal) : queue(ordinal, 1), slabs(ordinal), memory(slabs, int64_t{256} << 20) {}

  GpuStream queue;
  GpuSlabs slabs;
  ArenaAllocator memory;
};

using MakeGroup = std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>, const Device&)>;

// One call of all ranks, and what they made of it, of whole sequences and on the host.
struct Job {
  Case c;
  ContextMethod method = ContextMethod::kKeys;
  Inputs x;
  Outputs whole;
};

void RunJob(const Job& job, const ProcessMesh& mesh, RankGpu& gpu) {
  const Stream& stream = gpu.queue.stream();
  const ExecContext cx = {.stream = stream, .allocator = &gpu.memory, .mesh = &mesh};
  const int ranks = mesh.Size(MeshAxis::kContext);
  const int rank = mesh.Rank(MeshAxis::kContext);
  const auto q_rows = SegmentsOf(job.c.whole, ranks, rank, job.c.summary_queries);
  const auto k_rows = SegmentsOf(job.c.whole, ranks, rank, true);
  const Inputs local = {TakeRows(job.x.q, q_rows, gpu.memory, stream),
                        TakeRows(job.x.k, k_rows, gpu.memory, stream),
                        TakeRows(job.x.v, k_rows, gpu.memory, stream),
                        TakeRows(job.x.dout, q_rows, gpu.memory, stream)};
  const Outputs outputs = OnRanks(cx, job.c, local, job.method);
  PutRows(outputs.out, q_rows, job.whole.out, stream);
  PutRows(outputs.dq, q_rows, job.whole.dq, stream);
  PutRows(outputs.dk, k_rows, job.whole.dk, stream);
  PutRows(outputs.dv, k_rows, job.whole.dv, stream);
}

// Runs all jobs on `ranks` ranks, rank r on GPU ordinal(r).
void RunJobs(const std::vector<Job>& jobs, int ranks, const std::function<int(int)>& ordinal, const MakeGroup& make) {
  RunRanks(ranks, [&](Communicator& world) {
    RankGpu gpu(ordinal(world.rank()));
    const ProcessMesh mesh(world, {.context = ranks}, false, [&](std::unique_ptr<Communicator> group) {
      return group->size() == 1 ? std::move(group) : make(std::move(group), gpu.queue.stream().device);
    });
    for (const Job& job : jobs) {
      RunJob(job, mesh, gpu);
    }
    Synchronize(gpu.queue.stream());
    world.Barrier();  // nobody frees memory while another's kernels may run
  });
}

// Against fp64, in the mean: as accurate as the CPU on one rank in the same type, which rounds a sum once where ranks
// round each part and the sum of parts.
void ExpectAccurate(const Outputs& actual, const Outputs& plain, const Outputs& exact) {
  const auto expect = [](const Tensor& a, const Tensor& p, const Tensor& e, const char* what) {
    testing::ExpectAsAccurate(a, p, e, what, 2.0);
  };
  expect(actual.out, plain.out, exact.out, "out");
  expect(actual.dq, plain.dq, exact.dq, "dq");
  expect(actual.dk, plain.dk, exact.dk, "dk");
  expect(actual.dv, plain.dv, exact.dv, "dv");
}

void ExpectSame(const Outputs& a, const Outputs& b) {
  testing::ExpectSameBits(a.out, b.out, "out");
  testing::ExpectSameBits(a.dq, b.dq, "dq");
  testing::ExpectSameBits(a.dk, b.dk, "dk");
  testing::ExpectSameBits(a.dv, b.dv, "dv");
}

Inputs InDoubles(const Inputs& x, Allocator& memory) {
  const auto cast = [&](const Tensor& t) {
    Tensor copy = Tensor::Empty(t.shape(), DType::kF64, memory);
    Copy(t, copy, {});
    return copy;
  };
  return {cast(x.q), cast(x.k), cast(x.v), cast(x.dout)};
}

// Every job twice.
void ExpectRanksAreAccurate(int ranks, const std::function<int(int)>& ordinal, const MakeGroup& make) {
  GuardAllocator host;
  std::vector<Job> jobs;
  for (const Case& c : Cases()) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      const Inputs x = MakeInputs(c, dtype, host);
      for (const ContextMethod method : {ContextMethod::kKeys, ContextMethod::kHeads}) {
        const auto like = [&](const Tensor& t) { return Tensor::Empty(t.shape(), t.dtype(), host); };
        for (int run = 0; run < 2 && (method == ContextMethod::kKeys || c.kv_heads % ranks == 0); ++run) {
          jobs.push_back({c, method, x, {like(x.dout), like(x.q), like(x.k), like(x.v)}});
        }
      }
    }
  }
  RunJobs(jobs, ranks, ordinal, make);
  for (size_t j = 0; j < jobs.size(); j += 2) {
    const Job& job = jobs[j];
    SCOPED_TRACE(fmt::format(
        "{} of {}, {} ranks, method {}", job.c.name, NameOf(job.x.q.dtype()), ranks, static_cast<int>(job.method)));
    const Outputs exact = OnOneRank(job.c, InDoubles(job.x, host), host);
    ExpectAccurate(job.whole, OnOneRank(job.c, job.x, host), exact);
    ExpectSame(jobs[j + 1].whole, job.whole);
  }
}

TEST(GpuContextAttention, RanksThatShareAGpu) {
  if (GpuCount() == 0) {
    GTEST_SKIP() << "no GPU";
  }
  const MakeGroup make = [](std::unique_ptr<Communicator> host, const Device& /*device*/) {
    return std::make_unique<testing::SharedGpuGroup>(std::move(host));
  };
  for (const int ranks : {2, 3, 4}) {
    ExpectRanksAreAccurate(
        ranks, [](int /*rank*/) { return 0; }, make);
  }
}

TEST(GpuContextAttention, AGpuForEveryRank) {
  if (const std::string why = testing::WhyNotOnGpus(2); !why.empty()) {
    GTEST_SKIP() << why;
  }
  ExpectRanksAreAccurate(
      2,
      [](int rank) { return rank; },
      [](std::unique_ptr<Communicator> host, const Device& device) {
        return MakeNcclCommunicator(std::move(host), device);
      });
}

// A plan: no GPU, nobody to talk to, and all memory is given back.
TEST(DryContextAttention, TakesMemoryAndTouchesNone) {
  const Stream stream = {.device = {DeviceKind::kCuda, 0}, .dry = true};
  const Case c = {"", Layout(1, 131072, 8, 1, LiveChunks(16384, 128)), AttentionWindow::Ksa(128), 16, 16, 128};
  for (const ContextMethod method : {ContextMethod::kKeys, ContextMethod::kHeads}) {
    for (const int rank : {0, 1}) {
      ImaginarySlabs slabs(stream.device);
      ArenaAllocator memory(slabs);
      const std::unique_ptr<Communicator> world = MakeDryCommunicator(2, rank);
      const ProcessMesh mesh(*world, {.context = 2});
      const ExecContext cx = {.stream = stream, .allocator = &memory, .mesh = &mesh};
      const SummaryLayout local = MakeLocalLayout(c.whole, 2, rank);
      const auto make = [&] { return Tensor::Empty({local.rows(), 2048}, DType::kBF16, memory); };
      {
        const Inputs x = {make(), make(), make(), make()};
        const Outputs outputs = OnRanks(cx, c, x, method);
        EXPECT_EQ(outputs.dk.shape(), x.k.shape());
      }
      EXPECT_EQ(memory.use().current, 0);
      // q, k, v, out and their gradients, and what travels.
      EXPECT_GE(memory.use().peak, 8 * local.rows() * 4096);
      EXPECT_LE(memory.use().peak, 20 * local.rows() * 4096);
    }
  }
}

}  // namespace
}  // namespace ksa
