// Requests to stop: SIGUSR1, SIGTERM, or a file STOP in the run folder.
#pragma once

#include <memory>
#include <string>

namespace ksa {

// While one exists, SIGUSR1 and SIGTERM set a flag instead of ending the process; the previous handlers come back when
// it is destroyed. One may be made while another exists, and sees what was asked for since the first. Ranks see
// requests at different times: agree (Communicator::Max) before acting on one.
class StopSignal {
 public:
  explicit StopSignal(std::string stop_file = "");
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal();

  // Whether a stop was asked for. Looks for the file each time: once a step is cheap.
  [[nodiscard]] bool Requested() const;
  // "SIGUSR1", "SIGTERM", "the file STOP in <folder>" or empty.
  [[nodiscard]] std::string Reason() const;
  // The request was honoured: removes the file, so that the next start goes on. Rank 0 only.
  void Consume() const;

 private:
  struct Saved;  // previous handlers

  std::string stop_file_;
  std::unique_ptr<Saved> saved_;
};

}  // namespace ksa
