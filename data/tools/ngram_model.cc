#include "data/tools/ngram_model.h"

namespace ksa {

NgramModel::NgramModel(int64_t vocab_size) : uniform_(1.0 / static_cast<double>(vocab_size)), nodes_(1) {}

void NgramModel::Count(History& history, int32_t token) {
  History next;
  for (size_t length = 0; length < kOrder; ++length) {
    const int32_t parent = history.nodes_[length];
    if (parent == kNone) {
      break;  // the text is that short: a node that was counted has a parent that was
    }
    const auto fresh = static_cast<int64_t>(nodes_.size());
    const int64_t child = children_.GetOrSet(parent, token, fresh);
    if (child == fresh) {
      nodes_.emplace_back();
      ++nodes_[static_cast<size_t>(parent)].types;
    }
    ++nodes_[static_cast<size_t>(parent)].followed;
    ++nodes_[static_cast<size_t>(child)].count;
    if (length + 1 < kOrder) {
      next.nodes_[length + 1] = static_cast<int32_t>(child);
    }
  }
  history = next;
}

double NgramModel::Probability(const History& history, int32_t token) const {
  double probability = uniform_;
  for (const int32_t at : history.nodes_) {
    if (at == kNone || nodes_[static_cast<size_t>(at)].followed == 0) {
      break;  // what was not followed was not with more history either
    }
    const Node& node = nodes_[static_cast<size_t>(at)];
    const int64_t child = children_.Get(at, token);
    const double count = child == 0 ? 0 : nodes_[static_cast<size_t>(child)].count;
    probability = (count + node.types * probability) / (static_cast<double>(node.followed) + node.types);
  }
  return probability;
}

void NgramModel::Advance(History& history, int32_t token) const {
  History next;
  for (size_t length = 0; length + 1 < kOrder && history.nodes_[length] != kNone; ++length) {
    const int64_t child = children_.Get(history.nodes_[length], token);
    if (child == 0) {
      break;
    }
    next.nodes_[length + 1] = static_cast<int32_t>(child);
  }
  history = next;
}

}  // namespace ksa
