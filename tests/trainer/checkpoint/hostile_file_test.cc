// Files of a checkpoint that are sound HDF5 and mean harm.
#include <filesystem>
#include <functional>

#include "data/files/hdf5_handle.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/piece_file.h"

namespace ksa::testing {
namespace {

class HostileFile : public ::testing::Test {
 protected:
  // Writes a file with one dataset `d` of a float and what `add` puts beside it.
  void Make(const std::function<void(const Hdf5Context&, hid_t)>& add) {
    PrepareHdf5();
    const Hdf5Context context{path_, ExitCode::kInternal};
    Hdf5Handle access(context, H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "properties");
    context.Check(H5Pset_libver_bounds(access.id(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST), "version");
    Hdf5Handle file(context, H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()), H5Fclose, "file");
    const hsize_t one = 1;
    Hdf5Handle space(context, H5Screate_simple(1, &one, nullptr), H5Sclose, "space");
    Hdf5Handle dataset(context,
                       H5Dcreate2(file.id(), "d", H5T_IEEE_F32LE, space.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                       H5Dclose,
                       "dataset");
    const float value = 1;
    context.Check(H5Dwrite(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value), "writing");
    dataset.Close();
    add(context, file.id());
    file.Close();
  }

  ScratchFolder scratch_;
  std::string path_ = scratch_ / "f.h5";
};

// HDF5's own walk calls itself once a level and overflows the stack.
TEST_F(HostileFile, GroupsInGroupsWithoutEndAreRefused) {
  Make([](const Hdf5Context& context, hid_t file) {
    hid_t group = H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    for (int i = 0; i < 50000; ++i) {
      const hid_t inner = context.Check(H5Gcreate2(group, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), "a group");
      H5Gclose(group);
      group = inner;
    }
    H5Gclose(group);
  });
  const Error error = ErrorOf([&] { PieceFile file(path_); });
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_NE(std::string(error.what()).find("nested deeper"), std::string::npos) << error.what();
}

TEST_F(HostileFile, AGroupThatHoldsItselfIsWalkedOnce) {
  Make([](const Hdf5Context& context, hid_t file) {
    Hdf5Handle group(context, H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, "a group");
    for (const char* name : {"a", "b", "c"}) {
      context.Check(H5Lcreate_hard(file, "g", group.id(), name, H5P_DEFAULT, H5P_DEFAULT), "a link");
      context.Check(
          H5Lcreate_hard(file, "/", group.id(), fmt::format("root_{}", name).c_str(), H5P_DEFAULT, H5P_DEFAULT),
          "a link");
    }
  });
  PieceFile file(path_);
  float value = 0;
  file.Read(
      "d", DType::kF32, 1, [&](const void* bytes, int64_t, int64_t) { std::memcpy(&value, bytes, sizeof value); });
  EXPECT_EQ(value, 1.0F);
}

TEST_F(HostileFile, LinksAndTypesAreRefused) {
  Make([](const Hdf5Context& context, hid_t file) {
    context.Check(H5Lcreate_soft("/d", file, "soft", H5P_DEFAULT, H5P_DEFAULT), "a link");
  });
  EXPECT_EQ(ErrorOf([&] { PieceFile file(path_); }).code(), ExitCode::kBadData);
  Make([](const Hdf5Context& context, hid_t file) {
    context.Check(H5Lcreate_external("/etc/passwd", "/", file, "outside", H5P_DEFAULT, H5P_DEFAULT), "a link");
  });
  EXPECT_EQ(ErrorOf([&] { PieceFile file(path_); }).code(), ExitCode::kBadData);
  Make([](const Hdf5Context& context, hid_t file) {
    Hdf5Handle type(context, H5Tcopy(H5T_NATIVE_INT), H5Tclose, "a type");
    context.Check(H5Tcommit2(file, "type", type.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), "a type");
  });
  EXPECT_EQ(ErrorOf([&] { PieceFile file(path_); }).code(), ExitCode::kBadData);
}

}  // namespace
}  // namespace ksa::testing
