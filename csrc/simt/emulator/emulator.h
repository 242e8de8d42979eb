// A SIMT machine on the CPU: every thread of a block is a fiber, a block runs on one OS thread.
// It finds wrong results, races (under ThreadSanitizer), bad addresses (under AddressSanitizer),
// divergent barriers and reads of unwritten shared memory. It models no speed.
#pragma once

#include "simt/emulator/collectives.h"
#include "simt/emulator/copies.h"
#include "simt/emulator/launch.h"
#include "simt/emulator/scheduler.h"
#include "simt/emulator/tensor_core.h"
#include "simt/emulator/types.h"
