#include "quantized_search.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

// C for the sake of instructions that Swift has no names for: products of four pairs of bytes at once (`vpdpbusd`, or `vpmaddubsw` where
// that is missing). The plain version is what the others are tested against, and what runs on other machines.

enum {
  GROUP = QUANTIZED_GROUP,
  /// Groups whose sums stay in registers together: with those of four queries half of the registers, so that a product need not wait for the
  /// one before.
  TOGETHER = QUANTIZED_PADDING / GROUP
};

// A word has a bit for each row of a piece.
_Static_assert(QUANTIZED_PADDING == 64, "rows that are taken together have a bit each");

static int32_t rows_left(const struct quantized_rows *rows, int32_t group) {
  int32_t left = rows->count - group * GROUP;
  return left < 0 ? 0 : left < GROUP ? left : GROUP;
}

static void upper_bounds_plain(const struct quantized_rows *rows, int32_t group, const struct quantized_query *query, float upper[GROUP]) {
  int32_t sums[GROUP];
  for (int32_t row = 0; row < GROUP; row++) sums[row] = query->start;
  const uint8_t *values = rows->values + (int64_t)group * GROUP * rows->columns;
  for (int32_t column = 0; column < rows->columns; column += 4, values += 4 * GROUP)
    for (int32_t row = 0; row < GROUP; row++)
      for (int32_t i = 0; i < 4; i++) sums[row] += query->values[column + i] * values[4 * row + i];
  int32_t left = rows_left(rows, group);
  for (int32_t i = 0; i < GROUP; i++) {
    int32_t row = group * GROUP + i;
    upper[i] = i < left ? rows->bias[row] + ((float)sums[i] * query->scale + query->error) * rows->scales[row] : -INFINITY;
  }
}

