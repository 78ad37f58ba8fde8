#include "kernels/core/stream_resources.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// Notes what is taken and given back, and by whom.
class NotingSource final : public SlabSource {
 public:
  NotingSource(std::vector<std::string>& notes, bool empty) : notes_(notes), empty_(empty) {}

  [[nodiscard]] Device device() const override { return {}; }

  [[nodiscard]] void* Take(int64_t bytes) override {
    notes_.push_back("take " + std::to_string(bytes));
    return empty_ ? nullptr : &memory_;
  }

  void Give(void* slab, int64_t bytes) noexcept override {
    notes_.push_back((slab == &memory_ ? "give " : "give something else ") + std::to_string(bytes));
  }

 private:
  std::vector<std::string>& notes_;
  bool empty_;
  char memory_ = 0;
};

template <int kNumber>
class Noting final : public StreamResources::Item {
 public:
  explicit Noting(const Stream& stream) : threads(stream.threads) { ++made; }

  ~Noting() override { ++gone; }

  int threads;
  static inline int made = 0;
  static inline int gone = 0;
};

TEST(StreamResourcesTest, OneObjectOfEachTypeUntilTheEnd) {
  std::vector<std::string> notes;
  NotingSource source(notes, false);
  {
    StreamResources resources(source, 100);
    EXPECT_EQ(resources.workspace_bytes(), 100);
    EXPECT_NE(resources.workspace(), nullptr);
    auto& first = resources.Get<Noting<1>>({.threads = 3});
    EXPECT_EQ(first.threads, 3);
    EXPECT_EQ(&resources.Get<Noting<1>>({.threads = 5}), &first);
    EXPECT_EQ(Noting<1>::made, 1);
    EXPECT_EQ(Noting<2>::made, 0);
    EXPECT_EQ(resources.Get<Noting<2>>({.threads = 7}).threads, 7);
    EXPECT_EQ(Noting<1>::gone, 0);
  }
  EXPECT_EQ(Noting<1>::gone, 1);
  EXPECT_EQ(Noting<2>::gone, 1);
  EXPECT_EQ(notes, (std::vector<std::string>{"take 100", "give 100"}));
}

TEST(StreamResourcesTest, NoMemoryIsAnError) {
  std::vector<std::string> notes;
  NotingSource source(notes, true);
  try {
    const StreamResources resources(source, int64_t{64} << 20);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("64 MiB"), std::string::npos);
  }
}

}  // namespace
}  // namespace ksa
