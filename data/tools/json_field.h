// One text field of a JSON object.
#pragma once

#include <string>
#include <string_view>

namespace ksa {

// Puts the string under `field` of the object that `json` (valid UTF-8) is into `value`. Returns what is wrong, or
// nothing: not JSON, no object, the field missing, twice, or no string.
//
// Python writes more than JSON: NaN, Infinity and -Infinity as numbers, and "\ud83d", half of a character, in strings.
// Where they don't matter, in other fields, both are taken. Half a character in the wanted text is an error, or becomes
// U+FFFD under `replace_halves`. Memory is that of the value.
[[nodiscard]] std::string FindJsonField(std::string_view json,
                                        const std::string& field,
                                        bool replace_halves,
                                        std::string& value);

}  // namespace ksa
