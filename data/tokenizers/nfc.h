// Unicode's normalization form C.
#pragma once

#include <string>
#include <string_view>

namespace ksa {

// The text in form C: `text` itself where it is in that form already, as most is, else a view of `changed`. `text` is
// valid UTF-8.
[[nodiscard]] std::string_view ToNfc(std::string_view text, std::string& changed);

}  // namespace ksa
