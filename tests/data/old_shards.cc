#include <hdf5.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "tests/data/support.h"

namespace ksa::testing {

void RemoveLeaves(const std::string& folder) {
  ShardIndex index = ReadShardIndex(folder);
  for (ShardEntry& entry : index.shards) {
    const std::string path = folder + "/" + entry.file;
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    ASSERT_GE(H5Ldelete(file, "leaf_xxh3", H5P_DEFAULT), 0);
    ASSERT_GE(H5Ldelete(file, "frame_xxh3", H5P_DEFAULT), 0);
    ASSERT_GE(H5Adelete(file, "leaf_xxh3_xxh3"), 0);
    ASSERT_GE(H5Fclose(file), 0);
    entry.bytes = FileBytes(path);
  }
  WriteFileAtomically(folder + "/" + kIndexFile, ToJson(index));
}

}  // namespace ksa::testing
