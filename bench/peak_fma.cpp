// Rates that a processor's vector units reach with nothing to wait for: prints two numbers, GFLOP/s
// of float multiply-adds and of bfloat16 dot products (0 where there is no such instruction), on as
// many threads as the argument says. bench/peaks.py compiles it for the machine it runs on.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float Vec __attribute__((vector_size(kBytes)));

// Enough sums that none is needed before it is ready.
constexpr int kSums = 12;
constexpr long kRounds = 5'000'000;

volatile float sink;

void multiply_add() {
  Vec sum[kSums] = {}, a, b;
  for (int i = 0; i < kBytes / 4; ++i) a[i] = 0.5f, b[i] = 1.0f + i;
  for (long round = 0; round < kRounds; ++round) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sum[i] = sum[i] * a + b;
  }
  for (const Vec& x : sum) sink = x[0];
}

#if defined(__AVX512BF16__)
void dot_products() {
  __m512 sum[kSums] = {};
  __m512bh a = __m512bh(_mm512_set1_epi16(0x3f00)), b = __m512bh(_mm512_set1_epi16(0x3f80));
  for (long round = 0; round < kRounds; ++round) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (int i = 0; i < kSums; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
  }
  for (const __m512& x : sum) sink = x[0];
}
#endif

double gflops(int num_threads, double flops_a_round, void (*run)()) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < num_threads; ++i) threads.emplace_back(run);
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return num_threads * flops_a_round * kRounds / seconds.count() / 1e9;
}

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]);
  gflops(threads, 0, multiply_add);  // the clock needs some milliseconds of work to rise
  std::printf("%f ", gflops(threads, 2.0 * kSums * kBytes / 4, multiply_add));
#if defined(__AVX512BF16__)
  std::printf("%f\n", gflops(threads, 2.0 * kSums * 32, dot_products));
#else
  std::printf("0\n");
#endif
}
