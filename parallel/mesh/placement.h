// How a value is spread over the ranks of each mesh axis.
#pragma once

#include <array>
#include <string>

namespace ksa {

// The axes of the process mesh, outermost first: data, context and tensor parallel.
enum class MeshAxis : int { kData, kContext, kTensor };
inline constexpr int kMeshAxes = 3;

// How a value lies on one axis.
//   Replicated  every rank holds the whole value, and its gradient will arrive whole on every rank
//   Entered     every rank holds the whole value, but each rank's gradient is only a part of the sum
//   Sharded     each rank holds a slice of dimension `dim`
//   Partial     the value is the sum of what the ranks hold
struct Placement {
  enum class Kind : int { kReplicated, kEntered, kSharded, kPartial };

  Kind kind = Kind::kReplicated;
  int dim = 0;

  [[nodiscard]] static constexpr Placement Replicated() { return {}; }

  [[nodiscard]] static constexpr Placement Entered() { return {Kind::kEntered, 0}; }

  [[nodiscard]] static constexpr Placement Sharded(int dim) { return {Kind::kSharded, dim}; }

  [[nodiscard]] static constexpr Placement Partial() { return {Kind::kPartial, 0}; }

  [[nodiscard]] std::string ToString() const;

  friend bool operator==(const Placement&, const Placement&) = default;
};

// One placement an axis.
struct Placements {
  std::array<Placement, kMeshAxes> axes{};

  [[nodiscard]] const Placement& operator[](MeshAxis axis) const { return axes[static_cast<size_t>(axis)]; }

  [[nodiscard]] Placement& operator[](MeshAxis axis) { return axes[static_cast<size_t>(axis)]; }

  [[nodiscard]] std::string ToString() const;  // "data Sharded(0), context Replicated, tensor Partial"

  // Rows spread over data and context ranks: the placement of every activation, up to its tensor axis.
  [[nodiscard]] static Placements Rows(Placement tensor = Placement::Replicated());

  friend bool operator==(const Placements&, const Placements&) = default;
};

[[nodiscard]] const char* NameOf(MeshAxis axis);

}  // namespace ksa
