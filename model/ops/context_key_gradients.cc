#include "model/ops/context_key_gradients.h"

#include <utility>

namespace ksa {
namespace {

// Where an own range of chunks starts among the rank's text or summary rows of its sequence.
int64_t FirstText(const KeyRows& rows, const Range& chunks) {
  return int64_t{1} * PlaceOf(rows.spec().local, chunks.begin) * rows.spec().local.chunk_size;
}

int64_t FirstSummary(const KeyRows& rows, const Range& chunks) {
  return int64_t{1} * PlaceOf(rows.spec().local, chunks.begin) * rows.spec().local.summary_tokens;
}

}  // namespace

// What the rank's calls left for the text of `chunks`; rows are numbered from the first of them.
std::vector<RowPart> KeyGradients::TextParts(int32_t sequence, const Range& chunks, Which which) const {
  std::vector<RowPart> parts;
  for (size_t i = 0; i < calls_.size(); ++i) {
    const KeysCall& call = rows_.calls()[i];
    const Range common = Common(call.keys, chunks);
    if (call.sequence == sequence && common.size() > 0) {
      const int32_t first = rows_.Tokens({call.keys.begin, common.begin});
      parts.push_back(
          {(calls_[i].*which).Rows(first, rows_.Tokens(common)), rows_.Tokens({chunks.begin, common.begin})});
    }
  }
  return parts;
}

// The same for all summaries of a sequence.
std::vector<RowPart> KeyGradients::SummaryParts(int32_t sequence, Which which) const {
  std::vector<RowPart> parts;
  for (size_t i = 0; i < calls_.size(); ++i) {
    const KeysCall& call = rows_.calls()[i];
    if (call.sequence == sequence) {
      parts.push_back({(calls_[i].*which).Rows(rows_.Tokens(call.keys), rows_.SeenSummaries()), 0});
    }
  }
  return parts;
}

// One part that covers all rows is the sum.
TensorView KeyGradients::SumOf(const ExecContext& cx, const std::vector<RowPart>& parts, int64_t rows) {
  const TensorView& first = parts.front().rows;
  if (parts.size() == 1 && first.rows() == rows) {
    return first;
  }
  held_.push_back(cx.Empty({rows, first.cols()}, first.dtype));
  SumRowParts(parts, held_.back(), cx.stream);
  return held_.back();
}

void KeyGradients::SumSummaries(const ExecContext& cx) {
  for (int32_t q = 0; rows_.SeenSummaries() > 0 && q < rows_.sequences(); ++q) {
    summaries_k_.push_back(SumOf(cx, SummaryParts(q, &KeyPair::k), rows_.SeenSummaries()));
    summaries_v_.push_back(SumOf(cx, SummaryParts(q, &KeyPair::v), rows_.SeenSummaries()));
  }
}

// What was received forward goes back the same way.
void KeyGradients::AppendSends(const ExecContext& cx, std::vector<Message>& messages) {
  for (int32_t q = 0; q < rows_.sequences(); ++q) {
    for (const auto& [peer, chunks] : rows_.plan().text_receives) {
      for (const Which which : {&KeyPair::k, &KeyPair::v}) {
        messages.push_back({peer, SumOf(cx, TextParts(q, chunks, which), rows_.Tokens(chunks))});
      }
    }
  }
  for (int32_t q = 0; q < rows_.sequences(); ++q) {
    for (const auto& [peer, chunks] : rows_.plan().summary_receives) {
      const int64_t first = rows_.Summaries({0, chunks.begin});
      const auto sequence = static_cast<size_t>(q);
      messages.push_back({peer, summaries_k_[sequence].Rows(first, rows_.Summaries(chunks))});
      messages.push_back({peer, summaries_v_[sequence].Rows(first, rows_.Summaries(chunks))});
    }
  }
}

void KeyGradients::AppendReceives(const ExecContext& cx,
                                  const std::vector<ChunkPiece>& pieces,
                                  bool summaries,
                                  std::vector<Returned>& returned,
                                  std::vector<Message>& messages) const {
  const KeyPair& like = calls_.front();
  for (int32_t q = 0; q < rows_.sequences(); ++q) {
    for (const auto& [peer, chunks] : pieces) {
      const int64_t rows = summaries ? rows_.Summaries(chunks) : rows_.Tokens(chunks);
      returned.push_back(
          {q,
           chunks,
           {cx.Empty({rows, like.k.cols()}, like.k.dtype()), cx.Empty({rows, like.v.cols()}, like.v.dtype())}});
      messages.push_back({peer, returned.back().rows.k});
      messages.push_back({peer, returned.back().rows.v});
    }
  }
}

void KeyGradients::Start(const ExecContext& cx) {
  SumSummaries(cx);
  std::vector<Message> sends;
  std::vector<Message> receives;
  AppendSends(cx, sends);
  AppendReceives(cx, rows_.plan().text_sends, false, returned_text_, receives);
  AppendReceives(cx, rows_.plan().summary_sends, true, returned_summaries_, receives);
  travelling_.emplace(*rows_.spec().group, cx.stream);
  rows_.spec().group->Exchange("context key gradients", sends, receives, cx.stream, Ordering::kUntilWait);
}

// y: all text rows of the rank.
void KeyGradients::FinishText(const ExecContext& cx, const TensorView& own, Which which, const TensorView& y) const {
  const SummaryLayout& local = rows_.spec().local;
  for (int32_t q = 0; q < rows_.sequences(); ++q) {
    std::vector<RowPart> parts;
    if (!own.empty()) {
      parts.push_back({own.Rows(local.TextRow(q, 0), local.text_tokens), 0});
    }
    for (const QueryRun& run : rows_.plan().runs) {
      for (RowPart part : TextParts(q, run.own, which)) {
        part.first += FirstText(rows_, run.own);
        parts.push_back(part);
      }
    }
    for (const Returned& part : returned_text_) {
      if (part.sequence == q) {
        parts.push_back({part.rows.*which, FirstText(rows_, part.chunks)});
      }
    }
    SumRowParts(parts, y.Rows(local.TextRow(q, 0), local.text_tokens), cx.stream);
  }
}

// y: all rows of the rank.
void KeyGradients::FinishSummaries(const ExecContext& cx,
                                   const TensorView& own,
                                   Which which,
                                   const TensorView& y) const {
  const SummaryLayout& local = rows_.spec().local;
  for (int32_t q = 0; local.live_summaries() > 0 && q < rows_.sequences(); ++q) {
    std::vector<RowPart> parts;
    if (!own.empty()) {
      parts.push_back({own.Rows(local.SummaryRow(q, 0), local.live_summaries()), 0});
    }
    for (const Range& live : rows_.plan().own_live) {
      const TensorView& sums = (which == &KeyPair::k ? summaries_k_ : summaries_v_)[static_cast<size_t>(q)];
      parts.push_back({sums.Rows(rows_.Summaries({0, live.begin}), rows_.Summaries(live)), FirstSummary(rows_, live)});
    }
    for (const Returned& part : returned_summaries_) {
      if (part.sequence == q) {
        parts.push_back({part.rows.*which, FirstSummary(rows_, part.chunks)});
      }
    }
    SumRowParts(parts, y.Rows(local.SummaryRow(q, 0), local.live_summaries()), cx.stream);
  }
}

KeyPair KeyGradients::Finish(const ExecContext& cx, const KeyPair& keys, const KeyPair& summaries) {
  travelling_->Wait();
  const KeyPair sums = {cx.Empty(keys.k.shape(), keys.k.dtype()), cx.Empty(keys.v.shape(), keys.v.dtype())};
  for (const Which which : {&KeyPair::k, &KeyPair::v}) {
    const TensorView y = sums.*which;
    FinishText(cx, summaries.*which, which, y);
    if (y.rows() > rows_.spec().local.text_rows()) {
      FinishSummaries(cx, summaries.*which, which, y);
    }
  }
  return sums;
}

}  // namespace ksa
