#include "trainer/commands/color_option.h"

#include <map>
#include <string>

namespace ksa {

void AddColorOption(CLI::App& app, ColorChoice& color) {
  static const std::map<std::string, ColorChoice> kChoices = {
      {"auto", ColorChoice::kAuto}, {"always", ColorChoice::kAlways}, {"never", ColorChoice::kNever}};
  app.add_option_function<std::string>(
         "--color",
         [&color](const std::string& word) {
           color = kChoices.at(word);
           HandColorDown(color);
         },
         "colours: auto (on a terminal, unless NO_COLOR is set), always, never")
      ->type_name("WHEN")
      ->check(CLI::IsMember(kChoices));
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    AddColorOption(*command, color);
  }
}

}  // namespace ksa
