#include "tests/parallel/comm/collectives.h"

#include <array>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/dispatch.h"
#include "kernels/core/gpu.h"
#include "kernels/core/host_allocator.h"
#include "kernels/core/tensor.h"

namespace ksa::testing {
namespace {

constexpr std::array<DType, 4> kTypes = {DType::kF64, DType::kF32, DType::kBF16, DType::kI32};
constexpr std::array<DType, 2> kSumTypes = {DType::kF64, DType::kF32};
constexpr std::array<int64_t, 4> kSizes = {1, 7, 1000, 4099};
constexpr std::array<Ordering, 2> kOrderings = {Ordering::kInOrder, Ordering::kUntilWait};

// What rank `rank` has at place i: exact in bf16, and so are sums of a few in fp32.
int64_t ValueOf(int rank, int64_t i) {
  return (rank * 31 + i * 7) % 61 - 30;
}

// Where nobody wrote.
constexpr int64_t kNothing = 111;

using Values = std::vector<int64_t>;

class Checker {
 public:
  Checker(Communicator& group, const Stream& stream, Allocator& memory)
      : group_(group), stream_(stream), memory_(memory) {}

  [[nodiscard]] int size() const { return group_.size(); }

  [[nodiscard]] int rank() const { return group_.rank(); }

  [[nodiscard]] Values Own(int64_t count) const {
    return Filled(count, [this](int64_t i) { return ValueOf(rank(), i); });
  }

  [[nodiscard]] static Values Filled(int64_t count, const std::function<int64_t(int64_t)>& value) {
    Values values;
    for (int64_t i = 0; i < count; ++i) {
      values.push_back(value(i));
    }
    return values;
  }

  [[nodiscard]] Tensor Upload(const Values& values, const Shape& shape, DType dtype) {
    Tensor host = Tensor::Empty(shape, dtype, host_);
    for (size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kI32) {
        host.As<int32_t>()[i] = static_cast<int32_t>(values[i]);
      } else {
        DispatchFloating(dtype, [&](auto element) {
          using T = decltype(element);
          host.As<T>()[i] = static_cast<T>(static_cast<Accumulator<T>>(values[i]));
        });
      }
    }
    Tensor x = Tensor::Empty(shape, dtype, memory_);
    CopyFromHost(host, x, stream_);
    return x;
  }

  [[nodiscard]] Values Download(const TensorView& x) {
    const HostCopy host(x, stream_);
    Values values;
    for (int64_t i = 0; i < x.size(); ++i) {
      if (x.dtype == DType::kI32) {
        values.push_back(host.As<int32_t>()[i]);
      } else {
        DispatchFloating(x.dtype, [&](auto element) {
          using T = decltype(element);
          values.push_back(static_cast<int64_t>(static_cast<Accumulator<T>>(host.As<T>()[i])));
        });
      }
    }
    return values;
  }

  void Expect(const TensorView& x, const Values& expected, const char* what) {
    EXPECT_EQ(Download(x), expected) << what << " of " << x.size() << " " << NameOf(x.dtype) << ", rank " << rank()
                                     << " of " << size();
  }

  // Runs `call`, which counts `sent` and `received` bytes as `kind`, then waits where the ordering asks for it.
  void Run(CollectiveKind kind, Ordering ordering, int64_t sent, int64_t received, const std::function<void()>& call) {
    group_.ResetCounts();
    call();
    if (ordering == Ordering::kUntilWait) {
      group_.Wait(stream_);
    }
    for (int k = 0; k < kCollectiveKinds; ++k) {
      const CommCount& count = group_.counts()[static_cast<size_t>(k)];
      const bool counted = static_cast<CollectiveKind>(k) == kind &&
                           (size() > 1 || kind == CollectiveKind::kAllToAll || kind == CollectiveKind::kExchange);
      EXPECT_EQ(count.calls, counted ? 1 : 0) << NameOf(static_cast<CollectiveKind>(k));
      EXPECT_EQ(count.sent, counted ? sent : 0) << NameOf(static_cast<CollectiveKind>(k));
      EXPECT_EQ(count.received, counted ? received : 0) << NameOf(static_cast<CollectiveKind>(k));
    }
  }

  void AllReduce(DType dtype, int64_t n, Ordering ordering) {
    const Tensor x = Upload(Own(n), {n}, dtype);
    const int64_t bytes = 2 * n * SizeOf(dtype) * (size() - 1) / size();
    Run(CollectiveKind::kAllReduce, ordering, bytes, bytes, [&] {
      group_.AllReduceSum("test.sum", x, stream_, ordering);
    });
    Expect(x, Filled(n, [this](int64_t i) { return SumAt(i); }), "all-reduce");
  }

