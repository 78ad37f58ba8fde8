// Reads the HDF5 files that tests compare with: attributes, and numeric datasets widened to double.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ksa::testing {

// Paths are absolute inside the file ("/output/loss"); "/" is the root. Errors are kBadData and name file and path.
class H5Reader {
 public:
  explicit H5Reader(const std::string& path);
  H5Reader(const H5Reader&) = delete;
  H5Reader& operator=(const H5Reader&) = delete;
  ~H5Reader();

  [[nodiscard]] bool Has(const std::string& path) const;
  // The names of what a group holds, sorted.
  [[nodiscard]] std::vector<std::string> Children(const std::string& group) const;

  [[nodiscard]] bool HasAttribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] std::string TextAttribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] double NumberAttribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] int32_t IntegerAttribute(const std::string& object, const std::string& name) const;

  struct Dataset {
    std::vector<int64_t> shape;
    std::vector<double> values;
  };

  [[nodiscard]] Dataset Read(const std::string& path) const;

  [[nodiscard]] std::vector<double> Values(const std::string& path) const { return Read(path).values; }

  [[nodiscard]] std::vector<int32_t> Integers(const std::string& path) const {
    const std::vector<double> values = Values(path);
    return {values.begin(), values.end()};
  }

 private:
  struct File;

  std::unique_ptr<File> file_;
};

}  // namespace ksa::testing
