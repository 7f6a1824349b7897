#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// With which instructions a kernel runs: the same code, compiled for each. The floor is AVX2 and FMA on x86-64, and NEON on arm64.
enum vector_instructions { VECTOR_FLOOR = 0, VECTOR_AVX512 = 1 };

/// The best that this machine has.
enum vector_instructions vector_best(void);

/// What becomes of a product: c = factor·(ab + bias + added), the bias being one number for each column. Without them they are NULL. Rows are
/// `…stride` floats apart; `added` may be c.
struct product {
  float *c;
  int64_t stride;
  float factor;
  const float *bias, *added;
  int64_t added_stride;
};

/// Both sides of a product, (rows, depth)·(depth, columns).
struct operands {
  const float *a, *b;
  /// Element (i, t) of a is at i·a_row + t·a_column.
  int64_t a_row, a_column;
  /// Floats between two rows of b, which is (columns, depth) if it is transposed.
  int64_t b_stride;
  bool b_is_transposed;
  int64_t rows, columns, depth;
};

/// For the narrow matrices of a layer, which stay in the caches.
void multiply_matrices(enum vector_instructions instructions, struct product to, const struct operands *of);

/// Whether this machine multiplies pairs of bfloat16, floats rounded to 16 bits (AVX512_BF16). Without that `pair_columns`,
/// `pair_rows` and `multiply_pairs` are not to be called.
bool bfloat16_is_there(void);

/// Whether it does so as fast as it multiplies floats, so that a product of pairs is twice as fast.
bool bfloat16_is_fast(void);

/// Element (i, t) of `pairs` = elements (i, 2t) and (i, 2t + 1) of x, rounded to bfloat16; zeros stand in for what is beyond.
void pair_columns(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns);

/// Element (t, j) of `pairs` = elements (2t, j) and (2t + 1, j) of x, rounded to bfloat16; zeros stand in for what is beyond.
void pair_rows(float *pairs, int64_t stride, const float *x, int64_t x_stride, int64_t rows, int64_t columns);

/// As `multiply_matrices`, of operands whose elements are pairs: each product of two elements is the sum of two products. Sums are floats.
void multiply_pairs(struct product to, const struct operands *of);

/// One head of one sequence. Rows are `…_stride` floats apart.
struct attention_head {
  const float *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  /// Keys, and how many of the last tokens have a query.
  int32_t length, queries;
  /// Of the head: columns of q, k and v.
  int32_t size;
};

/// Asks for floats that are used soon.
static inline void prefetch(const float *x, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(x + i);
}

/// Floats between the probabilities of one query and those of the next.
static inline int64_t attention_padded(int64_t length) { return (length + 15) / 16 * 16; }

/// Floats that the scratch of a head takes.
static inline int64_t attention_scratch(int64_t length, int64_t size) {
  return size * attention_padded(length) + length * attention_padded(length) + 3 * length * attention_padded(size);
}

/// Causal softmax(q·kᵀ/√size)·v. `probabilities` is (queries, attention_padded(length)), with zeros behind each query's reach.
void attention_forward(
    enum vector_instructions instructions, const struct attention_head *head, float *output, int64_t output_stride, float *probabilities,
    float *scratch);

/// The gradients by q, k and v, which are overwritten; they lie as q, k and v do.
void attention_backward(
    enum vector_instructions instructions, const struct attention_head *head, const float *d_output, int64_t output_stride,
    const float *probabilities, float *dq, float *dk, float *dv, float *scratch);

/// y = GELU(x), the tanh approximation: x·σ(2·√(2/π)·(x + 0.044715·x³)). y may be x.
void gelu_forward(enum vector_instructions instructions, float *y, const float *x, int64_t count);

/// dx = dy·GELU′(x). dx may be dy.
void gelu_backward(enum vector_instructions instructions, float *dx, const float *dy, const float *x, int64_t count);

/// y = gain·(x − mean)/√(variance + ε) + bias of one row of `count`; `statistics` are set to the mean and 1/√(variance + ε).
void layer_norm_forward(
    enum vector_instructions instructions, float *y, const float *x, const float *gain, const float *bias, float *statistics, int64_t count,
    float epsilon);

/// Adds to dx, d_gain and d_bias the gradients of a row.
void layer_norm_backward(
    enum vector_instructions instructions, float *dx, float *d_gain, float *d_bias, const float *dy, const float *x, const float *gain,
    const float *statistics, int64_t count);

/// x = e^(x − greatest), in place; `greatest` first becomes that of x if it is below.
///
/// Returns the sum of the new values.
float exponentials(enum vector_instructions instructions, float *x, int64_t count, float *greatest);

#ifdef __cplusplus
}
#endif
