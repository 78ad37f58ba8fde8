// The parts of a report's page that are the same in every report; they lie in the program (page/, and Chart.js).
#pragma once

#include <string>
#include <string_view>

namespace ksa {

[[nodiscard]] std::string_view ChartLibrary();  // JavaScript; empty where the build did not find it
[[nodiscard]] std::string_view PageStyle();     // CSS
[[nodiscard]] std::string_view PageBody();      // HTML
[[nodiscard]] std::string_view PageScript();    // JavaScript

// `text` as text in HTML, also in the value of an attribute.
[[nodiscard]] std::string EscapeHtml(std::string_view text);

// JSON as it may stand in a <script> element: '<', '>' and '&', which occur in its strings alone, as \u escapes.
[[nodiscard]] std::string EscapeJsonForHtml(std::string_view json);

}  // namespace ksa
