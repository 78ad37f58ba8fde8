#include "trainer/step/control_groups.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace ksa {
namespace {

// "cpu" among "cpu,cpuacct".
bool Lists(const std::string& names, const std::string& name) {
  return ("," + names + ",").find("," + name + ",") != std::string::npos;
}

// Where a hierarchy of control groups is mounted, and which of its groups that place shows.
struct Mount {
  std::string place;
  std::string group;
};

// From mountinfo: "36 35 0:30 GROUP PLACE options ... - TYPE source OPTIONS".
std::optional<Mount> FindMount(const std::string& root, const std::string& controller, bool version2) {
  std::ifstream file(root + "/proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) {
      continue;
    }
    std::istringstream before(line.substr(0, dash));
    std::istringstream after(line.substr(dash + 3));
    std::string skipped;
    std::string type;
    std::string options;
    Mount mount;
    before >> skipped >> skipped >> skipped >> mount.group >> mount.place;
    after >> type >> skipped >> options;
    if (version2 ? type == "cgroup2" : type == "cgroup" && Lists(options, controller)) {
      return mount;
    }
  }
  return std::nullopt;
}

// From /proc/self/cgroup: "0::GROUP" in version 2, "4:cpu,cpuacct:GROUP" in version 1.
std::optional<std::string> FindGroup(const std::string& root, const std::string& controller, bool version2) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (version2 ? controllers.empty() : Lists(controllers, controller)) {
      return line.substr(second + 1);
    }
  }
  return std::nullopt;
}

std::optional<double> Least(const std::optional<double>& a, const std::optional<double>& b) {
  return a.has_value() && b.has_value() ? std::min(*a, *b) : (a.has_value() ? a : b);
}

std::optional<double> LimitOfHierarchy(const std::string& root,
                                       const std::string& controller,
                                       const LimitOfGroup& limit,
                                       bool version2) {
  const std::optional<Mount> mount = FindMount(root, controller, version2);
  const std::optional<std::string> group = FindGroup(root, controller, version2);
  if (!mount.has_value() || !group.has_value()) {
    return std::nullopt;
  }
  // In a container the place often shows the process's own group, or one whose name is not to be seen from here.
  std::filesystem::path below = std::filesystem::path(*group).lexically_relative(mount->group).lexically_normal();
  if (below.empty() || *below.begin() == "..") {
    below = ".";
  }
  const std::string place = root + mount->place;
  std::optional<double> least = limit(place, version2);
  std::string folder = place;
  for (const std::filesystem::path& name : below) {
    folder += "/" + name.string();
    least = Least(least, limit(folder, version2));
  }
  return least;
}

}  // namespace

std::optional<double> LeastLimit(const std::string& root, const std::string& controller, const LimitOfGroup& limit) {
  return Least(LimitOfHierarchy(root, controller, limit, true), LimitOfHierarchy(root, controller, limit, false));
}

}  // namespace ksa
