// Documents of one sequence, cut anywhere by context ranks: what one of them says changes no bit of another's
// hidden rows and their losses.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "model/ops/collectives.h"
#include "parallel/comm/threads.h"
#include "parallel/context/slices.h"
#include "tests/parallel/equality/random_problem.h"
#include "tests/parallel/equality/training.h"
#include "tests/support/kernel_test.h"

namespace ksa::testing {
namespace {

// Text rows of the batch, padding left out.
struct Document {
  int32_t sequence = 0;
  std::vector<size_t> rows;
};

std::vector<Document> DocumentsOf(const Problem& problem, const Batch& batch) {
  const int32_t k = problem.model.ChunkSize();
  std::vector<Document> documents;
  for (int32_t s = 0; s < batch.samples; ++s) {
    for (int32_t c = 0; c < batch.chunks; ++c) {
      const auto chunk = static_cast<size_t>(s) * static_cast<size_t>(batch.chunks) + static_cast<size_t>(c);
      if (batch.document_first_chunk[chunk] == c) {
        documents.push_back({s, {}});
      }
      for (int32_t i = 0; i < batch.chunk_tokens[chunk]; ++i) {
        documents.back().rows.push_back(static_cast<size_t>(s) * static_cast<size_t>(problem.tokens) +
                                        static_cast<size_t>(c * k + i));
      }
    }
  }
  documents.erase(std::remove_if(documents.begin(), documents.end(), [](const Document& d) { return d.rows.empty(); }),
                  documents.end());
  return documents;
}

struct Seen {
  size_t documents = 0;
  int changed_rows = 0;  // on the rank where the fewest rows changed
};

// Of every text row of the batch its hidden channels and its loss, 0 where it has no target; those of other context
// ranks stay empty.
std::vector<std::vector<double>> RowsOf(Rank& rank, const Batch& batch) {
  const ModelConfig& model = rank.problem.model;
  const ExecContext cx = rank.runtime.Context();
  BatchUpload upload;
  upload.Load(cx, model, batch);
  const MicroBatch micro = upload.Slice(0, batch.samples);
  const Var hidden = rank.state.model.Hidden(cx, {.ids = micro.ids, .layout = micro.layout});
  const Tensor row_loss = rank.state.model.Loss(cx, hidden, micro.targets, 1.0).row_loss;
  std::vector<double> losses(static_cast<size_t>(micro.layout.text_rows()), 0.0);
  for (size_t i = 0; i < micro.target_rows.size(); ++i) {
    losses[static_cast<size_t>(micro.target_rows[i])] = ElementAt(row_loss, static_cast<int64_t>(i));
  }
  const Tensor whole_hidden = TensorEnter(cx, hidden, {micro.layout.text_rows()}).value;
  std::vector<std::vector<double>> rows(batch.inputs.size());
  const ProcessMesh& mesh = rank.runtime.mesh();
  const SummaryLayout whole = MakeLayout(model, batch.samples, batch.sequence_length);
  for (const RowSegment& s : SegmentsOf(whole, mesh.Size(MeshAxis::kContext), mesh.Rank(MeshAxis::kContext), false)) {
    for (int64_t i = 0; i < s.rows; ++i) {
      std::vector<double>& row = rows[static_cast<size_t>(s.whole + i)];
      row = ToDouble(whole_hidden.Rows(s.local + i, 1));
      row.push_back(losses[static_cast<size_t>(s.local + i)]);
    }
  }
  return rows;
}

// Fails the test where a document sees another.
Seen CheckIsolation(const Problem& problem, const MeshShape& mesh, bool sequence_parallel) {
  const Batch batch = SamplesOf(problem, 1, 0, 2);
  const std::vector<Document> documents = DocumentsOf(problem, batch);
  std::vector<int> changed_rows(static_cast<size_t>(mesh.size()), 0);
  RunRanks(static_cast<int>(mesh.size()), [&](Communicator& world) {
    Rank rank(world, problem, {.mesh = mesh, .sequence_parallel = sequence_parallel});
    const std::vector<std::vector<double>> before = RowsOf(rank, batch);
    for (const Document& changed : documents) {
      Batch other = batch;
      for (const size_t row : changed.rows) {
        other.inputs[row] = (other.inputs[row] + 1) % problem.model.vocab_size;
      }
      const std::vector<std::vector<double>> after = RowsOf(rank, other);
      for (const Document& document : documents) {
        for (const size_t row : document.rows) {
          if (&document == &changed) {
            changed_rows[static_cast<size_t>(world.rank())] += before[row] != after[row] ? 1 : 0;
          } else {
            ASSERT_EQ(before[row], after[row])
                << "row " << row << " after a change of the document from row " << changed.rows.front() << " on";
          }
        }
      }
    }
  });
  return {documents.size(), *std::min_element(changed_rows.begin(), changed_rows.end())};
}

TEST(EqualityIsolationTest, DocumentsDoNotSeeEachOtherAcrossSlices) {
  const std::vector<MeshShape> meshes = {
      {1, 1, 1}, {1, 2, 1}, {1, 4, 1}, {1, 8, 1}, {1, 2, 2}, {1, 2, 4}, {1, 4, 2}, {1, 3, 1}, {1, 2, 3}};
  for (const MeshShape& mesh : meshes) {
    for (const ModelKind kind : kModelKinds) {
      for (const int bundle : {1, 3}) {
        const Problem problem = MakeProblem(kind, bundle, mesh.tensor);
        const bool parts = mesh.tensor > 1 && bundle == 3;
        SCOPED_TRACE(problem.name + ", mesh " + NameOf(mesh));
        const Seen seen = CheckIsolation(problem, mesh, parts);
        EXPECT_GT(seen.documents, 3U);
        EXPECT_GT(seen.changed_rows, 0);
      }
    }
  }
}

TEST(EqualityIsolationTest, DocumentsOfRandomCases) {
  const Seeds seeds = SeedsToRun(40);
  size_t documents = 0;
  for (uint64_t seed = seeds.first; seed < seeds.first + seeds.count; ++seed) {
    RandomCase random = MakeRandomCase(seed);
    random.problem.documents = true;
    const MeshShape& mesh = random.layout.mesh;
    SCOPED_TRACE(Describe(random));
    documents += CheckIsolation(
                     random.problem, {.context = mesh.context, .tensor = mesh.tensor}, random.layout.sequence_parallel)
                     .documents;
  }
  EXPECT_GT(documents, 4 * seeds.count);
}

}  // namespace
}  // namespace ksa::testing