/// Where the nibbles of a group's rows are: in the high halves of these bytes, or in the low ones.
static const uint8_t *nibbles_of(const struct quantized_rows *rows, int32_t group) {
  return rows->nibbles + (int64_t)(group / 2) * GROUP * rows->columns;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static void upper_bounds_by_nibbles_plain(
    const struct quantized_rows *rows, int32_t group, const struct quantized_query *query, float upper[GROUP]) {
  const uint8_t *pairs = nibbles_of(rows, group);
  int32_t left = rows_left(rows, group);
  for (int32_t i = 0; i < GROUP; i++) {
    int32_t row = group * GROUP + i, sum = query->start;
    for (int32_t column = 0; column < rows->columns; column++) {
      uint8_t pair = pairs[column / 4 * 4 * GROUP + i * 4 + column % 4], nibble = group % 2 ? pair & 15 : pair >> 4;
      sum += query->values[column] * (16 * nibble + 8);
    }
    float scale = float_of(rows->nibble_scales[row] & 0xFFFF0000), off = float_of(rows->nibble_scales[row] << 16);
    upper[i] = i < left ? rows->bias[row] + (float)sum * query->scale * scale + query->nibble_error * off : -INFINITY;
  }
}

/// - `upper_bounds`: one of those above.
static int32_t find_plain(
    void (*upper_bounds)(const struct quantized_rows *, int32_t, const struct quantized_query *, float *), const struct quantized_rows *rows,
    const struct quantized_query *query, struct quantized_hit *hits) {
  struct quantized_hit *next = hits;
  for (int32_t group = 0; group * GROUP < rows->count; group++) {
    float upper[GROUP];
    upper_bounds(rows, group, query, upper);
    int32_t left = rows_left(rows, group);
    for (int32_t i = 0; i < left; i++)
      if (upper[i] >= query->least) *next++ = (struct quantized_hit){group * GROUP + i, upper[i]};
  }
  return (int32_t)(next - hits);
}

static void find_all_plain(
    const struct quantized_rows *rows, const struct quantized_query *queries, int32_t query_count, struct quantized_hit *hits, int32_t *counts) {
  for (int32_t q = 0; q < query_count; q++)
    counts[q] = find_plain(upper_bounds_plain, rows, &queries[q], hits + q * quantized_hit_stride(rows->count));
}

/// Of each lane's `count` numbers, in falling order, and the next one the greatest. What is no more among them is left in `next`.
static void keep_greatest(float *kept, int32_t count, float next[GROUP]) {
  for (; count > 0; count--, kept += GROUP)
    for (int32_t lane = 0; lane < GROUP; lane++) {
      float own = kept[lane], other = next[lane];
      kept[lane] = own > other ? own : other;
      next[lane] = own > other ? other : own;
    }
}

/// - `upper_bounds`: one of those below; with the error's sign turned it gives the lower ones.
static void greatest_lower_bounds(
    void (*upper_bounds)(const struct quantized_rows *, int32_t, const struct quantized_query *, float *), const struct quantized_rows *rows,
    const struct quantized_sample *sample, const struct quantized_query *queries, int32_t query_count, float *greatest) {
  const uint64_t *left_out = sample->left_out;
  for (int32_t q = 0; q < query_count; q++, greatest += sample->kept * GROUP) {
    struct quantized_query query = queries[q];
    query.error = -query.error;
    for (int32_t i = 0; i < sample->count; i++, left_out++) {
      float best[GROUP];
      for (int32_t lane = 0; lane < GROUP; lane++) best[lane] = -INFINITY;
      for (int32_t g = 0; g < TOGETHER; g++) {
        float lower[GROUP];
        upper_bounds(rows, (sample->first + i * sample->distance) * TOGETHER + g, &query, lower);
        for (int32_t lane = 0; lane < GROUP; lane++)
          if (!(*left_out >> (g * GROUP + lane) & 1) && lower[lane] > best[lane]) best[lane] = lower[lane];
      }
      keep_greatest(greatest, sample->kept, best);
    }
  }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#define AVX2 __attribute__((target("avx2,fma")))

INLINE int32_t four_values(const int8_t *values) {
  int32_t four;
  memcpy(&four, values, 4);
  return four;
}

INLINE void append(struct quantized_hit **next, int32_t first, uint64_t mask, const float *upper) {
  for (; mask; mask &= mask - 1) {
    int32_t i = __builtin_ctzll(mask);
    *(*next)++ = (struct quantized_hit){first + i, upper[i]};
  }
}

/// The upper bounds of a group's rows, those that are not valid being −∞, or no numbers.
///
/// - `by_nibbles`: a constant, here and below.
VNNI INLINE __m512 upper512(
    __m512i sums, const struct quantized_rows *rows, int32_t group, const struct quantized_query *query, const bool by_nibbles, __mmask16 valid) {
  int32_t row = group * GROUP;
  __m512 error = _mm512_set1_ps(by_nibbles ? 0 : query->error);
  __m512 units = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(query->scale), error);
  __m512 bias = _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), valid, rows->bias + row);
  if (!by_nibbles) return _mm512_fmadd_ps(units, _mm512_loadu_ps(rows->scales + row), bias);
  __m512i both = _mm512_loadu_si512(rows->nibble_scales + row);
  __m512 scale = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xFFFF0000)));
  __m512 off = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
  return _mm512_fmadd_ps(units, scale, _mm512_fmadd_ps(off, _mm512_set1_ps(query->nibble_error), bias));
}

/// What stands for the values whose nibbles are in the bytes' high halves.
VNNI INLINE __m512i values_near512(__m512i bytes) {
  return _mm512_ternarylogic_epi32(bytes, _mm512_set1_epi8((char)0xF0), _mm512_set1_epi8(8), 0xEA);  // bytes & 0xF0 | 8
}

/// Four columns of these groups' rows.
VNNI INLINE void load512(const uint8_t *values, int64_t group_size, const bool by_nibbles, __m512i x[TOGETHER]) {
#pragma clang loop unroll(full)
  for (int g = 0; g < TOGETHER; g += 2) {
    if (by_nibbles) {
      __m512i pairs = _mm512_loadu_si512(values + g / 2 * group_size);
      x[g] = values_near512(pairs);
      x[g + 1] = values_near512(_mm512_slli_epi16(pairs, 4));
    } else {
      x[g] = _mm512_loadu_si512(values + g * group_size);
      x[g + 1] = _mm512_loadu_si512(values + (g + 1) * group_size);
    }
  }
}

