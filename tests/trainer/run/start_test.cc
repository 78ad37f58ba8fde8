// Where a start begins: every rule of resuming, on one rank and on three.
#include "trainer/run/start.h"

#include <unistd.h>

#include <filesystem>
#include <optional>

#include "parallel/comm/threads.h"
#include "tests/trainer/checkpoint/support.h"
#include "tests/trainer/config/support.h"

namespace ksa::testing {
namespace {

constexpr const char* kFingerprint = "fedcba9876543210";
constexpr const char* kOwn = "00112233445566aa";
constexpr const char* kOther = "ffeeddccbbaa9988";

// Run folders with checkpoints of one tiny store; their configuration is the smallest complete one.
class Runs {
 public:
  Runs() { Spill(scratch_ / "tokenizer.model", "pieces"); }

  [[nodiscard]] std::string path(const std::string& name) const { return scratch_ / name; }

  bool foreign_tokenizer = false;  // of the data
  bool old_program = false;        // whose checkpoints know nothing of checkpoint.keep_every

  [[nodiscard]] Config ConfigWith(std::vector<std::string> sets) const {
    sets.push_back("run.dir=" + path("run"));
    Config config = ParseConfig(kBase, "t.yaml", sets).config;
    ResolveDevice(config, false);
    return config;
  }

  // A checkpoint in `run`, as a run with `sets` makes it.
  std::string Save(const std::string& run,
                   int64_t step,
                   const std::string& run_id = kOwn,
                   const std::vector<std::string>& sets = {},
                   const std::optional<CheckpointOrigin>& from = {}) const {
    HostAllocator allocator;
    ParameterStore store(SmallSpecs(), DType::kF32, allocator);
    FillState(store);
    CheckpointMeta meta = MetaOf(step, run_id);
    meta.configuration = RenderConfig(ConfigWith(sets));
    if (const size_t key = meta.configuration.find("  keep_every:"); old_program) {
      meta.configuration.erase(key, meta.configuration.find('\n', key) + 1 - key);
    }
    meta.data_fingerprint = kFingerprint;
    meta.resumed_from = from;
    SaveOptions options;
    options.folder = path(run) + "/checkpoints";
    options.keep_last = 100;
    options.tokenizer_file = scratch_ / "tokenizer.model";
    return SaveCheckpoint(store, *MakeSelfCommunicator(), meta, options);
  }

  void Record() const {
    std::filesystem::create_directories(path("run"));
    Spill(path("run") + "/first_checkpoint", "step_00000001 00112233445566aa\n");
  }

  [[nodiscard]] Start Decide(const std::vector<std::string>& sets = {}, const std::string& data = kFingerprint) const {
    const auto self = MakeSelfCommunicator();
    return DecideOn(*self, sets, data);
  }

  [[nodiscard]] Start DecideOn(Communicator& world,
                               const std::vector<std::string>& sets = {},
                               const std::string& data = kFingerprint) const {
    const DataFacts facts = {.fingerprint = data, .check_tokenizer = [this](const Checkpoint& checkpoint) {
                               if (foreign_tokenizer) {
                                 Fail(ExitCode::kBadData, "{}: another tokenizer", checkpoint.path);
                               }
                               return checkpoint.manifest.meta.tokenizer.has_value();
                             }};
    return DecideStart(ConfigWith(sets), facts, RunPaths(path("run")), world);
  }

  // Code and message of a start that is refused.
  [[nodiscard]] Error Refusal(const std::vector<std::string>& sets = {}, const std::string& data = kFingerprint) const {
    return ErrorOf([&] { static_cast<void>(Decide(sets, data)); });
  }

