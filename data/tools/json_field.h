// One text field of a JSON object.
#pragma once

#include <string>
#include <string_view>

namespace ksa {

// Puts the string under `field` of the object that `json` is into `value`. Returns what is wrong, or nothing: not JSON,
// no object, the field missing, twice, or no string.
[[nodiscard]] std::string FindJsonField(std::string_view json, const std::string& field, std::string& value);

}  // namespace ksa
