#include "kernels/core/error.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/save_job.h"

namespace ksa {

int64_t CheckpointBytes(const ParameterStore& store) {
  return 3 * store.element_count() * SizeOf(store.state_dtype());
}

std::string SaveCheckpoint(const ParameterStore& store,
                           Communicator& world,
                           const CheckpointMeta& meta,
                           const SaveOptions& options,
                           const Stream& stream) {
  SaveJob job(store, world, meta, options, RowsOfStore(store), stream);
  try {
    OnRankZero(world, [&] {
      job.Prepare();
      return std::string();
    });
    return job.Finish(OnAllRanks(world, [&] { return job.Write(); }), world);
  } catch (const Error&) {
    job.RemovePartial();
    throw;
  }
}

}  // namespace ksa
