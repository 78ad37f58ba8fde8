#include "trainer/commands/doctor.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "data/files/result_file.h"
#include "kernels/core/gpu.h"
#include "kernels/core/threads.h"
#include "parallel/comm/launcher.h"
#include "parallel/comm/libraries.h"
#include "parallel/comm/mpi.h"
#include "trainer/commands/ranks_of_command.h"
#include "trainer/doctor/health_check.h"
#include "trainer/observe/color.h"
#include "trainer/step/cores.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa doctor
  ksa doctor --folder runs --folder shards --json health.json
  mpirun -np 2 ksa doctor

Exit code 0, or 69 where something stops a run. A warning stops none. Under mpirun every rank looks at its own host and limits,
and what only some of them find is named with them. In each folder a few files are made and removed again.)";

struct DoctorOptions {
  std::vector<std::string> folders = {"."};
  std::optional<std::string> json;
};

using Checks = std::vector<HealthCheck>;

// Of this process and its host; `mpi` is asked for by itself where no launcher has.
Checks ChecksOfHost(const DoctorOptions& options, int local_ranks, bool by_mpirun) {
  const int gpus = GpuCount();
  Checks checks = {CheckGpus(),
                   CheckNccl(gpus),
                   CheckRankMemory(),
                   JudgeLimits(LimitsHere()),
                   JudgeCores(CoresHere(local_ranks, by_mpirun)),
                   CheckThreads(AvailableCores(local_ranks)),
                   CheckMemory(),
                   JudgeSharedMemory(SharedMemoryAt("/dev/shm", gpus))};
  for (const std::string& folder : options.folders) {
    checks.push_back(CheckDisk(folder));
    checks.push_back(CheckFileSystem(folder));
    checks.push_back(CheckFlock(folder));
    checks.push_back(CheckHdf5(folder));
  }
  return checks;
}

nlohmann::json JsonOf(const Checks& checks) {
  nlohmann::json list = nlohmann::json::array();
  for (const HealthCheck& check : checks) {
    list.push_back(
        {{"name", check.name}, {"status", NameOf(check.health)}, {"detail", check.detail}, {"cure", check.cure}});
  }
  return list;
}

// What the ranks found, question by question: rank 0's answer where all is good, else those that are not.
Checks Merge(const std::vector<std::string>& ranks, const std::vector<std::string>& hosts) {
  std::vector<nlohmann::json> answers;
  for (const std::string& text : ranks) {
    answers.push_back(ParseJson(text, "a rank's answers"));
  }
  Checks merged;
  for (size_t i = 0; i < answers.front().size(); ++i) {
    const size_t before = merged.size();
    for (size_t rank = 0; rank < answers.size(); ++rank) {
      const nlohmann::json& answer = answers[rank].at(i);
      const std::string status = answer.at("status");
      if (status != NameOf(Health::kGood)) {
        merged.push_back(
            {.name = answer.at("name"),
             .health = status == NameOf(Health::kFault) ? Health::kFault : Health::kWarning,
             .detail = fmt::format("rank {} on {}: {}", rank, hosts[rank], std::string(answer.at("detail"))),
             .cure = answer.at("cure")});
      }
    }
    if (merged.size() == before) {
      const nlohmann::json& answer = answers.front().at(i);
      merged.push_back({.name = answer.at("name"), .health = Health::kGood, .detail = answer.at("detail"), .cure = ""});
    }
  }
  return merged;
}

std::string OwnPath() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<size_t>(length)) : "ksa";
}

// Of a job that a launcher started; empty on all ranks but the first.
Checks ChecksOfJob(const DoctorOptions& options) {
  Checks merged;
  try {
    RunOnRanks([&](const RankOfCommand& rank) {
      Checks checks = ChecksOfHost(options, rank.mpi.local_size(), StartedByMpirun());
      checks.insert(
          checks.begin(),
          {.name = "MPI",
           .health = Health::kGood,
           .detail = fmt::format(
               "{}; {} ranks, {} of them on this host", MpiLibrary(), rank.world.size(), rank.mpi.local_size()),
           .cure = ""});
      const std::vector<std::string> answers = rank.world.Gather(JsonOf(checks).dump());
      const std::vector<std::string> hosts = rank.world.Gather(MpiSession::HostName());
      merged = Merge(answers, hosts);
      if (rank.world.rank() > 0) {
        const auto worst = std::max_element(
            merged.begin(), merged.end(), [](const auto& a, const auto& b) { return a.health < b.health; });
        merged = {HealthCheck{.name = "", .health = worst->health, .detail = "", .cure = ""}};
      }
    });
  } catch (const Error& error) {  // a launcher that MPI knows nothing of, an MPI that allows no thread
    merged = ChecksOfHost(options, 1, false);
    merged.insert(merged.begin(),
                  {.name = "MPI",
                   .health = Health::kFault,
                   .detail = error.what(),
                   .cure = "start ranks with launch/mpirun.sh, and an MPI that was built with threads"});
  }
  return merged;
}

void Print(const Checks& checks) {
  const bool color = UsesColor(ColorChoice::kAuto, STDOUT_FILENO);
  size_t width = 0;
  for (const HealthCheck& check : checks) {
    width = std::max(width, check.name.size());
  }
  int faults = 0;
  int warnings = 0;
  for (const HealthCheck& check : checks) {
    const Style style = check.health == Health::kGood      ? Style::kGood
                        : check.health == Health::kWarning ? Style::kWarning
                                                           : Style::kError;
    fmt::print("{}  {:<{}}  {}\n",
               Paint(style, fmt::format("{:<7}", NameOf(check.health)), color),
               check.name,
               width,
               check.detail);
    if (!check.cure.empty()) {
      fmt::print("{:<9}{:<{}}  {} {}\n", "", "", width, Paint(Style::kAccent, "mend:", color), check.cure);
    }
    faults += check.health == Health::kFault ? 1 : 0;
    warnings += check.health == Health::kWarning ? 1 : 0;
  }
  fmt::print("{} fault{}, {} warning{}\n", faults, faults == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
}

ExitCode Examine(const DoctorOptions& options) {
  Checks checks;
  if (StartedByMpirun() || TasksOfLauncher().has_value()) {
    checks = ChecksOfJob(options);
  } else {
    checks = ChecksOfHost(options, 1, false);
    checks.insert(checks.begin(), CheckMpi(OwnPath()));
  }
  const bool speaks = !checks.front().name.empty();
  if (speaks) {
    Print(checks);
    if (options.json) {
      WriteResult(*options.json, nlohmann::json{{"checks", JsonOf(checks)}}.dump(2) + "\n");
    }
  }
  const bool faulty = std::any_of(
      checks.begin(), checks.end(), [](const HealthCheck& check) { return check.health == Health::kFault; });
  return faulty ? ExitCode::kUnavailable : ExitCode::kDone;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, CommandResult& result) {
  const auto options = std::make_shared<DoctorOptions>();
  CLI::App* command = app.add_subcommand("doctor", "What this machine has for runs, what is wrong, how to mend it");
  command->add_option("--folder", options->folders, "folders that runs or shards lie in")
      ->type_name("DIR")
      ->default_str("the working directory");
  command->add_option("--json", options->json, "write the answers to FILE as well")->type_name("FILE");
  command->footer(kExamples);
  command->callback([options, &result] { result.code = Examine(*options); });
}

}  // namespace ksa
