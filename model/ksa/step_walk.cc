#include "model/ksa/step_walk.h"

#include <algorithm>

#include "model/ksa/cost.h"
#include "model/ksa/model.h"
#include "model/ksa/parameters.h"
#include "parallel/context/slices.h"

namespace ksa {
namespace {

constexpr double kHiddenWholly = 1e9;  // seconds of other work, more than anything takes

// Passes of a key row's gradient: two calls and what comes back are read, the sum is written.
constexpr double kKeySumPasses = 4.0;

}  // namespace

StepWalk::StepWalk(const StepProblem& problem, const DeviceFigures& figures, int context, int tensor)
    : problem_(problem),
      figures_(figures),
      context_(context),
      tensor_(tensor),
      topology_(problem.mesh, figures, context, tensor),
      share_(TensorShare(problem.model, static_cast<int>(problem.mesh.tensor), tensor)),
      whole_(MakeLayout(problem.model, problem.micro_batch_size, problem.sequence_length)),
      local_(MakeLocalLayout(whole_, static_cast<int>(problem.mesh.context), context)),
      element_(SizeOf(problem.compute)),
      accumulator_(SizeOf(AccumulationType(problem.compute))) {
  const auto state = static_cast<int>(problem.mesh.data * problem.mesh.context);
  const auto tensor_ranks = static_cast<int>(problem.mesh.tensor);
  plan_ = PlanFlat(ParameterSpecs(problem.model, tensor_ranks, problem.sequence_parallel),
                   {.parts = state,
                    .rank = context,
                    .shard_optimizer = problem.zero && state > 1,
                    .tensor_parts = tensor_ranks,
                    .tensor_rank = tensor,
                    .bucket_elements = state > 1 ? problem.bucket_elements : INT64_MAX});
  for (const Parameter& parameter : plan_.parameters) {
    replicas_ = std::max(replicas_, parameter.spec.replicas);
  }
}

StepWalk::Layer StepWalk::MakeLayer(int32_t index) const {
  const MeshShape& mesh = problem_.mesh;
  Layer layer;
  layer.cost =
      CostOfLayer(share_, local_, index, figures_, element_, RowsInParts() ? static_cast<int>(mesh.tensor) : 1);
  const LayerRows rows = RowsOfLayer(share_, local_, index);
  layer.keys = {rows.text, rows.key_summaries};
  layer.queries = {rows.text, rows.query_summaries};
  if (mesh.context == 1) {
    return layer;
  }
  layer.plan =
      share_.layers[static_cast<size_t>(index)]->PlanContext(share_, whole_, static_cast<int>(mesh.context), context_);
  const ContextPlan& plan = layer.plan;
  if (plan.way == ContextPlan::Way::kHeads) {
    layer.head_parts = plan.in_halves ? 2.0 : 1.0;
    layer.travelling = HeadsVolume(whole_, mesh, context_, plan.query_columns, element_, topology_);
    layer.travelling_kv = HeadsVolume(whole_, mesh, context_, plan.key_columns, element_, topology_);
  } else if (plan.way == ContextPlan::Way::kKeys) {
    layer.travelling = KeysVolume(plan.keys, whole_, plan.key_columns * element_, topology_);
  }
  return layer;
}

void StepWalk::Account(TrafficGroup group, double seconds, double exposed, int64_t repeats) {
  const auto n = static_cast<double>(repeats);
  Traffic& traffic = estimate_.traffic[static_cast<size_t>(group)];
  traffic.exposed += n * exposed;
  traffic.hidden += n * (seconds - exposed);
  estimate_.sharing += n * (seconds - exposed) * figures_.sharing_share;
}

void StepWalk::Count(TrafficGroup group, CollectiveKind kind, int64_t sent, int64_t received, int64_t repeats) {
  CommCount& count = estimate_.traffic[static_cast<size_t>(group)].counts[static_cast<size_t>(kind)];
  count.sent += repeats * sent;
  count.received += repeats * received;
}

double StepWalk::SecondsOf(const Volume& volume) const {
  const int64_t remote = std::max(volume.remote_sent, volume.remote_received);
  const int64_t local = std::max(volume.sent - volume.remote_sent, volume.received - volume.remote_received);
  return ExchangeSeconds(figures_, local, remote);
}

double StepWalk::Exchange(TrafficGroup group, const Volume& volume, double hide, int64_t repeats) {
  Count(group, CollectiveKind::kExchange, volume.sent, volume.received, repeats);
  const double seconds = SecondsOf(volume);
  const double exposed = std::max(0.0, seconds - hide);
  Account(group, seconds, exposed, repeats);
  return exposed;
}

double StepWalk::Ring(TrafficGroup group, CollectiveKind kind, int64_t sent, int64_t received, int64_t repeats) {
  Count(group, kind, sent, received, repeats);
  const RingKind ring = kind == CollectiveKind::kAllReduce       ? RingKind::kAllReduce
                        : kind == CollectiveKind::kReduceScatter ? RingKind::kReduceScatter
                                                                 : RingKind::kAllGather;
  return RingSeconds(figures_, ring, topology_.ShapeOf(group, replicas_), std::max(sent, received));
}

double StepWalk::Rows(double seconds) {
  estimate_.rows += problem_.micro_batches * seconds;
  return seconds;
}

double StepWalk::Products(double seconds) {
  estimate_.products += problem_.micro_batches * seconds;
  return seconds;
}

double StepWalk::OwnShare(const RowCounts& rows) const {
  const int64_t own = rows.Part(static_cast<int>(problem_.mesh.tensor), tensor_).text;
  return static_cast<double>(own) / static_cast<double>(rows.total());
}

double StepWalk::AllReduceRows(const RowCounts& rows) {
  const RowCounts all = {.text = rows.total()};
  const int64_t row_bytes = share_.hidden_size * element_;
  const Volume gather = GatherVolume(all, problem_.mesh, tensor_, row_bytes, topology_);
  double seconds = Exchange(TrafficGroup::kTensor, gather.Reversed(), 0.0, problem_.micro_batches);
  const double ring =
      Ring(TrafficGroup::kTensor, CollectiveKind::kAllGather, gather.sent, gather.received, problem_.micro_batches);
  Account(TrafficGroup::kTensor, ring, ring, problem_.micro_batches);
  seconds += ring;
  return seconds;
}

// Also the backward of Reduce.
double StepWalk::Enter(const RowCounts& rows, double products) {
  if (!RowsInParts()) {
    return 0.0;
  }
  const Volume gather = GatherVolume(rows, problem_.mesh, tensor_, share_.hidden_size * element_, topology_);
  return Exchange(TrafficGroup::kTensor, gather, products * OwnShare(rows), problem_.micro_batches);
}

double StepWalk::EnterBackward(const RowCounts& rows, double weight_gradients) {
  if (problem_.mesh.tensor == 1) {
    return 0.0;
  }
  if (!RowsInParts()) {
    return AllReduceRows(rows);
  }
  const int64_t row_bytes = share_.hidden_size * element_;
  const Volume gather = GatherVolume(rows, problem_.mesh, tensor_, row_bytes, topology_);
  const double exposed = Exchange(TrafficGroup::kTensor, gather.Reversed(), weight_gradients, problem_.micro_batches);
  const int64_t own = rows.Part(static_cast<int>(problem_.mesh.tensor), tensor_).total();
  const auto moved = static_cast<double>((problem_.mesh.tensor + 1) * own * row_bytes);
  return exposed + Rows(moved / figures_.row_bytes);
}

// Forward the parts leave beside the product of a rank's own rows.
double StepWalk::Reduce(const RowCounts& rows, double product) {
  return EnterBackward(rows, product * (problem_.mesh.tensor > 1 ? OwnShare(rows) : 1.0));
}

// Of a recomputed block's last product, which nobody reads: whole rows are summed all the same.
double StepWalk::UnreadReduce(const RowCounts& rows) {
  return problem_.mesh.tensor > 1 && !RowsInParts() ? AllReduceRows(rows) : 0.0;
}

double StepWalk::Keys(const Layer& layer, double hide) {
  return Exchange(TrafficGroup::kContext, layer.travelling, hide, problem_.micro_batches);
}

// Matrices by heads: `exposed` of them, of queries' size, have no work beside them.
double StepWalk::Heads(const Layer& layer, const HeadCalls& calls, double exposed) {
  const auto travel = [&](const Volume& volume, int times) {
    for (int i = 0; i < times; ++i) {
      Exchange(TrafficGroup::kContext, volume, kHiddenWholly, problem_.micro_batches);
    }
  };
  travel(layer.travelling_kv, calls.keys_gathered);
  travel(layer.travelling_kv.Reversed(), calls.keys_returned);
  travel(layer.travelling, calls.queries_gathered);
  travel(layer.travelling.Reversed(), calls.queries_returned);
  const double seconds = exposed * SecondsOf(layer.travelling);
  Account(TrafficGroup::kContext, 0.0, seconds, problem_.micro_batches);
  return seconds;
}

double StepWalk::ContextForward(const Layer& layer) {
  if (layer.plan.way == ContextPlan::Way::kNothing) {
    return 0.0;
  }
  if (layer.plan.way == ContextPlan::Way::kKeys) {
    return Keys(layer, layer.cost.query_product);
  }
  return Heads(layer, {.keys_gathered = 2, .queries_gathered = 1, .queries_returned = 1}, 2.0 / layer.head_parts);
}

// Keys travel again, by heads also queries and outputs.
double StepWalk::ContextReplay(const Layer& layer, double hide) {
  if (layer.plan.way == ContextPlan::Way::kNothing) {
    return 0.0;
  }
  return layer.plan.way == ContextPlan::Way::kKeys ? Keys(layer, hide)
                                                   : Heads(layer, {.keys_gathered = 2, .queries_gathered = 2}, 0.0);
}

double StepWalk::ContextBackward(const Layer& layer) {
  if (layer.plan.way == ContextPlan::Way::kNothing) {
    return 0.0;
  }
  const auto elements = static_cast<double>(2 * layer.keys.total() * layer.plan.key_columns);
  const double sums = Rows(kKeySumPasses * elements * static_cast<double>(element_) / figures_.row_bytes);
  if (layer.plan.way == ContextPlan::Way::kKeys) {
    const double hide = 2.0 * layer.cost.query_product;
    return sums + Exchange(TrafficGroup::kContext, layer.travelling.Reversed(), hide, problem_.micro_batches);
  }
  const bool replayed = problem_.recompute == Recompute::kBlock || problem_.recompute == Recompute::kAttention;
  const HeadCalls calls = {.keys_returned = 2, .queries_gathered = replayed ? 1 : 2, .queries_returned = 1};
  return sums + Heads(layer, calls, 2.0 / layer.head_parts + (replayed ? 0.0 : 1.0));
}

double StepWalk::EntryProducts(const Layer& layer) const {
  return layer.cost.key_products + (problem_.mesh.context == 1 ? layer.cost.query_product : 0.0);
}

void StepWalk::Forward(const Layer& layer) {
  const LayerCost& cost = layer.cost;
  Products(cost.Products());
  Rows(cost.RowsForward());
  estimate_.attention += problem_.micro_batches * cost.attention_forward;
  Enter(layer.keys, EntryProducts(layer));
  ContextForward(layer);
  Reduce(layer.queries, cost.out_product);
  if (HasMlp()) {
    Enter(layer.queries, cost.gate_up_products);
    Reduce(layer.queries, cost.down_product);
  }
}

// What runs again before a layer's backward: all of the block but attention and the last product.
double StepWalk::Replay(const Layer& layer) {
  const LayerCost& cost = layer.cost;
  const bool block = problem_.recompute == Recompute::kBlock;
  double seconds = 0.0;
  if (block || problem_.recompute == Recompute::kAttention) {
    const double mlp = block ? 3.0 * cost.gate_up_products + 2.0 * cost.down_product + cost.out_product : 0.0;
    seconds += Enter(layer.keys, EntryProducts(layer)) + Products(cost.key_products + cost.query_product) +
               Rows(cost.rope_forward) + ContextReplay(layer, cost.query_product + mlp + 2.0 * cost.out_product);
    seconds += block ? Rows(cost.norms_forward) : 0.0;
    seconds += block && HasMlp() ? Products(cost.out_product) + Reduce(layer.queries, cost.out_product)
                                 : UnreadReduce(layer.queries);
  }
  if (HasMlp() && (block || problem_.recompute == Recompute::kMlp)) {
    seconds += Enter(layer.queries, cost.gate_up_products) + Products(cost.gate_up_products) +
               Rows(cost.swiglu_forward) + UnreadReduce(layer.queries);
  }
  return seconds;
}

double StepWalk::Backward(const Layer& layer) {
  const LayerCost& cost = layer.cost;
  double seconds = Replay(layer) + Products(2.0 * cost.Products()) + Rows(cost.RowsBackward());
  estimate_.attention += problem_.micro_batches * cost.attention_backward;
  seconds += cost.attention_backward;
  if (RowsInParts()) {
    seconds += HasMlp() ? Enter(layer.queries, cost.down_product) : 0.0;
    seconds += Enter(layer.queries, cost.out_product);
  }
  seconds += HasMlp() ? EnterBackward(layer.queries, cost.gate_up_products) : 0.0;
  seconds += ContextBackward(layer) + EnterBackward(layer.keys, EntryProducts(layer));
  return seconds;
}

// The embedding's sum over parts of the vocabulary, and cross-entropy with its gradients.
void StepWalk::EndsOfModel() {
  const RowCounts text = {.text = local_.text_rows()};
  const RowCounts all = {local_.text_rows(), local_.summary_rows()};
  Products(3.0 * CountForwardFlops(share_, local_).head / figures_.product_flops);
  if (problem_.mesh.tensor == 1) {
    return;
  }
  Reduce(all, 0.0);
  Enter(all, 0.0);  // its backward
  Enter(text, 0.0);
  EnterBackward(text, 0.0);
  const int64_t stats = 3 * accumulator_ * local_.text_rows() * (problem_.mesh.tensor - 1);
  const double ring = Ring(TrafficGroup::kTensor, CollectiveKind::kAllGather, stats, stats, problem_.micro_batches);
  Account(TrafficGroup::kTensor, ring, ring, problem_.micro_batches);
}

StepEstimate StepWalk::Run() {
  std::vector<double> backward;
  for (int32_t i = 0; i < share_.num_hidden_layers; ++i) {
    const Layer layer = MakeLayer(i);
    Forward(layer);
    backward.push_back(Backward(layer));
  }
  EndsOfModel();
  SumGradients(backward);
  UpdateWeights();
  estimate_.forward_flops = CountForwardFlops(problem_.model, whole_).Total() *
                            static_cast<double>(problem_.micro_batches * problem_.mesh.data);
  return estimate_;
}

}  // namespace ksa
