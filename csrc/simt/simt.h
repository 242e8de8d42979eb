// What a kernel may use beyond C++: thread indices, barriers, shuffles, tensor-core products and
// asynchronous copies. Under nvcc these are the GPU's (device.h holds every line of PTX); under any
// other compiler the same kernel runs on an emulator, for results, races and memory errors.
#pragma once

#if defined(__CUDACC__)
#include "simt/device.h"
#else
#include "simt/emulator/emulator.h"
#endif
