// The Python files of the own layout, as they lie in trainer/interop/python.
#pragma once

#include <string_view>

namespace ksa {

extern const std::string_view kConfigurationKsaPy;
extern const std::string_view kModelingKsaPy;

}  // namespace ksa