/// What the products of so many groups with `count` queries, a constant, add up to.
VNNI INLINE void products512(
    const struct quantized_rows *rows, int32_t group, const struct quantized_query *queries, const int count, const bool by_nibbles,
    __m512i sums[4][TOGETHER]) {
  const uint8_t *values = by_nibbles ? nibbles_of(rows, group) : rows->values + (int64_t)group * GROUP * rows->columns;
  const int64_t group_size = (int64_t)GROUP * rows->columns;
#pragma clang loop unroll(full)
  for (int q = 0; q < count; q++) {
#pragma clang loop unroll(full)
    for (int g = 0; g < TOGETHER; g++) sums[q][g] = _mm512_set1_epi32(queries[q].start);
  }
  for (int64_t column = 0; column < rows->columns; column += 4, values += 4 * GROUP) {
    __m512i x[TOGETHER];
    load512(values, group_size, by_nibbles, x);
#pragma clang loop unroll(full)
    for (int q = 0; q < count; q++) {
      __m512i four = _mm512_set1_epi32(four_values(queries[q].values + column));
#pragma clang loop unroll(full)
      for (int g = 0; g < TOGETHER; g++) sums[q][g] = _mm512_dpbusd_epi32(sums[q][g], x[g], four);
    }
  }
}

/// The upper bounds of groups that were multiplied together, for each of up to four queries.
struct group_bounds {
  float upper[4][QUANTIZED_PADDING];
  /// Whether one of them reaches the query's least, and in which lanes.
  __mmask16 reached[4];
};

/// Of these groups, the first of which is `group`, the valid rows that reach the least of `count` queries, a constant from 1 to 4.
VNNI INLINE void append_reached(
    const struct group_bounds *bounds, int32_t group, const struct quantized_query *queries, const int count, const uint64_t valid,
    struct quantized_hit **next) {
#pragma clang loop unroll(full)
  for (int q = 0; q < count; q++) {
    if (__builtin_expect(bounds->reached[q] != 0, 0)) {
      __m512 least = _mm512_set1_ps(queries[q].least);
      uint64_t mask = 0;
#pragma clang loop unroll(full)
      for (int g = 0; g < TOGETHER; g++)
        mask |= (uint64_t)_mm512_cmp_ps_mask(_mm512_loadu_ps(bounds->upper[q] + g * GROUP), least, _CMP_GE_OQ) << (g * GROUP);
      append(&next[q], group * GROUP, mask & valid, bounds->upper[q]);
    }
  }
}

/// So many groups against `count` queries, a constant from 1 to 4; `valid` says of each row whether it is one, and is a constant but at the end.
///
/// - `bounds`: those of the groups before, whose rows are appended, and then of these. To branch on them before the next products are
///   under way would let the processor, which rarely foresees it, run out of work.
VNNI INLINE void find512(
    const struct quantized_rows *rows, int32_t group, const struct quantized_query *queries, const int count, const bool by_nibbles,
    const uint64_t valid, struct group_bounds *bounds, struct quantized_hit **next) {
  __m512i sums[4][TOGETHER];
  products512(rows, group, queries, count, by_nibbles, sums);
  append_reached(bounds, group - TOGETHER, queries, count, ~0ull, next);
#pragma clang loop unroll(full)
  for (int q = 0; q < count; q++) {
    __m512 greatest = _mm512_set1_ps(-INFINITY);
#pragma clang loop unroll(full)
    for (int g = 0; g < TOGETHER; g++) {
      __m512 upper = upper512(sums[q][g], rows, group + g, &queries[q], by_nibbles, (__mmask16)(valid >> (g * GROUP)));
      _mm512_storeu_ps(bounds->upper[q] + g * GROUP, upper);
      greatest = _mm512_max_ps(upper, greatest);
    }
    bounds->reached[q] = _mm512_cmp_ps_mask(greatest, _mm512_set1_ps(queries[q].least), _CMP_GE_OQ);
  }
}

