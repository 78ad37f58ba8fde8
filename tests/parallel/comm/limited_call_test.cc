#include "parallel/comm/limited_call.h"

#include <chrono>
#include <functional>
#include <future>
#include <string>

#include <gtest/gtest.h>

namespace ksa {
namespace {

double SecondsOf(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

constexpr double kShort = 0.05;
constexpr double kLong = 120.0;  // nothing here waits for so long
constexpr double kSoon = 60.0;   // on a machine that is busy with other things

// Calls that never come back, until the test is over.
class Hanging {
 public:
  Hanging() = default;
  Hanging(const Hanging&) = delete;
  Hanging& operator=(const Hanging&) = delete;

  ~Hanging() { over_.set_value(); }

  [[nodiscard]] std::function<void()> Call() const {
    return [over = future_] { over.wait(); };
  }

 private:
  std::promise<void> over_;
  std::shared_future<void> future_ = over_.get_future().share();
};

TEST(LimitedCallTest, ComesBackOrIsLeftAlone) {
  std::string calls;
  EXPECT_TRUE(CallWithin(kLong, [&] { calls += "done "; }));
  EXPECT_EQ(calls, "done ");
  const Hanging hanging;
  EXPECT_LT(SecondsOf([&] { EXPECT_FALSE(CallWithin(kShort, hanging.Call())); }), kSoon);
}

// What a group's library is asked for at its end.
struct Library {
  std::string calls;
  bool closes = true;

  [[nodiscard]] EndCalls Calls() {
    return {.close =
                [this] {
                  calls += "close ";
                  return closes;
                },
            .forget = [this] { calls += "forget "; },
            .abort = [this] { calls += "abort "; }};
  }
};

TEST(EndWithinTest, InGoodOrderAndNot) {
  Library good;
  EXPECT_EQ(EndWithin(true, good.Calls()), Ended::kClosed);
  EXPECT_EQ(good.calls, "close forget ");
  Library refuses{.closes = false};
  EXPECT_EQ(EndWithin(true, refuses.Calls()), Ended::kAborted);
  EXPECT_EQ(refuses.calls, "close abort ");
  Library failed;
  EXPECT_EQ(EndWithin(false, failed.Calls()), Ended::kAborted);
  EXPECT_EQ(failed.calls, "abort ");
}

// A rank that never closes its side, and a library that hangs even when it is told to give up: the end comes all the
// same, so that an error on its way reaches those who report it.
TEST(EndWithinTest, NeverWaitsForEver) {
  Library library;
  const Hanging hanging;
  EndCalls calls = library.Calls();
  calls.close = [hang = hanging.Call()] {
    hang();
    return true;
  };
  const EndLimits limits = {.close_seconds = kShort, .abort_seconds = kLong};
  EXPECT_LT(SecondsOf([&] { EXPECT_EQ(EndWithin(true, calls, limits), Ended::kAborted); }), kSoon);
  EXPECT_EQ(library.calls, "abort ");
  calls.abort = hanging.Call();
  const EndLimits both = {.close_seconds = kShort, .abort_seconds = kShort};
  EXPECT_LT(SecondsOf([&] { EXPECT_EQ(EndWithin(true, calls, both), Ended::kLeft); }), kSoon);
  EXPECT_LT(SecondsOf([&] { EXPECT_EQ(EndWithin(false, calls, both), Ended::kLeft); }), kSoon);
}

}  // namespace
}  // namespace ksa
