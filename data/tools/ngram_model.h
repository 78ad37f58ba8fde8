// A language model that counts: n-grams with interpolated Witten-Bell smoothing.
//
//   p(w|h) = (c(hw) + t(h)·p(w|h')) / (c(h) + t(h))
//
// h' is h without its oldest token, c(h) how many tokens followed h, t(h) how many different ones; a history that
// nothing followed leaves p(w|h') as it is. Below the empty history lies the uniform distribution 1/V.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "data/tools/pair_table.h"

namespace ksa {

class NgramModel {
 public:
  static constexpr int kOrder = 4;  // tokens of an n-gram: up to 3 of history and the one that follows

  // Where in a text one stands: the nodes of its last 0, 1, ..., kOrder-1 tokens. kNone: never counted, or the text is
  // shorter than that.
  class History {
   public:
    History() { nodes_.fill(kNone), nodes_[0] = kRoot; }

   private:
    friend class NgramModel;
    std::array<int32_t, kOrder> nodes_;
  };

  explicit NgramModel(int64_t vocab_size);

  // Counts `token` behind the history, which then ends with it. Tokens lie in [0, vocab_size). At most 2^31 / kOrder of
  // them may be counted.
  void Count(History& history, int32_t token);

  // p(token | history) in (0, 1].
  [[nodiscard]] double Probability(const History& history, int32_t token) const;

  // The history ends with `token` then; nothing is counted.
  void Advance(History& history, int32_t token) const;

 private:
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kRoot = 0;

  // A sequence of 0..kOrder tokens that was seen.
  struct Node {
    uint32_t count = 0;     // how often
    uint32_t followed = 0;  // how often with a token behind it
    uint32_t types = 0;     // how many different ones
  };

  double uniform_;
  std::vector<Node> nodes_;
  PairTable children_;  // (node, token) to the node of the sequence that is longer by the token
};

}  // namespace ksa
