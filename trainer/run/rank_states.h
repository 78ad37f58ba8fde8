// Where ranks say that they stand still, so that others can name the one that they wait for: a file a rank in the run
// folder. Nothing is written while a run goes on.
#pragma once

#include <string>
#include <vector>

namespace ksa {

class RankStates {
 public:
  // `folder` is made when it is first needed. `hosts`: of every rank.
  RankStates(std::string folder, int rank, std::vector<std::string> hosts);
  RankStates(const RankStates&) = delete;
  RankStates& operator=(const RankStates&) = delete;
  ~RankStates();  // withdraws

  void Tell(const std::string& state);  // this rank's, in one line; what fails here is not reported
  void Withdraw();

  // Of the other ranks: who waits at the same place as `own`, who stands elsewhere, and who says nothing.
  [[nodiscard]] std::string Others(const std::string& own) const;

 private:
  [[nodiscard]] std::string PathOf(int rank) const;

  std::string folder_;
  int rank_;
  std::vector<std::string> hosts_;
};

}  // namespace ksa
