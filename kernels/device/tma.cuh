// Copies of tiles from global to shared memory by the copy engine (PTX ISA, "cp.async.bulk.tensor"), through the
// tensor maps of kernels/device/tensor_map.cuh: coordinates are (column, head, row). One thread issues a copy.
//
// What lies outside of the tensor is read as zeros; coordinates may be negative. With the maps'
// swizzle the 16-byte unit u of row r of a box is found at unit u ^ (r % 8) of the row's 128 bytes; boxes lie 1024-byte
// aligned.
#pragma once

#include <cstdint>

#include <cuda.h>

#include "kernels/device/mbarrier.cuh"

namespace ksa::device {

// Brings the map's box at (column, head, row) to `shared`; its bytes count towards `barrier`'s phase.
__device__ __forceinline__ void TmaLoad(
    void* shared, const CUtensorMap* map, uint64_t* barrier, int32_t column, int32_t head, int32_t row) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(SharedAddress(shared)),
      "l"(reinterpret_cast<uint64_t>(map)),
      "r"(SharedAddress(barrier)),
      "r"(column),
      "r"(head),
      "r"(row)
      : "memory");
}

// Contiguous bytes, a multiple of 16, both addresses 16-byte aligned.
__device__ __forceinline__ void BulkLoad(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   SharedAddress(shared)),
               "l"(reinterpret_cast<uint64_t>(global)),
               "r"(bytes),
               "r"(SharedAddress(barrier))
               : "memory");
}

}  // namespace ksa::device
