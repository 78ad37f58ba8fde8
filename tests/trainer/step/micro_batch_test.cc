#include "trainer/step/micro_batch.h"

#include <memory>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/host_allocator.h"
#include "model/mixers/ksa/ksa.h"
#include "parallel/comm/threads.h"
#include "trainer/step/runtime.h"

namespace ksa {
namespace {

constexpr int32_t kSamples = 3;
constexpr int32_t kLength = 10;

ModelConfig Model() {
  ModelConfig model;
  model.layers = {KsaLayer(1)};
  model.ksa.chunk_size = 4;
  return model;
}

std::vector<int32_t> From(int32_t first, int32_t count) {
  std::vector<int32_t> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

// Every number differs, and starts at `first`.
Batch Numbers(int32_t first, bool documents) {
  Batch batch;
  batch.samples = kSamples;
  batch.sequence_length = kLength;
  batch.chunks = 3;
  batch.inputs = From(first, kSamples * kLength);
  batch.targets = From(first + 100, kSamples * kLength);
  if (documents) {
    batch.document_first_chunk = From(first + 200, kSamples * batch.chunks);
    batch.chunk_tokens = From(first + 300, kSamples * batch.chunks);
  }
  return batch;
}

TEST(BatchUpload, SlicesAreSamplesOfTheBatchLoadedLast) {
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  Runtime runtime(*self, {.threads = 1});
  BatchUpload upload;
  for (const bool documents : {false, true, true, false}) {
    for (const int32_t start : {1000, 2000}) {
      upload.Load(runtime.Context(), Model(), Numbers(start, documents));
      const MicroBatch slice = upload.Slice(1, 2);
      ASSERT_EQ(slice.ids.size(), 2 * kLength);
      ASSERT_EQ(slice.targets.ids.size(), 2 * kLength);
      EXPECT_EQ(slice.layout.sequences, 2);
      for (int32_t i = 0; i < 2 * kLength; ++i) {
        EXPECT_EQ(slice.ids.As<int32_t>()[i], start + kLength + i);
        EXPECT_EQ(slice.targets.ids.As<int32_t>()[i], start + 100 + kLength + i);
      }
      ASSERT_EQ(slice.layout.document_first_chunk != nullptr, documents);
      for (int32_t i = 0; documents && i < 2 * 3; ++i) {
        EXPECT_EQ(slice.layout.document_first_chunk[i], start + 200 + 3 + i);
        EXPECT_EQ(slice.layout.chunk_tokens[i], start + 300 + 3 + i);
      }
    }
  }
}

// 10 tokens in chunks of 2 for two ranks: rank 0 has slices 0 and 3, chunks 0 and 3-4, rank 1 the chunks 1-2.
TEST(BatchUpload, AContextRankHasItsSlicesOfEverySample) {
  RunRanks(2, [](Communicator& world) {
    const ProcessMesh mesh(world, {.data = 1, .context = 2, .tensor = 1});
    HostAllocator memory;
    ExecContext cx;
    cx.allocator = &memory;
    cx.mesh = &mesh;
    ModelConfig model = Model();
    model.ksa.chunk_size = 2;
    Batch batch = Numbers(1000, false);
    batch.chunks = 5;
    batch.document_first_chunk = From(1200, kSamples * 5);
    batch.chunk_tokens = From(1300, kSamples * 5);
    BatchUpload upload;
    upload.Load(cx, model, batch);
    const std::vector<int32_t> own =
        world.rank() == 0 ? std::vector<int32_t>{0, 1, 6, 7, 8, 9} : std::vector<int32_t>{2, 3, 4, 5};
    const auto t = static_cast<int32_t>(own.size());
    const MicroBatch slice = upload.Slice(1, 2);
    ASSERT_EQ(slice.ids.size(), 2 * t);
    for (int32_t i = 0; i < 2 * t; ++i) {
      const int32_t row = (1 + i / t) * kLength + own[static_cast<size_t>(i % t)];
      EXPECT_EQ(slice.ids.As<int32_t>()[i], 1000 + row);
      EXPECT_EQ(slice.targets.ids.As<int32_t>()[i], 1100 + row);
    }
    EXPECT_EQ(slice.layout.text_tokens, t);
    EXPECT_EQ(slice.layout.total(), kLength);
    for (int32_t i = 0; i < 2 * 5; ++i) {
      EXPECT_EQ(slice.layout.document_first_chunk[i], 1200 + 5 + i);
      EXPECT_EQ(slice.layout.chunk_tokens[i], 1300 + 5 + i);
    }
  });
}

// Rows without a target are left out of the targets, whose rows are named; over context ranks of each rank's part.
TEST(BatchUpload, NamesTheRowsThatHaveATarget) {
  for (const bool documents : {false, true}) {
    for (const int32_t every : {1, 3, 100}) {
      const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
      Runtime runtime(*self, {.threads = 1});
      Batch batch = Numbers(1000, documents);
      for (int32_t i = 0; i < kSamples * kLength; ++i) {
        batch.targets[static_cast<size_t>(i)] = i % every == 0 ? 500 + i : Batch::kNoTarget;
      }
      BatchUpload upload;
      upload.Load(runtime.Context(), Model(), batch);
      for (int32_t first = 0; first < kSamples; ++first) {
        const MicroBatch slice = upload.Slice(first, 1);
        std::vector<int32_t> expected;  // rows of the batch
        for (int32_t i = first * kLength; i < (first + 1) * kLength; ++i) {
          if (i % every == 0) {
            expected.push_back(i);
          }
        }
        ASSERT_EQ(std::vector<int32_t>(slice.target_rows.begin(), slice.target_rows.end()), expected);
        ASSERT_EQ(slice.targets.ids.size(), static_cast<int64_t>(expected.size()));
        EXPECT_EQ(slice.targets.text_rows, kLength);
        EXPECT_EQ(slice.targets.first_row, first * kLength);
        EXPECT_EQ(slice.targets.rows.empty(), every == 1 && !documents)
            << "nothing is gathered where all rows have a target";
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_EQ(slice.targets.ids.As<int32_t>()[i], 500 + expected[i]);
          EXPECT_TRUE(slice.targets.rows.empty() || slice.targets.rows.As<int32_t>()[i] == expected[i]);
        }
        EXPECT_EQ(slice.ids.As<int32_t>()[0], 1000 + first * kLength);
        EXPECT_TRUE(!documents || slice.layout.chunk_tokens[0] == 1300 + 3 * first);
      }
    }
  }
}

TEST(BatchUpload, ADryStreamTakesMemoryAndTouchesNone) {
  const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
  Runtime runtime(*self, {.device = DeviceKind::kCuda, .threads = 1, .dry = true});
  BatchUpload upload;
  upload.Load(runtime.Context(), Model(), Numbers(0, true));
  EXPECT_EQ(upload.Slice(2, 1).ids.size(), kLength);
  EXPECT_GE(runtime.allocator().use().current, int64_t{4} * (2 * kSamples * kLength + 2 * kSamples * 3));
  upload.Release();
  EXPECT_EQ(runtime.allocator().use().current, 0);
}

}  // namespace
}  // namespace ksa
