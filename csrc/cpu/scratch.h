// A thread's own memory for the arrays of a kernel.
#pragma once

#include <cstdint>

namespace mfgan::cpu {

// At least `num_bytes`, aligned to a cache line and kept from call to call: fresh pages cost more
// than the work on them. The next call on this thread may move it.
void* scratch(int64_t num_bytes);

}  // namespace mfgan::cpu
