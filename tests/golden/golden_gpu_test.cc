// Every golden file on a GPU.
#include "tests/golden/golden_folder.h"
#include "tests/gpu/support.h"

namespace ksa::testing {
namespace {

using GoldenGpuTest = GpuTest;

TEST_F(GoldenGpuTest, Files) {
  ExpectFilesPass({stream(), &device()});
}

}  // namespace
}  // namespace ksa::testing
