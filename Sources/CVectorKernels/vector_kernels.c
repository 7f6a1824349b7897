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
