#include "vector_kernels.h"

#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// C for the sake of one thing: the same code compiled for several sets of instructions, of which the machine's best is taken at run time.

// Whatever takes or gives a vector is inlined: how calls pass them does not matter.
#pragma clang diagnostic ignored "-Wpsabi"

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("clang loop unroll(full)")
// A product's sums stay in registers for so many rows and TILE_VECTORS vectors of columns: they take 12 of AVX2's 16, 24 of AVX-512's 32.
#define TILE_ROWS 6
// Rows of a product's right side that are read at a time, and so many where the left side is read down its columns.
#define PANEL_DEPTH 256
#define STRIDED_DEPTH 64
#define GELU_SCALE 0.7978846f
#define GELU_CUBIC 0.044715f

/// Calls `body` with `first` and `lanes`, the latter 16 but for what is left at the end.
#define FOR_EACH_VECTOR(count, first, lanes) \
  for (int64_t first = 0, lanes = 16; first < (count) && (lanes = (count) - first < 16 ? (count) - first : 16); first += 16)

static const i16 lane_numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
/// The same of eight lanes, of which those below `lanes` are set.
INLINE __m256i first_lanes(int64_t lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE v16 load_some_floor(const float *from, int64_t lanes) {
  union { __m256 half[2]; v16 whole; } x = {{_mm256_maskload_ps(from, first_lanes(lanes)), _mm256_setzero_ps()}};
  if (lanes > 8) x.half[1] = _mm256_maskload_ps(from + 8, first_lanes(lanes - 8));
  return x.whole;
}

INLINE void store_some_floor(float *to, v16 x, int64_t lanes) {
  union { v16 whole; __m256 half[2]; } y = {x};
  _mm256_maskstore_ps(to, first_lanes(lanes), y.half[0]);
  if (lanes > 8) _mm256_maskstore_ps(to + 8, first_lanes(lanes - 8), y.half[1]);
}

INLINE v16 reciprocal_floor(v16 x) { return 1.0f / x; }

#define VARIANT(name) name##_floor
#define TILE_VECTORS 1
#include "kernels.inc"
#pragma clang attribute pop

// Without the second attribute the compiler takes 256 bits at a time.
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,prfchw"))), apply_to = function)
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
INLINE v16 load_some_avx512(const float *from, int64_t lanes) { return (v16)_mm512_maskz_loadu_ps((__mmask16)((1 << lanes) - 1), from); }

INLINE void store_some_avx512(float *to, v16 x, int64_t lanes) { _mm512_mask_storeu_ps(to, (__mmask16)((1 << lanes) - 1), (__m512)x); }

/// A step of Newton's method after the instruction's 14 bits: a relative error under 2e-7.
INLINE v16 reciprocal_avx512(v16 x) {
  v16 y = (v16)_mm512_rcp14_ps((__m512)x);
  return y * (2.0f - x * y);
}

#define VARIANT(name) name##_avx512
#define TILE_VECTORS 4
#include "kernels.inc"
#pragma clang attribute pop
#pragma clang attribute pop

// Products of pairs: what is a float to the tiles holds two numbers of 16 bits.
#pragma clang attribute push(__attribute__((target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,prfchw"))), apply_to = function)
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
INLINE v16 all_bfloat16(float pair) { return (v16)_mm512_set1_ps(pair); }

INLINE v16 multiply_add_bfloat16(v16 sum, v16 a, v16 b) { return (v16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b); }

/// Rounded to 16 bits.
INLINE __m256i rounded_bfloat16(const float *x, int64_t lanes) { return (__m256i)_mm512_cvtneps_pbh((__m512)load_avx512(x, lanes)); }

static void pair_columns_bfloat16(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i++)
    FOR_EACH_VECTOR(columns, j, lanes)
      _mm256_mask_storeu_epi32(pairs + i * stride + j / 2, (__mmask8)((1 << (lanes + 1) / 2) - 1), rounded_bfloat16(x + i * x_stride + j, lanes));
}

static void pair_rows_bfloat16(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i += 2)
    FOR_EACH_VECTOR(columns, j, lanes) {
      const float *from = x + i * x_stride + j;
      __m512i low = _mm512_cvtepu16_epi32(rounded_bfloat16(from, lanes));
      __m512i high = i + 1 < rows ? _mm512_cvtepu16_epi32(rounded_bfloat16(from + x_stride, lanes)) : _mm512_setzero_si512();
      store_avx512(pairs + i / 2 * stride + j, (v16)_mm512_or_si512(low, _mm512_slli_epi32(high, 16)), lanes);
    }
}

