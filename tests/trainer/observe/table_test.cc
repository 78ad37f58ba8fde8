#include "trainer/observe/table.h"

#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace ksa {
namespace {

Table Example() {
  Table table({{"cell", "cell", 0}, {"steps", "steps", 0}, {"loss", "final loss", 2}});
  table.AddRow({std::string("k=4, \"small\""), int64_t{1200}, 1.0 / 3.0});
  table.AddRow({std::string("für"), int64_t{7}, std::nan("")});
  table.AddRow({{}, {}, 12.5});
  return table;
}

TEST(Table, TextIsAligned) {
  EXPECT_EQ(Example().Text(),
            "cell          steps  final loss\n"
            "------------  -----  ----------\n"
            "k=4, \"small\"   1200        0.33\n"
            "für               7           -\n"
            "-                 -       12.50\n");
  EXPECT_EQ(Example().Text({"loss", "steps"}),
            "final loss  steps\n"
            "----------  -----\n"
            "      0.33   1200\n"
            "         -      7\n"
            "     12.50      -\n");
  EXPECT_THROW(static_cast<void>(Example().Text({"nothing"})), Error);
}

TEST(Table, CsvQuotesAndKeepsEveryDigit) {
  EXPECT_EQ(Example().Csv(),
            "cell,steps,loss\n"
            "\"k=4, \"\"small\"\"\",1200,0.3333333333333333\n"
            "für,7,\n"
            ",,12.5\n");
}

TEST(Table, JsonReadsBack) {
  const nlohmann::json rows = nlohmann::json::parse(Example().Json());
  ASSERT_EQ(rows.size(), 3);
  EXPECT_EQ(rows[0]["cell"], "k=4, \"small\"");
  EXPECT_EQ(rows[0]["steps"], 1200);
  EXPECT_EQ(rows[0]["loss"].get<double>(), 1.0 / 3.0);
  EXPECT_TRUE(rows[1]["loss"].is_null());
  EXPECT_TRUE(rows[2]["cell"].is_null());
  EXPECT_EQ(nlohmann::json::parse(Table(std::vector<TableColumn>{{"a", "a"}}).Json()).size(), 0);
}

TEST(Table, ARowHasACellAColumn) {
  Table table({{"a", "a", 0}, {"b", "b", 0}});
  EXPECT_THROW(table.AddRow({int64_t{1}}), Error);
}

}  // namespace
}  // namespace ksa
