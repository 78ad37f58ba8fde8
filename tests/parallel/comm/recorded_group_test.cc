// The check of orders, which must be able to fail.
#include "tests/support/recorded_group.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace ksa::testing {
namespace {

const QueuedCall kRows = {.group = "tensor", .ranks = {0, 1}, .op = "rows"};
const QueuedCall kColumns = {.group = "data", .ranks = {0, 1}, .op = "columns"};

QueuedCall Exchange(int to, int from) {
  return {.group = "context",
          .ranks = {0, 1, 2},
          .op = "keys",
          .kind = CollectiveKind::kExchange,
          .sends = {to},
          .receives = {from}};
}

TEST(RecordedGroupTest, OneOrder) {
  EXPECT_EQ(WhyNotOneOrder({{kRows, kColumns}, {kRows, kColumns}}), "");
  EXPECT_EQ(WhyNotOneOrder({{Exchange(1, 2), kRows}, {Exchange(2, 0), kRows}, {Exchange(0, 1)}}), "");
}

// A rank that waits for one that is still at an exchange with somebody else.
TEST(RecordedGroupTest, ExchangesOfSeveralGroups) {
  const auto rows = [](int peer) {
    return QueuedCall{.group = "tensor",
                      .ranks = {1, 2},
                      .op = "rows",
                      .kind = CollectiveKind::kExchange,
                      .sends = {peer},
                      .receives = {peer}};
  };
  EXPECT_EQ(WhyNotOneOrder({{Exchange(1, 1)}, {rows(2), Exchange(0, 0)}, {rows(1)}}), "");
  EXPECT_NE(WhyNotOneOrder({{Exchange(1, 1)}, {rows(2), Exchange(0, 0)}, {}}), "");
}

TEST(RecordedGroupTest, OtherOrdersAreTold) {
  const std::string crossed = WhyNotOneOrder({{kRows, kColumns}, {kColumns, kRows}});
  EXPECT_NE(crossed.find("rank 0 waits in its call 0, rows of tensor over ranks 0, 1"), std::string::npos) << crossed;
  EXPECT_NE(crossed.find("rank 1 waits in its call 0, columns of data over ranks 0, 1"), std::string::npos) << crossed;
  EXPECT_NE(WhyNotOneOrder({{kRows, kColumns}, {kRows}}), "") << "a rank that does not come";
  EXPECT_NE(WhyNotOneOrder({{Exchange(1, 1), kRows}, {kRows, Exchange(0, 0)}, {}}), "") << "an exchange between others";
  // Three groups of two ranks each: no two ranks disagree about what both take part in, all three do.
  const auto between = [](int a, int b) { return QueuedCall{.group = "pair", .ranks = {a, b}, .op = "sum"}; };
  EXPECT_NE(
      WhyNotOneOrder({{between(0, 1), between(0, 2)}, {between(1, 2), between(0, 1)}, {between(0, 2), between(1, 2)}}),
      "");
}

}  // namespace
}  // namespace ksa::testing
