#include "parallel/comm/own_messages.h"

#include <vector>

#include "kernels/core/error.h"

namespace ksa {
namespace {

std::vector<TensorView> Own(const char* op, int rank, int size, std::span<const Message> messages) {
  std::vector<TensorView> own;
  for (const Message& message : messages) {
    KSA_CHECK(0 <= message.peer && message.peer < size, "{}: a message with rank {} of {}", op, message.peer, size);
    if (message.peer == rank) {
      own.push_back(message.data);
    }
  }
  return own;
}

}  // namespace

void ForOwnMessages(const char* op,
                    int rank,
                    int size,
                    std::span<const Message> sends,
                    std::span<const Message> receives,
                    const std::function<void(const TensorView& from, const TensorView& to)>& copy) {
  const std::vector<TensorView> from = Own(op, rank, size, sends);
  const std::vector<TensorView> to = Own(op, rank, size, receives);
  KSA_CHECK(from.size() == to.size(), "{}: {} messages to oneself, {} from oneself", op, from.size(), to.size());
  for (size_t i = 0; i < from.size(); ++i) {
    KSA_CHECK(from[i].dtype == to[i].dtype && from[i].size() == to[i].size(),
              "{}: a message of {} {} to oneself is received as {} {}",
              op,
              from[i].size(),
              NameOf(from[i].dtype),
              to[i].size(),
              NameOf(to[i].dtype));
    copy(from[i], to[i]);
  }
}

}  // namespace ksa