 private:
  ScratchFolder scratch_;
};

bool Says(const Error& error, const std::string& text) {
  return std::string(error.what()).find(text) != std::string::npos;
}

void Damage(const std::string& checkpoint) {
  std::string bytes = Slurp(checkpoint + "/rank_00000_of_00001.h5");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  Spill(checkpoint + "/rank_00000_of_00001.h5", bytes);
}

TEST(Start, NothingRecordedIsANewRun) {
  const Runs runs;
  const Start start = runs.Decide();
  EXPECT_FALSE(start.checkpoint.has_value());
  EXPECT_EQ(start.source(), nullptr);
  EXPECT_EQ(start.step(), 0);
  EXPECT_FALSE(start.record_first);
  EXPECT_FALSE(std::filesystem::exists(runs.path("run"))) << "a decision changes nothing";
  EXPECT_EQ(runs.Decide({"checkpoint.resume=never"}).step(), 0);
}

TEST(Start, TheNewestIsTakenAndRecordedWhereThatIsMissing) {
  const Runs runs;
  runs.Save("run", 4);
  runs.Save("run", 8);
  EXPECT_EQ(runs.Decide().step(), 8);
  EXPECT_TRUE(runs.Decide().record_first) << "of a run that began before there was a record";
  runs.Record();
  EXPECT_FALSE(runs.Decide().record_first);
}

TEST(Start, RecordedAndNothingThereIs66) {
  const Runs runs;
  runs.Record();
  for (const char* resume : {"auto", "some/path"}) {
    const Error error = runs.Refusal({std::string("checkpoint.resume=") + resume});
    EXPECT_EQ(error.code(), ExitCode::kMissingInput) << resume;
    EXPECT_TRUE(Says(error, "there is no checkpoint, although this run has saved some")) << error.what();
  }
}

TEST(Start, NoneVerifiesIs65AndEachIsNamed) {
  const Runs runs;
  const std::string four = runs.Save("run", 4);
  const std::string eight = runs.Save("run", 8);
  Damage(eight);
  const Start back = runs.Decide();
  EXPECT_EQ(back.step(), 4);
  ASSERT_EQ(back.warnings.size(), 1U);
  EXPECT_NE(back.warnings[0].find(eight), std::string::npos);
  Damage(four);
  const Error error = runs.Refusal();
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_TRUE(Says(error, four) && Says(error, eight)) << error.what();
  EXPECT_EQ(runs.Refusal({"checkpoint.resume=never"}).code(), ExitCode::kCannotCreate);
}

TEST(Start, OneThatCannotBeReadIsNotPassedOver) {
  const Runs runs;
  runs.Save("run", 4);
  // A link into a disk that is not mounted.
  std::filesystem::create_symlink(runs.path("disk2/step_00000008"), runs.path("run/checkpoints/step_00000008"));
  const Error error = runs.Refusal();
  EXPECT_EQ(error.code(), ExitCode::kIo) << error.what();
  EXPECT_TRUE(Says(error, "step_00000008") && Says(error, "it may be good")) << error.what();
}

TEST(Start, LinksToFoldersAreCheckpoints) {
  const Runs runs;
  const std::string moved = runs.Save("disk2", 8);
  std::filesystem::create_directories(runs.path("run/checkpoints"));
  std::filesystem::create_symlink(moved, runs.path("run/checkpoints/step_00000008"));
  EXPECT_EQ(runs.Decide().step(), 8);
}

TEST(Start, NeverRefusesAPast) {
  const Runs runs;
  runs.Record();
  EXPECT_EQ(runs.Refusal({"checkpoint.resume=never"}).code(), ExitCode::kCannotCreate);
  runs.Save("run", 4);
  EXPECT_EQ(runs.Refusal({"checkpoint.resume=never"}).code(), ExitCode::kCannotCreate);
}

TEST(Start, FromAPathAndThenFromItsOwn) {
  const Runs runs;
  const std::string parent = runs.Save("parent", 10, kOther);
  const std::vector<std::string> from = {"checkpoint.resume=" + parent};
  const Start first = runs.Decide(from);
  EXPECT_EQ(first.step(), 10);
  ASSERT_TRUE(first.resumed_from.has_value());
  EXPECT_EQ(*first.resumed_from, (CheckpointOrigin{kOther, 10}));
  runs.Save("run", 15, kOwn, {}, first.resumed_from);
  const Start again = runs.Decide(from);  // the same line
  EXPECT_EQ(again.step(), 15);
  EXPECT_EQ(again.resumed_from, first.resumed_from) << "later manifests say it as well";
  EXPECT_EQ(runs.Decide().resumed_from, first.resumed_from);
  // The parent goes on, and prunes what was begun from.
  runs.Save("parent", 20, kOther);
  EXPECT_EQ(runs.Decide({"checkpoint.resume=" + runs.path("parent")}).step(), 15);
  std::filesystem::remove_all(parent);
  const Start orphan = runs.Decide(from);
  EXPECT_EQ(orphan.step(), 15);
  ASSERT_FALSE(orphan.warnings.empty());
  EXPECT_NE(orphan.warnings[0].find("is not there any more"), std::string::npos);
  EXPECT_EQ(runs.Refusal({"checkpoint.resume=" + runs.path("parent/checkpoints/step_00000011")}).code(),
            ExitCode::kMissingInput)
      << "not what this run began from";
}

TEST(Start, APathThatTheFolderDoesNotDescendFromIsRefused) {
  const Runs runs;
  runs.Save("run", 5);
  const std::string stranger = runs.Save("stranger", 3, kOther);
  const Error error = runs.Refusal({"checkpoint.resume=" + stranger});
  EXPECT_EQ(error.code(), ExitCode::kCannotCreate);
  EXPECT_TRUE(Says(error, "does not come from it")) << error.what();
  // An older one of its own: the run has gone on from there.
  const std::string own = runs.Save("run", 2);
  const Start start = runs.Decide({"checkpoint.resume=" + own});
  EXPECT_EQ(start.step(), 5);
  ASSERT_FALSE(start.notes.empty());
  EXPECT_NE(start.notes[0].find("has gone on from"), std::string::npos);
}

TEST(Start, WhatAResumeMayChange) {
  const Runs runs;
  runs.Save("run", 5, kOwn, {"checkpoint.load=weights/of/another"});
  const Start start = runs.Decide({"data.train=[{path: ./elsewhere/, name: x}]",
                                   "data.validation=[{path: v}]",
                                   "data.on_corrupt=skip",
                                   "logging.interval=7",
                                   "run.max_wall_minutes=10"});
  EXPECT_EQ(start.step(), 5);
  EXPECT_EQ(start.notes.size(), 5U) << "every difference but checkpoint.load, which does nothing here";
  EXPECT_EQ(runs.Refusal({"model.hidden_size=64"}).code(), ExitCode::kConfig);
  EXPECT_EQ(runs.Refusal({"data.train=[{path: a}, {path: b}]"}).code(), ExitCode::kConfig);
  EXPECT_EQ(runs.Refusal({"data.document_mask=true"}).code(), ExitCode::kConfig);
  const Error data = runs.Refusal({}, "0123456789abcdef");
  EXPECT_EQ(data.code(), ExitCode::kConfig);
  EXPECT_TRUE(Says(data, "the training data is not what")) << data.what();
  // The advice of the message.
  const Error lr = runs.Refusal({"optimizer.lr=2e-3"});
  EXPECT_TRUE(Says(lr, "list optimizer.lr in checkpoint.allow_change")) << lr.what();
  EXPECT_EQ(runs.Decide({"optimizer.lr=2e-3", "checkpoint.allow_change=[optimizer.lr]"}).step(), 5);
}

TEST(Start, SaysOnceThatValidationReadsOtherSamples) {
  Runs runs;
  const std::vector<std::string> validating = {"evaluation.interval=5", "data.validation=[{path: v}]"};
  const auto says = [&](const std::vector<std::string>& sets) {
    for (const std::string& note : runs.Decide(sets).notes) {
      if (note.find("validation: up to update 10 it read the first samples") != std::string::npos) {
        return true;
      }
    }
    return false;
  };
  runs.old_program = true;
  runs.Save("run", 10, kOwn, validating);
  EXPECT_TRUE(says(validating));
  EXPECT_FALSE(says({})) << "a run that does not validate";
  runs.old_program = false;
  runs.Save("run", 20, kOwn, validating);
  EXPECT_FALSE(says(validating));
}

TEST(Start, WeightsOfARunWithAnotherTokenizerAreRefused) {
  Runs runs;
  const std::string source = runs.Save("source", 9, kOther);
  const Start start = runs.Decide({"checkpoint.load=" + source});
  ASSERT_TRUE(start.weights.has_value());
  EXPECT_EQ(start.step(), 0);
  EXPECT_EQ(start.source(), &*start.weights);
  runs.foreign_tokenizer = true;
  const Error error = runs.Refusal({"checkpoint.load=" + source});
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_TRUE(Says(error, "another tokenizer")) << error.what();
  // Not read where the run has checkpoints of its own.
  runs.Save("run", 3);
  EXPECT_EQ(runs.Decide({"checkpoint.load=" + source}).step(), 3);
}

TEST(Start, IsTheSameOnAllRanks) {
  const Runs runs;
  runs.Save("run", 4);
  RunRanks(3, [&](Communicator& world) { EXPECT_EQ(runs.DecideOn(world).step(), 4); });
  for (const std::exception_ptr& error : RunRanksToEnd(
           3, [&](Communicator& world) { static_cast<void>(runs.DecideOn(world, {"model.hidden_size=64"})); })) {
    ASSERT_TRUE(error);
    EXPECT_EQ(ErrorOf([&] { std::rethrow_exception(error); }).code(), ExitCode::kConfig);
  }
}

}  // namespace
}  // namespace ksa::testing
