// safetensors: what another program wrote is read, what we write is canonical, and nothing hostile passes.
#include "trainer/interop/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "kernels/core/host_allocator.h"
#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

std::vector<double> ReadAll(TensorSource& source, const std::string& name) {
  const TensorInfo* tensor = source.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  HostAllocator allocator;
  const Tensor out = Tensor::Empty({tensor->size()}, DType::kF64, allocator);
  ReadAs(source, *tensor, WholeOf(*tensor), out);
  return {out.As<double>(), out.As<double>() + out.size()};
}

// A source in memory: element e of tensor t is a number that no other element has.
class Numbers final : public TensorSource {
 public:
  explicit Numbers(std::vector<TensorInfo> tensors) : tensors_(std::move(tensors)) {}

  [[nodiscard]] const std::string& where() const override { return where_; }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  static float At(const TensorInfo& tensor, int64_t element) {
    return static_cast<float>(tensor.name.size() * 1000 + static_cast<size_t>(element)) / 7.0F;
  }

  void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) override {
    const HeldRuns held = RunsOfBox(tensor.shape, part.box);
    for (int64_t i = 0; i < out.size(); ++i) {
      out.As<float>()[i] = At(tensor, held.InWhole(part.range.begin + i));
    }
  }

 private:
  std::string where_ = "memory";
  std::vector<TensorInfo> tensors_;
};

std::vector<TensorInfo> SomeTensors() {
  return {{"b.weight", DType::kF32, {5, 7}},
          {"a", DType::kF32, {3}},
          {"model.layers.10.w", DType::kF32, {1, 1}},
          {"model.layers.2.w", DType::kF32, {113, 3}}};
}

void WriteInto(const std::string& folder, const SafetensorsOptions& options) {
  std::filesystem::create_directory(folder);
  Numbers source(SomeTensors());
  SafetensorsSink sink(folder, SomeTensors(), options);
  CopyTensors(source, sink);
}

std::string HeaderOf(const std::string& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  return file.substr(sizeof length, length);
}

std::string FileOf(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + data;
}

TEST(Safetensors, OfThePythonPackageAreRead) {
  const ScratchFolder scratch;
  std::filesystem::copy("tests/trainer/interop/files/reference.safetensors", scratch / "model.safetensors");
  SafetensorsSource source(scratch.path());
  ASSERT_EQ(source.tensors().size(), 5U);
  EXPECT_EQ(source.TypeOf("half"), StoredType::kF16);
  EXPECT_EQ(source.TypeOf("brain"), StoredType::kBF16);
  const std::vector<double> half = ReadAll(source, "half");
  EXPECT_EQ(half, (std::vector<double>{0.5, -0.0, 65504, 0x1p-24, -0x1p-14, 1.0009765625}));
  EXPECT_TRUE(std::signbit(half[1]));
  const std::vector<double> brain = ReadAll(source, "brain");
  EXPECT_EQ(brain[0], 1.0);
  EXPECT_EQ(brain[1], -2.5);
  EXPECT_EQ(brain[2], 0x1.fep127);  // the largest
  EXPECT_EQ(brain[3], 0x1p-133);    // the smallest
  const std::vector<double> single = ReadAll(source, "single");
  for (int i = 0; i < 24; ++i) {
    EXPECT_EQ(single[static_cast<size_t>(i)], static_cast<double>(static_cast<float>(i) / 7.0F));
  }
  EXPECT_EQ(source.Find("double")->dtype, DType::kF64);
  EXPECT_EQ(ReadAll(source, "double")[4], 4.0 / 3.0);
  EXPECT_TRUE(source.Find("scalar")->shape.empty());
  EXPECT_EQ(ReadAll(source, "scalar"), std::vector<double>{7.25});
}

TEST(Safetensors, AreWrittenCanonically) {
  const ScratchFolder scratch;
  WriteInto(scratch / "a", {.type = StoredType::kF32});
  WriteInto(scratch / "b", {.type = StoredType::kF32});
  const std::string file = Slurp(scratch / "a/model.safetensors");
  EXPECT_EQ(file, Slurp(scratch / "b/model.safetensors"));
  const std::string header = HeaderOf(file);
  EXPECT_EQ(header.size() % 8, 0U);
  EXPECT_TRUE(
      header.starts_with(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                         R"("b.weight":{"dtype":"F32","shape":[5,7],"data_offsets":[12,152]},"model.layers.10.w":)"))
      << header;
  std::vector<StoredTensor> mixed = {{.name = "z", .type = StoredType::kF32, .shape = {1}},
                                     {.name = "a", .type = StoredType::kBF16, .shape = {1}},
                                     {.name = "b", .type = StoredType::kF32, .shape = {1}}};
  static_cast<void>(RenderSafetensorsHeader(mixed));
  EXPECT_EQ(mixed[0].name + mixed[1].name + mixed[2].name, "bza");
}

