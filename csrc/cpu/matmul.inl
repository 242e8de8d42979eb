// Products of small matrices that lie in the cache. Follows simd.inl.

namespace mfgan::cpu::MFGAN_ISA {

// The left matrix of a product: element (m, k) is at m * row_stride + k * k_stride, so transposed
// and sheared views cost nothing.
template <typename T>
struct Left {
  const T* data;
  int64_t row_stride;
  int64_t k_stride;
};

// A tile of num_rows x num_vectors sums stays in registers over all of k.
template <int kRows, int kVectors, typename T>
inline void matmul_tile(int64_t num_k, Left<T> a, const T* b, int64_t b_stride, T* c,
                        int64_t c_stride, bool accumulate) {
  constexpr int lanes = kLanes<T>;
  Vec<T> sum[kRows][kVectors];
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Vec<T>{};
  for (int64_t k = 0; k < num_k; ++k) {
    Vec<T> right[kVectors];
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + k * b_stride + v * lanes);
#pragma GCC unroll 32
    for (int r = 0; r < kRows; ++r) {
      const T left = a.data[r * a.row_stride + k * a.k_stride];
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[r][v] += left * right[v];
    }
  }
  if (accumulate) {
#pragma GCC unroll 32
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 32
      for (int v = 0; v < kVectors; ++v) sum[r][v] += load(c + r * c_stride + v * lanes);
  }
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 32
    for (int v = 0; v < kVectors; ++v) store(c + r * c_stride + v * lanes, sum[r][v]);
}

// Rows of a tile that fill the registers together with one row of the right matrix.
template <int kVectors>
constexpr int kTileRows = MFGAN_NUM_REGISTERS == 32 ? (kVectors == 1   ? 16
                                                       : kVectors == 2 ? 12
                                                       : kVectors == 3 ? 8
                                                                       : 6)
                                                    : (kVectors == 1   ? 8
                                                       : kVectors == 2 ? 6
                                                                       : 4);
constexpr int kTileVectors = MFGAN_NUM_REGISTERS == 32 ? 4 : 3;

template <int kRows, int kVectors, typename T>
inline void matmul_last_rows(int64_t num_rows, int64_t num_k, Left<T> a, const T* b,
                             int64_t b_stride, T* c, int64_t c_stride, bool accumulate) {
  if constexpr (kRows > 0) {
    if (num_rows == kRows)
      matmul_tile<kRows, kVectors>(num_k, a, b, b_stride, c, c_stride, accumulate);
    else
      matmul_last_rows<kRows - 1, kVectors>(num_rows, num_k, a, b, b_stride, c, c_stride,
                                            accumulate);
  }
}

template <int kVectors, typename T>
__attribute__((noinline)) void matmul_panel(int64_t num_rows, int64_t num_k, Left<T> a, const T* b,
                                            int64_t b_stride, T* c, int64_t c_stride,
                                            bool accumulate) {
  constexpr int rows = kTileRows<kVectors>;
  int64_t m = 0;
  for (; m + rows <= num_rows; m += rows)
    matmul_tile<rows, kVectors>(num_k, {a.data + m * a.row_stride, a.row_stride, a.k_stride}, b,
                                b_stride, c + m * c_stride, c_stride, accumulate);
  matmul_last_rows<rows - 1, kVectors>(num_rows - m, num_k,
                                       {a.data + m * a.row_stride, a.row_stride, a.k_stride}, b,
                                       b_stride, c + m * c_stride, c_stride, accumulate);
}

// c[m][n] = sum over k of a(m, k) b[k][n], added to c where `accumulate`. Columns n are computed
// up to padded(num_columns): b and c reach that far.
template <typename T>
inline void matmul(int64_t num_rows, int64_t num_columns, int64_t num_k, Left<T> a, const T* b,
                   int64_t b_stride, T* c, int64_t c_stride, bool accumulate = false) {
  constexpr int lanes = kLanes<T>;
  int64_t vectors = (num_columns + lanes - 1) / lanes;
  for (; vectors >= kTileVectors; vectors -= kTileVectors) {
    matmul_panel<kTileVectors>(num_rows, num_k, a, b, b_stride, c, c_stride, accumulate);
    b += kTileVectors * lanes;
    c += kTileVectors * lanes;
  }
  if (vectors == 3) {
    matmul_panel<3>(num_rows, num_k, a, b, b_stride, c, c_stride, accumulate);
  } else if (vectors == 2) {
    matmul_panel<2>(num_rows, num_k, a, b, b_stride, c, c_stride, accumulate);
  } else if (vectors == 1) {
    matmul_panel<1>(num_rows, num_k, a, b, b_stride, c, c_stride, accumulate);
  }
}

}  // namespace mfgan::cpu::MFGAN_ISA
