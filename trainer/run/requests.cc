#include "trainer/run/requests.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// What a rank votes on.
enum class Vote : int { kPerson, kScheduler, kSave, kOver };

// Counts of ranks in one integer, so that one sum over all ranks counts every vote.
class Votes {
 public:
  static constexpr int kBits = 15;  // a count; 32767 ranks

  Votes() = default;

  explicit Votes(int64_t packed) : packed_(packed) {}

  void Add(Vote vote, bool yes) { packed_ += yes ? int64_t{1} << Shift(vote) : 0; }

  [[nodiscard]] int64_t Of(Vote vote) const { return (packed_ >> Shift(vote)) & ((int64_t{1} << kBits) - 1); }

  [[nodiscard]] int64_t packed() const { return packed_; }

 private:
  static int Shift(Vote vote) { return kBits * static_cast<int>(vote); }

  int64_t packed_ = 0;
};

}  // namespace

Requests::Requests(Communicator& world, const RunFolder* folder, const WallLimit& wall)
    : world_(world),
      folder_(folder),
      stop_(folder == nullptr || world.rank() != 0 ? "" : folder->paths().Stop()),
      wall_(wall) {
  KSA_CHECK(
      world.size() < 1 << Votes::kBits, "{} ranks do not fit into a count of {} bits", world.size(), Votes::kBits);
}

// A signal may have reached another rank alone so far: the first one that knows why says it to all.
std::string Requests::ReasonOf(const std::string& own) const {
  const std::vector<std::string> reasons = world_.Gather(own);
  const auto known =
      std::find_if(reasons.begin(), reasons.end(), [](const std::string& text) { return !text.empty(); });
  return known != reasons.end() ? *known : "a file STOP that is gone again";
}

Wish Requests::Agree(bool over) const {
  const bool leads = world_.rank() == 0;
  StopCause own = stop_.Cause();
  std::string reason = stop_.Reason();
  if (leads && own == StopCause::kNone && wall_.Reached()) {
    own = StopCause::kScheduler;
    reason = wall_.Reason();
  }
  const bool save = leads && folder_ != nullptr && folder_->SaveRequested();
  Votes votes;
  votes.Add(Vote::kPerson, own == StopCause::kPerson);
  votes.Add(Vote::kScheduler, own == StopCause::kScheduler);
  votes.Add(Vote::kSave, save);
  votes.Add(Vote::kOver, over);
  const Votes all(world_.Sum(votes.packed()));
  const StopCause stop = all.Of(Vote::kPerson) > 0      ? StopCause::kPerson
                         : all.Of(Vote::kScheduler) > 0 ? StopCause::kScheduler
                                                        : StopCause::kNone;
  return {.stop = stop,
          .save = all.Of(Vote::kSave) > 0,
          .reason = stop == StopCause::kNone ? "" : ReasonOf(stop == own ? reason : ""),
          .all_over = all.Of(Vote::kOver) == world_.size()};
}

}  // namespace ksa
