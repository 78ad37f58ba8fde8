#include "parallel/tensor/row_collectives.h"

#include <array>

#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// The text or the summaries: where they begin in the whole matrix and in a rank's part of it.
struct Run {
  int64_t whole = 0;
  int64_t part = 0;
  int64_t count = 0;  // rows of the whole
};

std::array<Run, 2> RunsOf(const RowCounts& rows, const Communicator& group) {
  const int64_t own_text = rows.Part(group.size(), group.rank()).text;
  return {Run{0, 0, rows.text}, Run{rows.text, own_text, rows.summaries}};
}

void CheckShapes(
    const char* op, const TensorView& whole, const TensorView& part, const RowCounts& rows, const Communicator& group) {
  const int64_t own = rows.Part(group.size(), group.rank()).total();
  KSA_CHECK(whole.rows() == rows.total() && part.rows() == own && whole.cols() == part.cols(),
            "{}: {} are no {} rows, or {} no {} of them",
            op,
            whole.shape.ToString(),
            rows.total(),
            part.shape.ToString(),
            own);
}

// Both sides know the size, so nobody waits for what is empty.
void AddMessage(std::vector<Message>& messages, int peer, const TensorView& data) {
  if (data.size() > 0) {
    messages.push_back({peer, data});
  }
}

}  // namespace

void GatherRows(const char* op,
                const TensorView& part,
                const TensorView& whole,
                const RowCounts& rows,
                Communicator& group,
                const Stream& stream,
                Ordering ordering) {
  CheckShapes(op, whole, part, rows, group);
  // One call for text and summaries, which a library makes one kernel of.
  std::vector<Message> sends;
  std::vector<Message> receives;
  for (const Run& run : RunsOf(rows, group)) {
    const EvenPart own(run.count, group.size(), group.rank());
    for (int peer = 0; peer < group.size(); ++peer) {
      if (peer != group.rank()) {
        const EvenPart theirs(run.count, group.size(), peer);
        AddMessage(sends, peer, part.Rows(run.part, own.size()));
        AddMessage(receives, peer, whole.Rows(run.whole + theirs.begin, theirs.size()));
      }
    }
  }
  group.Exchange(op, sends, receives, stream, Ordering::kUntilWait);
  for (const Run& run : RunsOf(rows, group)) {
    const EvenPart own(run.count, group.size(), group.rank());
    Copy(part.Rows(run.part, own.size()), whole.Rows(run.whole + own.begin, own.size()), stream);
  }
  if (ordering == Ordering::kInOrder) {
    group.Wait(stream);
  }
}

RowReduceScatter::RowReduceScatter(const char* op,
                                   const TensorView& whole,
                                   const TensorView& part,
                                   const RowCounts& rows,
                                   Communicator& group,
                                   Allocator& allocator,
                                   const Stream& stream)
    : part_(part), travelling_(group, stream) {
  CheckShapes(op, whole, part, rows, group);
  received_ = Tensor::Empty({(group.size() - 1) * part.rows(), whole.cols()}, whole.dtype, allocator);
  std::vector<Message> sends;
  std::vector<Message> receives;
  int64_t place = 0;  // in received_
  for (const Run& run : RunsOf(rows, group)) {
    const EvenPart own(run.count, group.size(), group.rank());
    for (int peer = 0; peer < group.size(); ++peer) {
      const EvenPart theirs(run.count, group.size(), peer);
      const TensorView for_peer = whole.Rows(run.whole + theirs.begin, theirs.size());
      if (peer == group.rank()) {
        sum_.push_back({for_peer, run.part});
        continue;
      }
      const TensorView from_peer = received_.view().Rows(place, own.size());
      place += own.size();
      AddMessage(sends, peer, for_peer);
      AddMessage(receives, peer, from_peer);
      sum_.push_back({from_peer, run.part});
    }
  }
  group.Exchange(op, sends, receives, stream, Ordering::kUntilWait);
}

void RowReduceScatter::Finish(const Stream& stream) {
  travelling_.Wait();
  SumRowParts(sum_, part_, stream);
  sum_.clear();
  received_ = Tensor();
}

void AllReduceRows(const char* op,
                   const TensorView& x,
                   const TensorView& y,
                   Communicator& group,
                   Allocator& allocator,
                   const Stream& stream) {
  const RowCounts rows = {.text = x.rows()};
  const EvenPart own(rows.text, group.size(), group.rank());
  RowReduceScatter(op, x, y.Rows(own.begin, own.size()), rows, group, allocator, stream).Finish(stream);
  std::vector<int64_t> sizes;
  for (int rank = 0; rank < group.size(); ++rank) {
    sizes.push_back(rows.Part(group.size(), rank).text);
  }
  group.AllGatherV(op, y, sizes, stream);
}

}  // namespace ksa
