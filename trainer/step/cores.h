// How many cores this rank may use.
#pragma once

namespace ksa {

// The cores in this process's affinity mask; where the launcher did not bind ranks to cores of their own, its share of
// them among the `local_size` ranks of this host. At least 1.
[[nodiscard]] int AvailableCores(int local_size);

}  // namespace ksa