TEST(Safetensors, AreDividedIntoShards) {
  const ScratchFolder scratch;
  WriteInto(scratch / "m", {.type = StoredType::kF32, .shard_bytes = 152});  // a and b.weight fill one to the byte
  const std::string folder = scratch / "m/";
  EXPECT_FALSE(std::filesystem::exists(folder + "model.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder + "model-00001-of-00003.safetensors"));
  EXPECT_TRUE(std::filesystem::exists(folder + "model-00003-of-00003.safetensors"));  // larger than the limit
  const std::string index = Slurp(folder + "model.safetensors.index.json");
  EXPECT_NE(index.find(R"("total_size": 1512)"), std::string::npos) << index;
  EXPECT_NE(index.find(R"("b.weight": "model-00001-of-00003.safetensors")"), std::string::npos) << index;
  SafetensorsSource source(scratch / "m");
  ASSERT_EQ(source.tensors().size(), 4U);
  for (const TensorInfo& tensor : source.tensors()) {
    const std::vector<double> values = ReadAll(source, tensor.name);
    for (size_t e = 0; e < values.size(); ++e) {
      ASSERT_EQ(values[e], static_cast<double>(Numbers::At(tensor, static_cast<int64_t>(e)))) << tensor.name;
    }
  }
}

TEST(Safetensors, PartsAreReadAsBoxesSay) {
  const ScratchFolder scratch;
  const std::vector<TensorInfo> tensors = {{"w", DType::kF32, {6, 3000}}};  // runs of columns: long and short ones
  std::filesystem::create_directory(scratch / "m");
  Numbers numbers(tensors);
  SafetensorsSink sink(scratch / "m", tensors, {.type = StoredType::kF32});
  CopyTensors(numbers, sink);
  SafetensorsSource source(scratch / "m");
  HostAllocator allocator;
  const Block boxes[] = {{{0, 6}, {0, 3000}}, {{2, 5}, {0, 3000}}, {{0, 6}, {17, 19}}, {{0, 6}, {1000, 2500}}};
  for (const Block& box : boxes) {
    const int64_t size = box[0].size() * box[1].size();
    for (const FlatRange& range : {FlatRange{0, size}, FlatRange{1, size - 1}, FlatRange{size / 3, size / 2}}) {
      const Tensor expected = Tensor::Empty({range.size()}, DType::kF32, allocator);
      const Tensor out = Tensor::Empty({range.size()}, DType::kF32, allocator);
      numbers.Read(tensors[0], {box, range}, expected);
      source.Read(tensors[0], {box, range}, out);
      EXPECT_EQ(std::memcmp(out.view().data, expected.view().data, static_cast<size_t>(out.view().bytes())), 0);
    }
  }
}

TEST(Safetensors, RoundToNearestEven) {
  const ScratchFolder scratch;
  const std::vector<TensorInfo> tensors = {{"w", DType::kF32, {5}}};
  SafetensorsSink sink(scratch.path(), tensors, {.type = StoredType::kBF16});
  std::vector<float> values = {1 + 0x1p-8F, 1 + 3 * 0x1p-8F, 1 + 0x1.02p-8F, -(1 + 0x1p-8F), 3};
  sink.Write(tensors[0], 0, {values.data(), DType::kF32, {}, {5}});
  sink.Finish();
  SafetensorsSource source(scratch.path());
  EXPECT_EQ(ReadAll(source, "w"), (std::vector<double>{1, 1 + 0x1p-6, 1 + 0x1p-7, -1, 3}));
}

struct Hostile {
  const char* name;
  std::string header;
  std::string data;
  const char* says;
};

class HostileHeader : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileHeader, IsRefused) {
  const ScratchFolder scratch;
  Spill(scratch / "model.safetensors", FileOf(GetParam().header, GetParam().data));
  const Error error = ErrorOf([&] { const SafetensorsSource source(scratch.path()); });
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_NE(std::string(error.what()).find(GetParam().says), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find("model.safetensors"), std::string::npos) << error.what();
}

std::string Entry(const std::string& name, const std::string& rest) {
  return "\"" + name + "\":{" + rest + "}";
}

const std::string kGood = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
const std::string kEight(8, '\0');

INSTANTIATE_TEST_SUITE_P(
    Table,
    HostileHeader,
    ::testing::Values(
        Hostile{"NotAnObject", "[]", "", "must begin with"},
        Hostile{"Empty", "", "", "must begin with"},
        Hostile{"NotJson", "{\"a\":", "", "not JSON"},
        Hostile{"JunkBehind", "{" + Entry("a", kGood) + "}x", kEight, "not JSON"},
        Hostile{"Twice", "{" + Entry("a", kGood) + "," + Entry("a", kGood) + "}", kEight, "comes twice"},
        Hostile{"FieldTwice", "{" + Entry("a", kGood + R"(,"dtype":"F32")") + "}", kEight, "comes twice"},
        Hostile{"Overlap",
                "{" + Entry("a", kGood) + "," + Entry("b", R"("dtype":"F32","shape":[1],"data_offsets":[4,8])") + "}",
                kEight,
                "two tensors"},
        Hostile{
            "Hole", "{" + Entry("a", R"("dtype":"F32","shape":[1],"data_offsets":[4,8])") + "}", kEight, "no tensor"},
        Hostile{"Behind", "{" + Entry("a", kGood) + "}", kEight + "x", "the file has 9"},
        Hostile{"Truncated", "{" + Entry("a", kGood) + "}", "1234567", "the file has 7"},
        Hostile{"WrongSize",
                "{" + Entry("a", R"("dtype":"F32","shape":[3],"data_offsets":[0,8])") + "}",
                kEight,
                "3 elements"},
        Hostile{"Overflow",
                "{" + Entry("a", R"("dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8])") + "}",
                kEight,
                "impossible shape"},
        Hostile{"NoElements",
                "{" + Entry("a", R"("dtype":"F32","shape":[0],"data_offsets":[0,0])") + "}",
                "",
                "no elements"},
        Hostile{
            "Backwards", "{" + Entry("a", R"("dtype":"F32","shape":[2],"data_offsets":[8,0])") + "}", kEight, "[8, 0)"},
        Hostile{
            "UnknownType", "{" + Entry("a", R"("dtype":"I64","shape":[1],"data_offsets":[0,8])") + "}", kEight, "I64"},
        Hostile{"UnknownKey", "{" + Entry("a", kGood + R"(,"more":"x")") + "}", kEight, "unknown key"},
        Hostile{"Missing", "{" + Entry("a", R"("dtype":"F32","shape":[2])") + "}", kEight, "needs dtype"},
        Hostile{"ThreeOffsets",
                "{" + Entry("a", R"("dtype":"F32","shape":[2],"data_offsets":[0,4,8])") + "}",
                kEight,
                "too many"},
        Hostile{"Negative",
                "{" + Entry("a", R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])") + "}",
                kEight,
                "negative"},
        Hostile{"Fraction",
                "{" + Entry("a", R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])") + "}",
                kEight,
                "fraction"},
        Hostile{"Metadata", R"({"__metadata__":{"a":1}})", "", "where none belongs"},
        Hostile{"Deep", R"({"a":{"shape":[[[[2]]]]}})", "", "where none belongs"},
        Hostile{"DeepObject", R"({"a":{"dtype":{"b":{}}}})", "", "nested deeper"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(Safetensors, LengthsAreLookedAtBeforeMemoryIsTaken) {
  const ScratchFolder scratch;
  const std::string path = scratch / "model.safetensors";
  for (const uint64_t length : {uint64_t{1} << 31U, uint64_t{0} - 1, uint64_t{100'000'001}, uint64_t{9}}) {
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, sizeof length);
    Spill(path, file + "{}");
    if (length == 100'000'001) {
      std::filesystem::resize_file(path, 200'000'000);  // sparse: only the limit refuses it
    }
    const Error error = ErrorOf([&] { const SafetensorsSource source(scratch.path()); });
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_NE(std::string(error.what()).find("header of " + std::to_string(length)), std::string::npos) << error.what();
  }
  Spill(path, "1234");
  EXPECT_EQ(ErrorOf([&] { const SafetensorsSource source(scratch.path()); }).code(), ExitCode::kBadData);
}

