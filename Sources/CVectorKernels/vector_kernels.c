#include "vector_kernels.h"

#include <math.h>
#include <string.h>

// C for the sake of one thing: the same code compiled for several sets of instructions, of which the machine's best is taken at run time.

// Whatever takes or gives a vector is inlined: how calls pass them does not matter.
#pragma clang diagnostic ignored "-Wpsabi"

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))
// Rows of a product whose sums stay in registers: with AVX2 they take 12 of 16.
#define TILE_ROWS 6
#define GELU_SCALE 0.7978846f
#define GELU_CUBIC 0.044715f

static const i16 lane_numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define VARIANT(name) name##_floor
#include "kernels.inc"
#undef VARIANT
#pragma clang attribute pop

// Without the second attribute the compiler takes 256 bits at a time.
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
#define VARIANT(name) name##_avx512
#include "kernels.inc"
#undef VARIANT
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
#define VARIANT(name) name##_floor
#include "kernels.inc"
#undef VARIANT

enum vector_instructions vector_best(void) { return VECTOR_FLOOR; }

#define CHOSEN(name) ((void)instructions, name##_floor)
#endif

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

float exponentials(enum vector_instructions instructions, float *x, int64_t count, float *greatest) {
  return CHOSEN(exponentials)(x, count, greatest);
}