  void ReduceScatter(DType dtype, int64_t n, Ordering ordering) {
    const Tensor x = Upload(Own(n * size()), {size(), n}, dtype);
    const int64_t bytes = n * SizeOf(dtype) * (size() - 1);
    Run(CollectiveKind::kReduceScatter, ordering, bytes, bytes, [&] {
      group_.ReduceScatterSum("test.scatter", x, stream_, ordering);
    });
    const int64_t first = rank() * n;
    Expect(x.Rows(rank(), 1), Filled(n, [&](int64_t i) { return SumAt(first + i); }), "reduce-scatter");
  }

  void AllGather(DType dtype, int64_t n, Ordering ordering) {
    Values values(static_cast<size_t>(n * size()), kNothing);
    for (int64_t i = 0; i < n; ++i) {
      values[static_cast<size_t>(rank() * n + i)] = ValueOf(rank(), i);
    }
    const Tensor x = Upload(values, {size() * n}, dtype);
    const int64_t bytes = n * SizeOf(dtype) * (size() - 1);
    Run(CollectiveKind::kAllGather, ordering, bytes, bytes, [&] {
      group_.AllGather("test.gather", x, stream_, ordering);
    });
    Expect(x, Filled(n * size(), [&](int64_t i) { return ValueOf(static_cast<int>(i / n), i % n); }), "all-gather");
  }

  // Parts of 0 to 4 rows of `columns`.
  void AllGatherV(DType dtype, int64_t columns, Ordering ordering) {
    std::vector<int64_t> sizes;
    for (int peer = 0; peer < size(); ++peer) {
      sizes.push_back((peer * 3 + columns) % 5);
    }
    sizes[0] += 1;
    const int64_t rows = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
    Values values;
    Values expected;
    for (int peer = 0; peer < size(); ++peer) {
      for (int64_t i = 0; i < sizes[static_cast<size_t>(peer)] * columns; ++i) {
        expected.push_back(ValueOf(peer, i));
        values.push_back(peer == rank() ? ValueOf(peer, i) : kNothing);
      }
    }
    const Tensor x = Upload(values, {rows, columns}, dtype);
    const int64_t own = sizes[static_cast<size_t>(rank())] * columns * SizeOf(dtype);
    Run(CollectiveKind::kAllGather, ordering, own * (size() - 1), rows * columns * SizeOf(dtype) - own, [&] {
      group_.AllGatherV("test.gather parts", x, sizes, stream_, ordering);
    });
    Expect(x, expected, "all-gather of parts");
  }

  void AllToAll(DType dtype, int64_t n, Ordering ordering) {
    const Tensor from = Upload(Own(n * size()), {size(), n}, dtype);
    const Tensor to = Upload(Values(static_cast<size_t>(n * size()), kNothing), {size(), n}, dtype);
    const int64_t bytes = n * SizeOf(dtype) * (size() - 1);
    Run(CollectiveKind::kAllToAll, ordering, bytes, bytes, [&] {
      group_.AllToAll("test.transpose", from, to, stream_, ordering);
    });
    const int64_t first = rank() * n;
    Expect(to,
           Filled(n * size(), [&](int64_t i) { return ValueOf(static_cast<int>(i / n), first + i % n); }),
           "all-to-all");
  }

  void Broadcast(DType dtype, int64_t n, Ordering ordering) {
    for (int root = 0; root < size(); ++root) {
      const Tensor x = Upload(Own(n), {n}, dtype);
      const int64_t bytes = n * SizeOf(dtype);
      Run(CollectiveKind::kBroadcast, ordering, root == rank() ? bytes : 0, root == rank() ? 0 : bytes, [&] {
        group_.Broadcast("test.broadcast", x, root, stream_, ordering);
      });
      Expect(x, Filled(n, [root](int64_t i) { return ValueOf(root, i); }), "broadcast");
    }
  }

  // To every rank, oneself too, two messages: n elements, and as many as both ranks' numbers add up to (0 for rank 0
  // to itself).
  void Exchange(DType dtype, int64_t n, Ordering ordering) {
    std::vector<Tensor> tensors;
    std::vector<Message> sends;
    std::vector<Message> receives;
    int64_t bytes = 0;
    for (int step = 0; step < size(); ++step) {
      const int peer = (rank() + step) % size();
      const int64_t second = peer + rank();
      for (const int64_t count : {n, second}) {
        const int64_t shift = count == n ? 0 : 5;
        tensors.push_back(
            Upload(Filled(count, [&](int64_t i) { return ValueOf(rank(), i + peer + shift); }), {count}, dtype));
        sends.push_back({peer, tensors.back()});
        tensors.push_back(Upload(Values(static_cast<size_t>(count), kNothing), {count}, dtype));
        receives.push_back({peer, tensors.back()});
        bytes += peer == rank() ? 0 : count * SizeOf(dtype);
      }
    }
    Run(CollectiveKind::kExchange, ordering, bytes, bytes, [&] {
      group_.Exchange("test.exchange", sends, receives, stream_, ordering);
    });
    for (const Message& message : receives) {
      const int64_t shift = message.data.size() == n ? 0 : 5;
      Expect(message.data,
             Filled(message.data.size(), [&](int64_t i) { return ValueOf(message.peer, i + rank() + shift); }),
             "message");
    }
  }