TEST(Safetensors, ValuesThatAreNotFiniteAreNamed) {
  const ScratchFolder scratch;
  std::string data = kEight;
  const uint32_t nan = 0x7fc00000;
  std::memcpy(data.data() + 4, &nan, sizeof nan);
  Spill(scratch / "model.safetensors", FileOf("{" + Entry("a.weight", kGood) + "}", data));
  SafetensorsSource source(scratch.path());
  const Error error = ErrorOf([&] { static_cast<void>(ReadAll(source, "a.weight")); });
  EXPECT_EQ(error.code(), ExitCode::kBadData);
  EXPECT_NE(std::string(error.what()).find("a.weight"), std::string::npos);
  EXPECT_NE(std::string(error.what()).find("element 1"), std::string::npos);
}

TEST(Safetensors, AnIndexIsHeldToItsWord) {
  const ScratchFolder scratch;
  const std::string index = scratch / "model.safetensors.index.json";
  Spill(scratch / "x.safetensors", FileOf("{" + Entry("a", kGood) + "}", kEight));
  const std::pair<const char*, const char*> cases[] = {
      {R"({"weight_map":{"a":"y.safetensors"}})", "missing"},
      {R"({"weight_map":{"a":"../x.safetensors"}})", "of this folder"},
      {R"({"weight_map":{"a":"/etc/x.safetensors"}})", "of this folder"},
      {R"({"weight_map":{"a":"x.bin"}})", "of this folder"},
      {R"({"weight_map":{"a":7}})", "of this folder"},
      {R"({"weight_map":{"b":"x.safetensors"}})", "where the index says"},
      {R"({"weight_map":{}})", "weight_map"},
      {R"([])", "weight_map"},
      {R"({"weight_map":)", "not JSON"}};
  for (const auto& [text, says] : cases) {
    Spill(index, text);
    const Error error = ErrorOf([&] { const SafetensorsSource source(scratch.path()); });
    EXPECT_EQ(error.code(), ExitCode::kBadData) << text;
    EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
  }
  Spill(scratch / "x.safetensors",
        FileOf("{" + Entry("a", kGood) + "," + Entry("b", R"("dtype":"F32","shape":[2],"data_offsets":[8,16])") + "}",
               kEight + kEight));
  Spill(index, R"({"weight_map":{"a":"x.safetensors"}})");
  EXPECT_NE(std::string(ErrorOf([&] { const SafetensorsSource source(scratch.path()); }).what()).find("hold b"),
            std::string::npos);
  Spill(index, R"({"weight_map":{"a":"x.safetensors","b":"x.safetensors"}})");
  EXPECT_EQ(SafetensorsSource(scratch.path()).tensors().size(), 2U);
  Spill(scratch / "model.safetensors", FileOf("{" + Entry("a", kGood) + "}", kEight));
  EXPECT_NE(std::string(ErrorOf([&] { const SafetensorsSource source(scratch.path()); }).what()).find("side by side"),
            std::string::npos);
  std::filesystem::remove(scratch / "model.safetensors");
  std::filesystem::remove(index);
  EXPECT_EQ(ErrorOf([&] { const SafetensorsSource source(scratch.path()); }).code(), ExitCode::kMissingInput);
}

// Whatever is changed, cut or repeated: the file is read, or refused with an error of ours.
TEST(Safetensors, MutationsNeverDoHarm) {
  const ScratchFolder scratch;
  const std::string good = Slurp("tests/trainer/interop/files/reference.safetensors");
  const std::string path = scratch / "model.safetensors";
  std::mt19937 random(7);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  int read = 0;
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    for (size_t changes = 1 + below(4); changes > 0 && !bytes.empty(); --changes) {
      const size_t at = below(bytes.size());
      switch (below(5)) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + below(16));
          break;
        case 2:
          bytes.insert(at, bytes.substr(below(bytes.size()), below(64)));
          break;
        case 3:
          bytes[at] = "{}[],:\"0-9e"[below(11)];
          break;
        default:
          bytes.resize(std::max<size_t>(1, at));
          break;
      }
    }
    Spill(path, bytes);
    try {
      SafetensorsSource source(scratch.path());
      for (const TensorInfo& tensor : source.tensors()) {
        static_cast<void>(ReadAll(source, tensor.name));
      }
      ++read;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(read, 0);  // a number that is another number
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace ksa::testing