#define VARIANT(name) name##_bfloat16
#define TILE_VECTORS 4
#define load_bfloat16 load_avx512
#define store_bfloat16 store_avx512
#include "products.inc"
#undef VARIANT
#undef TILE_VECTORS
#undef load_bfloat16
#undef store_bfloat16
#pragma clang attribute pop
#pragma clang attribute pop

bool bfloat16_is_there(void) { return vector_best() == VECTOR_AVX512 && __builtin_cpu_supports("avx512bf16"); }

bool bfloat16_is_fast(void) { return bfloat16_is_there() && __builtin_cpu_is("amd"); }

void pair_columns(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns) {
  pair_columns_bfloat16(pairs, stride, x, x_stride, rows, columns);
}

void pair_rows(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns) {
  pair_rows_bfloat16(pairs, stride, x, x_stride, rows, columns);
}

void multiply_pairs(struct product to, const struct operands *of) { multiply_matrices_bfloat16(to, of); }

enum vector_instructions vector_best(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512dq")
             ? VECTOR_AVX512
             : VECTOR_FLOOR;
}

#define CHOSEN(name) (instructions == VECTOR_AVX512 ? name##_avx512 : name##_floor)
#else
INLINE v16 load_some_floor(const float *from, int64_t lanes) {
  v16 x = {0};
  memcpy(&x, from, (size_t)lanes * sizeof *from);
  return x;
}

INLINE void store_some_floor(float *to, v16 x, int64_t lanes) { memcpy(to, &x, (size_t)lanes * sizeof *to); }

INLINE v16 reciprocal_floor(v16 x) { return 1.0f / x; }

#define VARIANT(name) name##_floor
#define TILE_VECTORS 1
#include "kernels.inc"

enum vector_instructions vector_best(void) { return VECTOR_FLOOR; }

bool bfloat16_is_there(void) { return false; }

bool bfloat16_is_fast(void) { return false; }

void pair_columns(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns) {
  (void)pairs, (void)stride, (void)x, (void)x_stride, (void)rows, (void)columns;
}

void pair_rows(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns) {
  (void)pairs, (void)stride, (void)x, (void)x_stride, (void)rows, (void)columns;
}

void multiply_pairs(struct product to, const struct operands *of) { (void)to, (void)of; }

#define CHOSEN(name) ((void)instructions, name##_floor)
#endif

void multiply_matrices(enum vector_instructions instructions, struct product to, const struct operands *of) {
  CHOSEN(multiply_matrices)(to, of);
}

void attention_forward(
    enum vector_instructions instructions, const struct attention_head *head, float *output, int64_t output_stride, float *probabilities,
    float *scratch) {
  CHOSEN(attention_forward)(head, output, output_stride, probabilities, scratch);
}

void attention_backward(
    enum vector_instructions instructions, const struct attention_head *head, const float *d_output, int64_t output_stride,
    const float *probabilities, float *dq, float *dk, float *dv, float *scratch) {
  CHOSEN(attention_backward)(head, d_output, output_stride, probabilities, dq, dk, dv, scratch);
}

void gelu_forward(enum vector_instructions instructions, float *y, const float *x, int64_t count) { CHOSEN(gelu_forward)(y, x, count); }

void gelu_backward(enum vector_instructions instructions, float *dx, const float *dy, const float *x, int64_t count) {
  CHOSEN(gelu_backward)(dx, dy, x, count);
}

void layer_norm_forward(
    enum vector_instructions instructions, float *y, const float *x, const float *gain, const float *bias, float *statistics, int64_t count,
    float epsilon) {
  CHOSEN(layer_norm_forward)(y, x, gain, bias, statistics, count, epsilon);
}

void layer_norm_backward(
    enum vector_instructions instructions, float *dx, float *d_gain, float *d_bias, const float *dy, const float *x, const float *gain,
    const float *statistics, int64_t count) {
  CHOSEN(layer_norm_backward)(dx, d_gain, d_bias, dy, x, gain, statistics, count);
}

float exponentials(enum vector_instructions instructions, float *x, int64_t count, float *greatest) {
  return CHOSEN(exponentials)(x, count, greatest);
}