/// The rows against `count` queries, a constant from 1 to 4.
VNNI INLINE void find_all512(
    const struct quantized_rows *rows, const struct quantized_query *queries, const int count, const bool by_nibbles, struct quantized_hit **next) {
  struct group_bounds bounds;
  memset(bounds.reached, 0, sizeof bounds.reached);
  int32_t whole = rows->count / QUANTIZED_PADDING * TOGETHER, left = rows->count % QUANTIZED_PADDING;
  for (int32_t group = 0; group < whole; group += TOGETHER) find512(rows, group, queries, count, by_nibbles, ~0ull, &bounds, next);
  uint64_t valid = (1ull << left) - 1;
  if (left) find512(rows, whole, queries, count, by_nibbles, valid, &bounds, next);
  // What is beyond the rows is not below the threshold when a search begins, which is −∞.
  append_reached(&bounds, left ? whole : whole - TOGETHER, queries, count, left ? valid : ~0ull, next);
}

VNNI static void find_vnni(
    const struct quantized_rows *rows, const struct quantized_query *queries, int32_t query_count, struct quantized_hit *hits, int32_t *counts) {
  for (int32_t q = 0; q < query_count; q += 4) {
    int count = query_count - q < 4 ? query_count - q : 4;
    struct quantized_hit *next[4];
    for (int k = 0; k < count; k++) next[k] = hits + (q + k) * quantized_hit_stride(rows->count);
    switch (count) {
      case 1: find_all512(rows, queries + q, 1, false, next); break;
      case 2: find_all512(rows, queries + q, 2, false, next); break;
      case 3: find_all512(rows, queries + q, 3, false, next); break;
      default: find_all512(rows, queries + q, 4, false, next);
    }
    for (int k = 0; k < count; k++) counts[q + k] = (int32_t)(next[k] - (hits + (q + k) * quantized_hit_stride(rows->count)));
  }
}

VNNI static int32_t find_by_nibbles_vnni(const struct quantized_rows *rows, const struct quantized_query *query, struct quantized_hit *hits) {
  struct quantized_hit *next = hits;
  find_all512(rows, query, 1, true, &next);
  return (int32_t)(next - hits);
}

VNNI static void upper_bounds_vnni(const struct quantized_rows *rows, int32_t group, const struct quantized_query *query, float upper[GROUP]) {
  const uint8_t *values = rows->values + (int64_t)group * GROUP * rows->columns;
  __m512i sums = _mm512_set1_epi32(query->start);
  for (int32_t column = 0; column < rows->columns; column += 4)
    sums = _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(values + column * GROUP), _mm512_set1_epi32(four_values(query->values + column)));
  _mm512_storeu_ps(upper, upper512(sums, rows, group, query, false, (__mmask16)((1u << rows_left(rows, group)) - 1)));
}

/// A sample's rows against `count` queries, a constant: 1 or 4.
VNNI INLINE void greatest512(
    const struct quantized_rows *rows, const struct quantized_sample *sample, const struct quantized_query *queries, const int count,
    const uint64_t *left_out, float *greatest) {
  for (int32_t i = 0; i < sample->count; i++) {
    int32_t group = (sample->first + i * sample->distance) * TOGETHER, left = rows->count - group * GROUP;
    uint64_t valid = left < QUANTIZED_PADDING ? (1ull << left) - 1 : ~0ull;
    __m512i sums[4][TOGETHER];
    products512(rows, group, queries, count, false, sums);
#pragma clang loop unroll(full)
    for (int q = 0; q < count; q++) {
      struct quantized_query query = queries[q];
      query.error = -query.error;
      uint64_t counting = valid & ~left_out[q * sample->count + i];
      __m512 next = _mm512_set1_ps(-INFINITY);
#pragma clang loop unroll(full)
      for (int g = 0; g < TOGETHER; g++)
        next = _mm512_max_ps(upper512(sums[q][g], rows, group + g, &query, false, (__mmask16)(counting >> (g * GROUP))), next);
      float *own = greatest + (int64_t)q * sample->kept * GROUP;
      for (int32_t level = 0; level < sample->kept; level++, own += GROUP) {
        __m512 kept = _mm512_loadu_ps(own);
        _mm512_storeu_ps(own, _mm512_max_ps(kept, next));
        next = _mm512_min_ps(kept, next);
      }
    }
  }
}

