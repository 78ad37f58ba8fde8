#include "data/tools/json_field.h"

#include <utility>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace ksa {
namespace {

using Json = nlohmann::json;

// Takes one field out of the events of the parser; nothing else is stored.
class FieldFinder : public nlohmann::json_sax<Json> {
 public:
  explicit FieldFinder(const std::string& field) : field_(field) {}

  bool null() override { return Other(); }

  bool boolean(bool) override { return Other(); }

  bool number_integer(number_integer_t) override { return Other(); }

  bool number_unsigned(number_unsigned_t) override { return Other(); }

  bool number_float(number_float_t, const string_t&) override { return Other(); }

  bool binary(binary_t&) override { return Other(); }

  bool string(string_t& text) override {
    if (depth_ == 0 || !wanted_) {
      return Other();
    }
    wanted_ = false;
    if (found_) {
      return Stop(fmt::format("the field '{}' is there twice", field_));
    }
    found_ = true;
    value_ = std::move(text);
    return true;
  }

  bool key(string_t& name) override {
    wanted_ = depth_ == 1 && name == field_;
    return true;
  }

  bool start_object(std::size_t) override {
    if (depth_ > 0 && !Other()) {
      return false;
    }
    ++depth_;
    return true;
  }

  bool start_array(std::size_t) override {
    if (!Other()) {
      return false;
    }
    ++depth_;
    return true;
  }

  bool end_object() override { return End(); }

  bool end_array() override { return End(); }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Stop(fmt::format("not JSON (at byte {} of the line)", position));
  }

  std::string Result(std::string& value) {
    if (error_.empty() && !found_) {
      error_ = fmt::format("the object has no field '{}'", field_);
    }
    value = std::move(value_);
    return std::move(error_);
  }

 private:
  // Any value but the text that is wanted.
  bool Other() {
    if (depth_ == 0) {
      return Stop("a JSON object was expected on the line");
    }
    return wanted_ ? Stop(fmt::format("the field '{}' is not a string", field_)) : true;
  }

  bool End() {
    --depth_;
    return true;
  }

  bool Stop(std::string error) {
    error_ = std::move(error);
    return false;
  }

  const std::string& field_;
  std::string value_;
  std::string error_;
  int depth_ = 0;
  bool wanted_ = false;  // the next value is the field's
  bool found_ = false;
};

}  // namespace

std::string FindJsonField(std::string_view json, const std::string& field, std::string& value) {
  FieldFinder finder(field);
  static_cast<void>(Json::sax_parse(json, &finder));
  return finder.Result(value);
}

}  // namespace ksa
