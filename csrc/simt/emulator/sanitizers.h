// What the sanitizers must be told about fibers, and what of the emulator they must not look at.
#pragma once

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define SIMT_TSAN 1
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SIMT_ASAN 1
#endif

namespace simt {

inline void set_observed([[maybe_unused]] bool observed) {
#ifdef SIMT_TSAN
  if (observed) {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  } else {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
#endif
}

// The emulator's own bookkeeping is no memory traffic of the kernel.
struct Unobserved {
  Unobserved() { set_observed(false); }
  ~Unobserved() { set_observed(true); }
};
// Inside bookkeeping: an access that the kernel did ask for.
struct Observed {
  Observed() { set_observed(true); }
  ~Observed() { set_observed(false); }
};

// A barrier orders memory: every arriving thread releases, every leaving one acquires.
inline void release([[maybe_unused]] void* sync) {
#ifdef SIMT_TSAN
  __tsan_release(sync);
#endif
}
inline void acquire([[maybe_unused]] void* sync) {
#ifdef SIMT_TSAN
  __tsan_acquire(sync);
#endif
}

}  // namespace simt