VNNI static void greatest_vnni(
    const struct quantized_rows *rows, const struct quantized_sample *sample, const struct quantized_query *queries, int32_t query_count,
    float *greatest) {
  const uint64_t *left_out = sample->left_out;
  for (; query_count >= 4; query_count -= 4, queries += 4, left_out += 4 * sample->count, greatest += 4 * sample->kept * GROUP)
    greatest512(rows, sample, queries, 4, left_out, greatest);
  for (; query_count > 0; query_count--, queries++, left_out += sample->count, greatest += sample->kept * GROUP)
    greatest512(rows, sample, queries, 1, left_out, greatest);
}

/// Half a group against one query.
AVX2 INLINE __m256 upper256(
    const struct quantized_rows *rows, int32_t group, int32_t half, const struct quantized_query *query, const bool by_nibbles) {
  const uint8_t *values = (by_nibbles ? nibbles_of(rows, group) : rows->values + (int64_t)group * GROUP * rows->columns) + half * 32;
  int32_t row = group * GROUP + half * 8, left = rows_left(rows, group) - half * 8;
  __m256i sums = _mm256_set1_epi32(query->start);
  for (int32_t column = 0; column < rows->columns; column += 4) {
    __m256i four = _mm256_set1_epi32(four_values(query->values + column));
    __m256i x = _mm256_loadu_si256((const __m256i *)(values + column * GROUP));
    if (by_nibbles) {
      __m256i high = group % 2 ? _mm256_slli_epi16(x, 4) : x;
      x = _mm256_or_si256(_mm256_and_si256(high, _mm256_set1_epi8((char)0xF0)), _mm256_set1_epi8(8));
    }
    __m256i pairs = _mm256_maddubs_epi16(x, four);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  float stored[8];
  if (left < 8) {
    for (int32_t i = 0; i < 8; i++) stored[i] = i < left ? rows->bias[row + i] : -INFINITY;
  } else {
    memcpy(stored, rows->bias + row, sizeof stored);
  }
  __m256 bias = _mm256_loadu_ps(stored);
  __m256 error = _mm256_set1_ps(by_nibbles ? 0 : query->error);
  __m256 units = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(query->scale), error);
  if (!by_nibbles) return _mm256_fmadd_ps(units, _mm256_loadu_ps(rows->scales + row), bias);
  __m256i both = _mm256_loadu_si256((const __m256i *)(rows->nibble_scales + row));
  __m256 scale = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xFFFF0000)));
  __m256 off = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
  return _mm256_fmadd_ps(units, scale, _mm256_fmadd_ps(off, _mm256_set1_ps(query->nibble_error), bias));
}

AVX2 INLINE int32_t find256(
    const struct quantized_rows *rows, const struct quantized_query *query, const bool by_nibbles, struct quantized_hit *hits) {
  struct quantized_hit *next = hits;
  __m256 least = _mm256_set1_ps(query->least);
  for (int32_t group = 0; group * GROUP < rows->count; group++) {
    __m256 low = upper256(rows, group, 0, query, by_nibbles), high = upper256(rows, group, 1, query, by_nibbles);
    uint32_t mask = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(low, least, _CMP_GE_OQ)) |
                    (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(high, least, _CMP_GE_OQ)) << 8;
    mask &= (1u << rows_left(rows, group)) - 1;
    if (mask) {
      float stored[GROUP];
      _mm256_storeu_ps(stored, low);
      _mm256_storeu_ps(stored + 8, high);
      append(&next, group * GROUP, mask, stored);
    }
  }
  return (int32_t)(next - hits);
}

