#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Rows that stand side by side, and what the number of rows is padded to a multiple of.
enum { QUANTIZED_GROUP = 16, QUANTIZED_PADDING = 4 * QUANTIZED_GROUP };

/// Rows in 8 bits, each v̂ = scale·(value − 128). The rows of a group stand side by side, four columns of each in turn: value (row, column) is at
/// ((row / 16)·columns / 4 + column / 4)·64 + (row % 16)·4 + column % 4. All but `bias` go on to a multiple of `QUANTIZED_PADDING` rows.
struct quantized_rows {
  const uint8_t *values;
  /// ∞ for a row that every query finds.
  const float *scales;
  /// The values' high nibbles, those of two groups in one byte, the first one's being the high one; in a value's place 16·nibble + 8 is near it.
  const uint8_t *nibbles;
  /// For the nibbles, the upper halves of two floats: a scale, and below it how far v̂ = scale·(16·nibble + 8 − 128) is off.
  const uint32_t *nibble_scales;
  const float *bias;
  int32_t count;
  /// A multiple of 4.
  int32_t columns;
};

struct quantized_query {
  /// −127 … 127; −64 … 64 without VNNI, so that the sum of two products fits in 16 bits.
  const int8_t *values;
  /// −128 times the sum of the values: where the sum of the products begins.
  int32_t start;
  float scale;
  /// How far h·v is off at most, for each unit of the row's scale; above 0.
  float error;
  /// And by the row's nibbles for each unit of what these are off; above 0.
  float nibble_error;
  /// What an upper bound has to reach.
  float least;
};

/// A row whose upper bound, bias + scales·(scale·(start + product) + error), is not less than the query's least.
struct quantized_hit {
  int32_t row;
  float upper;
};

/// By which instructions the products are computed.
enum quantized_instructions { QUANTIZED_PLAIN = 0, QUANTIZED_AVX2 = 1, QUANTIZED_VNNI = 2 };

/// The best that this machine has.
enum quantized_instructions quantized_best(void);

/// Between the hits of one query and those of the next. Were it the number of rows, mostly a power of two, they would all be in the same few lines of the
/// cache.
static inline int64_t quantized_hit_stride(int64_t rows) { return rows + 24; }

/// The hits of each query in rising order of rows, `quantized_hit_stride(rows->count)` apart; `counts` says how many there are.
void quantized_find(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_query *queries, int32_t query_count,
    struct quantized_hit *hits, int32_t *counts);

/// The same of one query by the rows' nibbles, with the upper bounds bias + scale·query's scale·(start + product) + nibble_error·(what they are off).
///
/// - Returns: how many hits there are.
int32_t quantized_find_by_nibbles(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_query *query, struct quantized_hit *hits);

/// The upper bounds of a group's rows, those beyond the last row being −∞.
void quantized_upper_bounds(
    enum quantized_instructions instructions, const struct quantized_rows *rows, int32_t group, const struct quantized_query *query,
    float upper[QUANTIZED_GROUP]);

/// Pieces of `QUANTIZED_PADDING` rows from everywhere, of which the greatest lower bounds are kept. Each begins before the last row.
struct quantized_sample {
  /// Of how many pieces it is: the first one's number, and one in so many after it.
  int32_t count, first, distance;
  /// Of each lane, a row's place in its group, so many are kept, at most one of a piece.
  int32_t kept;
  /// For each query and each piece (queries, count) a bit for each row that does not count.
  const uint64_t *left_out;
};

/// Of each query the greatest lower bounds in the sample, bias + scales·(scale·(start + product) − error).
///
/// - `greatest`: (queries, kept, `QUANTIZED_GROUP`), in falling order in each lane; −∞ at first.
void quantized_greatest(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_sample *sample,
    const struct quantized_query *queries, int32_t query_count, float *greatest);

#ifdef __cplusplus
}
#endif
