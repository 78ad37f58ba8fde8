#include "trainer/checkpoint/async_saver.h"

#include <chrono>
#include <functional>
#include <system_error>
#include <utility>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"

namespace ksa {
namespace {

// Where no thread can be started training waits for the work, as it would for a save of its own.
std::future<std::string> OnThread(std::function<std::string()> work) {
  try {
    return std::async(std::launch::async, work);
  } catch (const std::system_error&) {
    std::packaged_task<std::string()> now(std::move(work));
    now();
    return now.get_future();
  }
}

}  // namespace

AsyncSaver::AsyncSaver(const ParameterStore& store, Communicator& world, const Stream& stream)
    : store_(store), world_(world), copy_(store, stream) {}

AsyncSaver::~AsyncSaver() {
  if (work_.valid()) {
    work_.wait();
  }
  if (job_ != nullptr) {
    job_->RemovePartial();
  }
}

void AsyncSaver::Begin(const CheckpointMeta& meta, const SaveOptions& options) {
  KSA_CHECK(!pending(), "a checkpoint is still being written");
  copy_.Take();
  options_ = options;
  SaveOptions on_thread = options;
  on_thread.before_commit = {};
  on_thread.warn = [this](const std::string& text) { warnings_.push_back(text); };
  // The copy lies in host memory, whatever computes.
  job_ = std::make_unique<SaveJob>(store_, world_, meta, std::move(on_thread), copy_.Rows(), Stream{});
  stage_ = Stage::kPrepare;
  if (world_.rank() == 0) {
    work_ = OnThread([job = job_.get()] {
      job->Prepare();
      return std::string();
    });
  }
}

bool AsyncSaver::StageIsOver() const {
  return !work_.valid() || work_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

std::optional<std::string> AsyncSaver::Advance() {
  KSA_CHECK(pending(), "no checkpoint is being written");
  if (work_.valid()) {
    work_.wait();
  }
  TellWarnings();
  try {
    std::optional<std::string> path = EndStage();
    if (path) {
      job_.reset();
    }
    return path;
  } catch (const Error&) {
    job_->RemovePartial();
    job_.reset();
    throw;
  }
}

std::string AsyncSaver::Finish() {
  while (true) {
    if (std::optional<std::string> path = Advance()) {
      return *path;
    }
  }
}

std::optional<std::string> AsyncSaver::EndStage() {
  switch (stage_) {
    case Stage::kPrepare:
      OnRankZero(world_, [&] { return work_.get(); });
      stage_ = Stage::kWrite;
      work_ = OnThread([job = job_.get(), copy = &copy_] {
        copy->Wait();
        return job->Write();
      });
      return std::nullopt;
    case Stage::kWrite:
      BeginCommit(OnAllRanks(world_, [&] { return work_.get(); }));
      return std::nullopt;
    default:
      return OnRankZero(world_, [&] { return work_.get(); });
  }
}

// Rows of metrics and the log belong to this thread, so they are flushed here.
void AsyncSaver::BeginCommit(const std::vector<std::string>& lists) {
  OnRankZero(world_, [&] {
    if (options_.before_commit) {
      options_.before_commit();
    }
    return std::string();
  });
  stage_ = Stage::kCommit;
  if (world_.rank() == 0) {
    work_ = OnThread([job = job_.get(), lists] {
      const std::unique_ptr<Communicator> self = MakeSelfCommunicator();
      return job->Finish(lists, *self);
    });
  }
}

// While no thread runs: they are the thread's.
void AsyncSaver::TellWarnings() {
  for (const std::string& text : std::exchange(warnings_, {})) {
    if (options_.warn) {
      options_.warn(text);
    } else {
      fmt::print(stderr, "warning: {}\n", text);
    }
  }
}

}  // namespace ksa