AVX2 static void find_avx2(
    const struct quantized_rows *rows, const struct quantized_query *queries, int32_t query_count, struct quantized_hit *hits, int32_t *counts) {
  for (int32_t q = 0; q < query_count; q++) counts[q] = find256(rows, &queries[q], false, hits + q * quantized_hit_stride(rows->count));
}

AVX2 static int32_t find_by_nibbles_avx2(const struct quantized_rows *rows, const struct quantized_query *query, struct quantized_hit *hits) {
  return find256(rows, query, true, hits);
}

AVX2 static void upper_bounds_avx2(const struct quantized_rows *rows, int32_t group, const struct quantized_query *query, float upper[GROUP]) {
  _mm256_storeu_ps(upper, upper256(rows, group, 0, query, false));
  _mm256_storeu_ps(upper + 8, upper256(rows, group, 1, query, false));
}

enum quantized_instructions quantized_best(void) {
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return QUANTIZED_VNNI;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? QUANTIZED_AVX2 : QUANTIZED_PLAIN;
}

void quantized_find(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_query *queries, int32_t query_count,
    struct quantized_hit *hits, int32_t *counts) {
  switch (instructions) {
    case QUANTIZED_VNNI: find_vnni(rows, queries, query_count, hits, counts); break;
    case QUANTIZED_AVX2: find_avx2(rows, queries, query_count, hits, counts); break;
    default: find_all_plain(rows, queries, query_count, hits, counts);
  }
}

int32_t quantized_find_by_nibbles(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_query *query, struct quantized_hit *hits) {
  switch (instructions) {
    case QUANTIZED_VNNI: return find_by_nibbles_vnni(rows, query, hits);
    case QUANTIZED_AVX2: return find_by_nibbles_avx2(rows, query, hits);
    default: return find_plain(upper_bounds_by_nibbles_plain, rows, query, hits);
  }
}

void quantized_upper_bounds(
    enum quantized_instructions instructions, const struct quantized_rows *rows, int32_t group, const struct quantized_query *query, float upper[GROUP]) {
  switch (instructions) {
    case QUANTIZED_VNNI: upper_bounds_vnni(rows, group, query, upper); break;
    case QUANTIZED_AVX2: upper_bounds_avx2(rows, group, query, upper); break;
    default: upper_bounds_plain(rows, group, query, upper);
  }
}

void quantized_greatest(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_sample *sample,
    const struct quantized_query *queries, int32_t query_count, float *greatest) {
  switch (instructions) {
    case QUANTIZED_VNNI: greatest_vnni(rows, sample, queries, query_count, greatest); break;
    case QUANTIZED_AVX2: greatest_lower_bounds(upper_bounds_avx2, rows, sample, queries, query_count, greatest); break;
    default: greatest_lower_bounds(upper_bounds_plain, rows, sample, queries, query_count, greatest);
  }
}

#else

enum quantized_instructions quantized_best(void) { return QUANTIZED_PLAIN; }

void quantized_find(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_query *queries, int32_t query_count,
    struct quantized_hit *hits, int32_t *counts) {
  (void)instructions;
  find_all_plain(rows, queries, query_count, hits, counts);
}

int32_t quantized_find_by_nibbles(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_query *query, struct quantized_hit *hits) {
  (void)instructions;
  return find_plain(upper_bounds_by_nibbles_plain, rows, query, hits);
}

void quantized_upper_bounds(
    enum quantized_instructions instructions, const struct quantized_rows *rows, int32_t group, const struct quantized_query *query, float upper[GROUP]) {
  (void)instructions;
  upper_bounds_plain(rows, group, query, upper);
}

void quantized_greatest(
    enum quantized_instructions instructions, const struct quantized_rows *rows, const struct quantized_sample *sample,
    const struct quantized_query *queries, int32_t query_count, float *greatest) {
  (void)instructions;
  greatest_lower_bounds(upper_bounds_plain, rows, sample, queries, query_count, greatest);
}

#endif
