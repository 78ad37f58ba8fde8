// The loss of some rows: the same whether the others reach the head or not, with a teacher's rows beside the student's.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/host_allocator.h"
#include "parallel/comm/threads.h"
#include "trainer/config/load.h"
#include "trainer/step/training_state.h"

namespace ksa {
namespace {

constexpr int32_t kSequences = 2;
constexpr int32_t kTokens = 19;
constexpr int32_t kRows = kSequences * kTokens;
constexpr int32_t kFirstRow = 7;  // of the batch that these rows are cut from

constexpr const char* kRun =
    "run: {name: rows}\n"
    "model: {vocab_size: 23, hidden_size: 16, intermediate_size: 16, num_hidden_layers: 2, num_attention_heads: 2,"
    " initializer_range: fan_in, attention: {pattern: [ksa], ksa: {chunk_size: 4, window_chunks: 1}}}\n"
    "data: {train: [{path: data/a/train}]}\n"
    "training: {sequence_length: 19, global_batch_size: 2, max_steps: 10, precision: fp64, distill: {}}\n"
    "optimizer: {lr: 1e-3}\n";

struct Sums {
  std::vector<double> rows;
  std::vector<double> terms;  // cross-entropy, divergence, squared log-sum-exp
  double loss = 0.0;
};

class SelectedRows : public ::testing::Test {
 protected:
  SelectedRows() {
    state_.store.Initialize(3, runtime_.stream());
    for (int32_t r = 0; r < kRows; ++r) {
      ids_.push_back(r * 7 % 23);
      targets_.push_back(r % 3 == 1 ? (r * 5 + 1) % 23 : -100);
      if (targets_.back() >= 0) {
        chosen_.push_back(kFirstRow + r);
        chosen_targets_.push_back(targets_.back());
      }
    }
  }

  Tensor Numbers(const std::vector<int32_t>& values) {
    Tensor tensor = Tensor::Empty({static_cast<int64_t>(values.size())}, DType::kI32, memory_);
    std::copy(values.begin(), values.end(), tensor.As<int32_t>());
    return tensor;
  }

  Sums LossOf(const KsaModel::Targets& targets, bool teaches) {
    const ExecContext cx = runtime_.Context();
    KsaModel::Input input = {.ids = Numbers(ids_), .layout = MakeLayout(config_.model, kSequences, kTokens)};
    KsaModel::Teaching teaching;
    teaching.sum = Tensor::Zeros({1}, DType::kF64, memory_);
    if (teaches) {
      input.teaching = &teaching;
    }
    const Var hidden = state_.model.Hidden(cx, input);
    const Tensor terms = Tensor::Zeros({3}, DType::kF64, memory_);
    const CrossEntropyResult result = state_.model.Loss(cx,
                                                        hidden,
                                                        targets,
                                                        {.loss_sum = Tensor::Zeros({1}, DType::kF64, memory_),
                                                         .weights = {.lm = 0.5, .kl = teaches ? 2.0 : 0.0, .z = 1e-2},
                                                         .teacher = teaching.hidden,
                                                         .term_sums = terms});
    const auto* rows = result.row_loss.As<double>();
    const auto* sums = terms.As<double>();
    return {{rows, rows + result.row_loss.size()}, {sums, sums + 3}, result.loss_sum.value.As<double>()[0]};
  }

  Config config_ = ParseConfig(kRun, "rows.yaml").config;
  std::unique_ptr<Communicator> self_ = MakeSelfCommunicator();
  Runtime runtime_{*self_, {.threads = 1}};
  TrainingState state_{
      config_.model, config_.training, config_.optimizer, ShardingOf(config_.parallel, runtime_.mesh()), runtime_};
  HostAllocator memory_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> targets_;
  std::vector<int32_t> chosen_;
  std::vector<int32_t> chosen_targets_;
};

TEST_F(SelectedRows, HaveTheLossOfAllWithAndWithoutATeacher) {
  for (const bool teaches : {false, true}) {
    const Sums all = LossOf(Numbers(targets_), teaches);
    KsaModel::Targets targets(Numbers(chosen_targets_));
    targets.rows = Numbers(chosen_);
    targets.first_row = kFirstRow;
    targets.text_rows = kRows;
    const Sums some = LossOf(targets, teaches);
    EXPECT_NEAR(some.loss, all.loss, 1e-12 * all.loss);
    ASSERT_EQ(some.rows.size(), chosen_.size());
    double of_rows = 0.0;
    for (size_t i = 0; i < chosen_.size(); ++i) {
      EXPECT_NEAR(some.rows[i], all.rows[static_cast<size_t>(chosen_[i] - kFirstRow)], 1e-12 * all.loss);
      of_rows += some.rows[i];
    }
    EXPECT_NEAR(of_rows, some.loss, 1e-12 * all.loss) << "a row's loss is the weighted sum of its terms";
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(some.terms[i], all.terms[i], 1e-12 * std::abs(all.terms[i])) << "term " << i;
    }
    EXPECT_EQ(some.terms[1] > 1e-3, teaches) << "the student is not its teacher";
  }
}

// A micro-batch may hold no target at all.
TEST_F(SelectedRows, OfNoneIsNoLoss) {
  KsaModel::Targets targets(Numbers({0}).Rows(0, 0));
  targets.rows = Numbers({kFirstRow}).Rows(0, 0);
  targets.first_row = kFirstRow;
  targets.text_rows = kRows;
  const Sums none = LossOf(targets, true);
  EXPECT_EQ(none.loss, 0.0);
  EXPECT_EQ(none.terms, (std::vector<double>{0.0, 0.0, 0.0}));
  EXPECT_TRUE(none.rows.empty());
}

}  // namespace
}  // namespace ksa
