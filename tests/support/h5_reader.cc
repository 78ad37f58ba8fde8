#include "tests/support/h5_reader.h"

#include <cmath>

#include "data/files/hdf5_handle.h"

namespace ksa::testing {

struct H5Reader::File {
  explicit File(const std::string& name)
      : path(name), handle(context, H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, "opening") {}

  [[nodiscard]] hid_t id() const { return handle.id(); }

  std::string path;
  // Lives as long as the reader, which one thread uses: it must not keep HDF5 from the others.
  Hdf5Context context = {path, ExitCode::kBadData, {}};
  Hdf5Handle handle;
};

namespace {

Hdf5Handle OpenAttribute(const Hdf5Context& context, hid_t file, const std::string& object, const std::string& name) {
  return {context,
          H5Aopen_by_name(file, object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT),
          H5Aclose,
          ("attribute " + name).c_str()};
}

}  // namespace

H5Reader::H5Reader(const std::string& path) {
  PrepareHdf5();
  file_ = std::make_unique<File>(path);
}

H5Reader::~H5Reader() = default;

bool H5Reader::Has(const std::string& path) const {
  // H5Lexists wants every group on the way to exist.
  for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
    if (H5Lexists(file_->id(), path.substr(0, end).c_str(), H5P_DEFAULT) <= 0) {
      return false;
    }
  }
  return H5Lexists(file_->id(), path.c_str(), H5P_DEFAULT) > 0;
}

std::vector<std::string> H5Reader::Children(const std::string& group) const {
  const Hdf5Context& context = file_->context;
  const Hdf5Handle handle(context, H5Gopen2(file_->id(), group.c_str(), H5P_DEFAULT), H5Gclose, group.c_str());
  H5G_info_t info = {};
  context.Check(H5Gget_info(handle.id(), &info), group.c_str());
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const auto name_of = [&](char* to, size_t size) {
      return context.Check(H5Lget_name_by_idx(handle.id(), ".", H5_INDEX_NAME, H5_ITER_INC, i, to, size, H5P_DEFAULT),
                           group.c_str());
    };
    std::string name(static_cast<size_t>(name_of(nullptr, 0)), '\0');
    name_of(name.data(), name.size() + 1);
    names.push_back(name);
  }
  return names;
}

bool H5Reader::HasAttribute(const std::string& object, const std::string& name) const {
  return H5Aexists_by_name(file_->id(), object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

std::string H5Reader::TextAttribute(const std::string& object, const std::string& name) const {
  const Hdf5Context& context = file_->context;
  const Hdf5Handle attribute = OpenAttribute(context, file_->id(), object, name);
  const Hdf5Handle type(context, H5Aget_type(attribute.id()), H5Tclose, name.c_str());
  if (H5Tget_class(type.id()) != H5T_STRING || H5Tis_variable_str(type.id()) > 0) {
    context.FailWith("attribute " + name + " is no text of fixed length");
  }
  std::string text(H5Tget_size(type.id()), '\0');
  context.Check(H5Aread(attribute.id(), type.id(), text.data()), name.c_str());
  return text.substr(0, text.find('\0'));
}

double H5Reader::NumberAttribute(const std::string& object, const std::string& name) const {
  const Hdf5Context& context = file_->context;
  const Hdf5Handle attribute = OpenAttribute(context, file_->id(), object, name);
  double value = 0.0;
  context.Check(H5Aread(attribute.id(), H5T_NATIVE_DOUBLE, &value), name.c_str());
  return value;
}

int32_t H5Reader::IntegerAttribute(const std::string& object, const std::string& name) const {
  const double value = NumberAttribute(object, name);
  if (value != std::floor(value) || std::abs(value) > INT32_MAX) {
    file_->context.FailWith("attribute " + name + " is no int32");
  }
  return static_cast<int32_t>(value);
}

H5Reader::Dataset H5Reader::Read(const std::string& path) const {
  const Hdf5Context& context = file_->context;
  const Hdf5Handle dataset(context, H5Dopen2(file_->id(), path.c_str(), H5P_DEFAULT), H5Dclose, path.c_str());
  const Hdf5Handle space(context, H5Dget_space(dataset.id()), H5Sclose, path.c_str());
  std::vector<hsize_t> dims(static_cast<size_t>(context.Check(H5Sget_simple_extent_ndims(space.id()), path.c_str())));
  context.Check(H5Sget_simple_extent_dims(space.id(), dims.data(), nullptr), path.c_str());
  Dataset result;
  size_t size = 1;
  for (const hsize_t dim : dims) {
    result.shape.push_back(static_cast<int64_t>(dim));
    size *= static_cast<size_t>(dim);
  }
  result.values.resize(size);
  context.Check(H5Dread(dataset.id(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, result.values.data()),
                path.c_str());
  return result;
}

}  // namespace ksa::testing