  // Two calls run beside each other, and beside the stream's own work.
  void Overlap() {
    constexpr int64_t kCount = 100000;
    const Tensor x = Upload(Own(kCount), {kCount}, DType::kF32);
    const Tensor y = Upload(Own(kCount * size()), {size(), kCount}, DType::kF32);
    group_.AllReduceSum("test.first", x, stream_, Ordering::kUntilWait);
    const Tensor other = Upload(Own(kCount), {kCount}, DType::kF32);
    group_.ReduceScatterSum("test.second", y, stream_, Ordering::kUntilWait);
    Expect(other, Own(kCount), "work beside a collective");
    group_.Wait(stream_);
    Expect(x, Filled(kCount, [this](int64_t i) { return SumAt(i); }), "first of two");
    const int64_t first = rank() * kCount;
    Expect(y.Rows(rank(), 1), Filled(kCount, [&](int64_t i) { return SumAt(first + i); }), "second of two");
  }

 private:
  [[nodiscard]] int64_t SumAt(int64_t i) const {
    int64_t sum = 0;
    for (int peer = 0; peer < size(); ++peer) {
      sum += ValueOf(peer, i);
    }
    return sum;
  }

  Communicator& group_;
  Stream stream_;
  Allocator& memory_;
  HostAllocator host_;
};

}  // namespace

void CheckCollectives(Communicator& group, const Stream& stream, Allocator& memory) {
  Checker checker(group, stream, memory);
  for (const Ordering ordering : kOrderings) {
    for (const int64_t n : kSizes) {
      for (const DType dtype : kSumTypes) {
        checker.AllReduce(dtype, n, ordering);
        checker.ReduceScatter(dtype, n, ordering);
      }
      for (const DType dtype : kTypes) {
        checker.AllGather(dtype, n, ordering);
        checker.AllGatherV(dtype, n, ordering);
        checker.AllToAll(dtype, n, ordering);
        checker.Broadcast(dtype, n, ordering);
        checker.Exchange(dtype, n, ordering);
      }
    }
  }
  checker.Overlap();
}

void CheckHostValues(Communicator& group) {
  const int size = group.size();
  EXPECT_EQ(group.Sum(int64_t{group.rank()} + 1), int64_t{size} * (size + 1) / 2);
  EXPECT_EQ(group.Sum(0.5 * group.rank()), 0.25 * size * (size - 1));
  EXPECT_EQ(group.Max(int64_t{100} - group.rank()), 100);
  for (int root = 0; root < size; ++root) {
    for (const size_t length : {size_t{0}, size_t{3}, size_t{100000}}) {
      const std::string expected(length, static_cast<char>(root));
      std::string text = group.rank() == root ? expected : "something else";
      group.Broadcast(text, root);
      EXPECT_EQ(text, expected);
    }
  }
  const std::vector<std::string> all = group.Gather(std::string(static_cast<size_t>(group.rank()), 'x'));
  ASSERT_EQ(all.size(), static_cast<size_t>(size));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    EXPECT_EQ(all[rank], std::string(rank, 'x'));
  }
  group.Barrier();
}

void CheckSplits(Communicator& group, const Stream& stream, Allocator& memory) {
  // Even and odd ranks, in the opposite order; then each of these in pairs of neighbours.
  const int color = group.rank() % 2;
  const int size = (group.size() + 1 - color) / 2;
  const int rank = size - 1 - group.rank() / 2;
  const std::unique_ptr<Communicator> half = group.Split(color, rank, size);
  ASSERT_EQ(half->rank(), rank);
  ASSERT_EQ(half->size(), size);
  const std::vector<std::string> members = half->Gather(std::to_string(group.rank()));
  for (int i = 0; i < size; ++i) {
    EXPECT_EQ(members[static_cast<size_t>(i)], std::to_string(2 * (size - 1 - i) + color));
  }
  CheckHostValues(*half);
  const int pair_size = rank / 2 * 2 + 1 < size ? 2 : 1;
  const std::unique_ptr<Communicator> pair = half->Split(rank / 2, rank % 2, pair_size);
  CheckCollectives(*pair, stream, memory);
  CheckHostValues(group);
}

}  // namespace ksa::testing
