#include "trainer/checkpoint/agree.h"

#include <cstddef>
#include <exception>
#include <new>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// A result or an error as bytes: the exit code (0: a result), a newline, the result or the message.
std::string Outcome(const std::function<std::string()>& work) {
  try {
    return "0\n" + work();
  } catch (const Error& error) {
    return fmt::format("{}\n{}", static_cast<int>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return fmt::format("{}\nout of memory", static_cast<int>(ExitCode::kOutOfMemory));
  } catch (const std::exception& error) {
    return fmt::format("{}\n{}", static_cast<int>(ExitCode::kInternal), error.what());
  }
}

std::string ResultOf(const std::string& outcome, const std::string& who) {
  const size_t newline = outcome.find('\n');
  KSA_CHECK(newline != std::string::npos, "a rank sent {} bytes that are no outcome", outcome.size());
  const int code = std::stoi(outcome.substr(0, newline));
  std::string text = outcome.substr(newline + 1);
  if (code != 0) {
    throw Error(static_cast<ExitCode>(code), who + text);
  }
  return text;
}

}  // namespace

std::vector<std::string> OnAllRanks(Communicator& world, const std::function<std::string()>& work) {
  std::vector<std::string> results = world.Gather(Outcome(work));
  for (size_t rank = 0; rank < results.size(); ++rank) {
    results[rank] = ResultOf(results[rank], rank == 0 ? "" : fmt::format("rank {}: ", rank));
  }
  return results;
}

std::string OnRankZero(Communicator& world, const std::function<std::string()>& work) {
  std::string outcome = world.rank() == 0 ? Outcome(work) : "";
  world.Broadcast(outcome, 0);
  return ResultOf(outcome, "");
}

}  // namespace ksa
