// Messages of an exchange from a rank to itself.
#pragma once

#include <functional>
#include <span>

#include "parallel/comm/communicator.h"

namespace ksa {

// Calls copy(from, to) for each of them. Error(kInternal) when what is sent is not what is received, or when a message
// names a rank that the group of `size` does not have.
void ForOwnMessages(const char* op,
                    int rank,
                    int size,
                    std::span<const Message> sends,
                    std::span<const Message> receives,
                    const std::function<void(const TensorView& from, const TensorView& to)>& copy);

}  // namespace ksa
