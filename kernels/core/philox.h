// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011, from Random123): a pure function of key and
// counter, so that any rank can compute any element alone and nothing has to be stored or replayed.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ksa {

// 128 random bits for (key, counter).
[[nodiscard]] std::array<uint32_t, 4> Philox4x32(uint64_t key, uint64_t counter, uint64_t stream = 0);

// A 64-bit key of a name under a seed: independent streams for different names.
[[nodiscard]] uint64_t NamedKey(uint64_t seed, std::string_view name);

// The standard normal number at `index` of the stream `key`, computed in double (Box-Muller).
[[nodiscard]] double NormalAt(uint64_t key, uint64_t index);

}  // namespace ksa
