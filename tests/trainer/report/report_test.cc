// What a report reads of runs and sweeps, and how it stands in the page.
#include "trainer/report/report.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "tests/trainer/config/support.h"
#include "trainer/config/load.h"
#include "trainer/report/page.h"

namespace ksa {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHostile = "</script><script>alert(1)</script>&\"'\xE2\x80\xA8";

class ReportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("report_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }

  void TearDown() override { fs::remove_all(folder_); }

  // A file of a run.
  std::string Write(const std::string& run, const std::string& name, const std::string& text) const {
    fs::create_directories(folder_ / run);
    std::ofstream(folder_ / run / name) << text;
    return (folder_ / run).string();
  }

  static std::string Rows(int updates) {
    std::string text;
    for (int i = 1; i <= updates; ++i) {
      text += fmt::format(
          R"({{"run_id":"r","attempt":1,"step":{},"tokens":{},"loss":{},"lr":0.001,"mfu":null,"validation_loss":{},)"
          R"("tokens_per_second":{},"seconds":{}}})"
          "\n",
          i,
          16 * i,
          5.0 / i,
          i == updates ? R"({"books":2.5})" : "{}",
          100 + i,
          3.6 * i);
    }
    return text;
  }

  static nlohmann::json Parsed(const Report& report) { return nlohmann::json::parse(ReportJson(report)); }

  static std::string CodeOf(const std::function<void()>& work) {
    try {
      work();
      return "";
    } catch (const Error& error) {
      return std::to_string(static_cast<int>(error.code()));
    }
  }

  fs::path folder_;
};

TEST_F(ReportTest, CurvesOfARun) {
  const std::string run = Write("a", "metrics.jsonl", Rows(3) + "{\"torn");
  const Report report = ReadReport({run + "/"});
  const nlohmann::json json = Parsed(report);
  ASSERT_EQ(json["runs"].size(), 1U);
  const nlohmann::json& first = json["runs"][0];
  EXPECT_EQ(first["name"], "a") << "of the folder, where there is no configuration";
  EXPECT_EQ(first["updates"], 3);
  EXPECT_EQ(first["tokens"], 48);
  EXPECT_NEAR(first["hours"].get<double>(), 0.003, 1e-9);
  EXPECT_EQ(first["tokens_per_second"], 102);
  EXPECT_EQ(first["notes"].size(), 2U) << first["notes"] << " no configuration, and a torn line";
  std::map<std::string, nlohmann::json> curves;
  for (const nlohmann::json& curve : first["curves"]) {
    curves[curve["name"].get<std::string>()] = curve;
  }
  EXPECT_EQ(curves["loss"]["value"], nlohmann::json::parse("[5.0, 2.5, 1.66667]"));
  EXPECT_EQ(curves["loss"]["tokens"], nlohmann::json::parse("[16, 32, 48]"));
  EXPECT_EQ(curves["loss"]["step"], nlohmann::json::parse("[1, 2, 3]"));
  EXPECT_EQ(curves["validation_loss/books"]["step"], nlohmann::json::parse("[3]"));
  EXPECT_EQ(curves.count("mfu"), 0U) << "never known";
  EXPECT_EQ(curves.count("tokens"), 0U);
}

TEST_F(ReportTest, FilesOfEvalAndInspectAreFoundByWhatIsInThem) {
  const std::string run = Write("a", "metrics.jsonl", Rows(1));
  Write("a", "p.json", R"({"loss":1,"by_position":[3.5,null,2.5]})");
  Write("a",
        "t.json",
        R"({"task":"needle","accuracy":0.5,"samples":8,"by":{"depth":[{"value":0.5,"accuracy":0.25}]},)"
        R"("by_length_and_depth":[{"length":64,"depths":[{"value":0.5,"accuracy":0.25,"targets":4}]}]})");
  Write("a",
        "i.json",
        R"({"layers":[{"layer":0,"head":1,"share":{"window":0.5,"own":0.25,"summaries_by_age":[{"from":2,"to":3,)"
        R"("share":0.25}]},"top":[]}]})");
  Write("a", "other.json", R"({"x":1})");
  Write("a", "broken.json", "{");
  const Report report = ReadReport({run});
  ASSERT_EQ(report.runs[0].attachments.size(), 3U);
  EXPECT_EQ(report.runs[0].attachments[0].file, "i.json");
  EXPECT_EQ(report.runs[0].attachments[0].kind, AttachmentKind::kAttention);
  EXPECT_EQ(report.runs[0].attachments[1].kind, AttachmentKind::kPositions);
  EXPECT_EQ(report.runs[0].attachments[2].kind, AttachmentKind::kTask);
  EXPECT_EQ(report.runs[0].notes.size(), 3U) << "no configuration, another file, a broken one";
  const auto files = ReportCsv(report);
  ASSERT_EQ(files.size(), 4U);
  EXPECT_EQ(files[0].first, "curves.csv");
  EXPECT_NE(files[0].second.find("a,loss,1,16,"), std::string::npos) << files[0].second;
  EXPECT_EQ(files[1].second, "run,file,position,loss\na,p.json,0,3.5\na,p.json,1,\na,p.json,2,2.5\n");
  EXPECT_EQ(files[2].second,
            "run,file,task,by,value,accuracy,targets\na,t.json,needle,all,,0.5,8\na,t.json,needle,depth,0.5,0.25,\n"
            "a,t.json,needle,depth at length 64,0.5,0.25,4\n");
  EXPECT_EQ(files[3].second,
            "run,file,layer,head,part,from,to,share\na,i.json,0,1,window,,,0.5\na,i.json,0,1,own,,,0.25\n"
            "a,i.json,0,1,summaries,2,3,0.25\n");
}

TEST_F(ReportTest, WhatDiffersInTheConfigurations) {
  const auto with = [&](const std::string& name, const std::vector<std::string>& sets) {
    Config config = ParseConfig(testing::kBase, "base.yaml", sets).config;
    ResolveDevice(config, false);
    CheckAgainstRanks(config, 1);
    return Write(name, "config.resolved.yaml", RenderConfig(config));
  };
  const Report report = ReadReport(
      {with("a", {"run.name=x"}), with("b", {"run.name=y", "optimizer.lr=0.5"}), Write("c", "metrics.jsonl", "")});
  const std::vector<ConfigRow> rows = DifferingKeys(report.runs);
  std::vector<std::string> keys;
  for (const ConfigRow& row : rows) {
    keys.push_back(row.key);
  }
  EXPECT_EQ(keys, (std::vector<std::string>{"optimizer.lr", "optimizer.min_lr"})) << "names and folders always differ";
  EXPECT_EQ(rows[0].values[1], "0.5");
  EXPECT_EQ(rows[0].values[2], "") << "nothing is known of c";
  EXPECT_EQ(report.runs[0].name, "x");
}

TEST_F(ReportTest, AFolderOfASweep) {
  Write(
      "s", "table.json", R"({"sweep":"k","kv_length":8,"rows":[{"cell":"k=4","kv_bytes_a_token":2,"status":"done"}]})");
  Write("s/k=4", "metrics.jsonl", Rows(2));
  Write("s/notes", "text.txt", "");
  const Report report = ReadReport({(folder_ / "s").string()});
  EXPECT_EQ(report.title, "k");
  ASSERT_EQ(report.runs.size(), 1U);
  EXPECT_EQ(Parsed(report)["sweeps"][0]["rows"][0]["cell"], "k=4");
  const auto files = ReportCsv(report);
  EXPECT_EQ(files.back().second, "sweep,cell,kv_bytes_a_token,status\nk,k=4,2,done\n");
  Write("bad", "table.json", R"({"sweep":1})");
  EXPECT_EQ(CodeOf([&] { static_cast<void>(ReadReport({(folder_ / "bad").string()})); }), "65");
}

TEST_F(ReportTest, WhatIsNoRunIsRefused) {
  fs::create_directories(folder_ / "empty");
  EXPECT_EQ(CodeOf([&] { static_cast<void>(ReadReport({(folder_ / "empty").string()})); }), "66");
  EXPECT_EQ(CodeOf([&] { static_cast<void>(ReadReport({(folder_ / "gone").string()})); }), "66");
  Write("run", "config.yaml", testing::kBase);
  EXPECT_EQ(CodeOf([&] { static_cast<void>(ReadReport({(folder_ / "run/config.yaml").string()})); }), "66");
}

// Texts from outside stay texts: in the title, in the data, and as a broken UTF-8.
TEST_F(ReportTest, HostileTextsStayText) {
  const std::string run = Write("a", "metrics.jsonl", Rows(1));
  Write(
      "a",
      "i.json",
      R"({"layers":[{"layer":0,"head":0,"share":{},"top":[{"chunk":1,"share":1,"text":"<img src=x onerror=alert(1)>"}]}]})");
  Report report = ReadReport({run});
  report.title = kHostile;
  report.runs[0].name = std::string(kHostile) + "\xFF";
  const std::string json = ReportJson(report);
  EXPECT_EQ(json.find_first_of("<>&"), std::string::npos);
  EXPECT_EQ(json.find('\xE2'), std::string::npos) << "line separators of JavaScript";
  EXPECT_EQ(nlohmann::json::parse(json)["title"], kHostile);
  if (ChartLibrary().empty()) {
    GTEST_SKIP() << "built without Chart.js";
  }
  const std::string page = ReportPage(report);
  EXPECT_EQ(page.find("alert(1)</script>"), std::string::npos);
  EXPECT_EQ(page.find("<img src=x"), std::string::npos);
  EXPECT_NE(page.find("<title>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;"),
            std::string::npos);
}

}  // namespace
}  // namespace ksa
