/// A plain C face of simdjson's DOM parser: one call parses a document and fills a flat table with the fields that were asked for.
///
/// The DOM parser, and not the on-demand one, because it checks the whole document, also what is not asked for, and because it picks the
/// instruction set at run time.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct csimdjson_parser csimdjson_parser;

/// Bytes that belong to the parser: valid until the next call of `csimdjson_extract`, always UTF-8.
typedef struct {
  const char *_Nullable start;
  size_t length;
} csimdjson_slice;

typedef enum __attribute__((enum_extensibility(closed))) {
  CSIMDJSON_MISSING,
  CSIMDJSON_NULL,
  CSIMDJSON_BOOL,
  CSIMDJSON_INTEGER,
  CSIMDJSON_DOUBLE,
  CSIMDJSON_STRING,
  CSIMDJSON_ARRAY,
  CSIMDJSON_OBJECT,
} csimdjson_kind;

typedef struct {
  csimdjson_kind kind;
  bool boolean;
  /// Of an integer. One above INT64_MAX comes as a double.
  int64_t integer;
  /// Of a double and of an integer.
  double number;
  csimdjson_slice string;
} csimdjson_value;

typedef enum __attribute__((enum_extensibility(closed))) {
  CSIMDJSON_OK,
  CSIMDJSON_EMPTY,
  CSIMDJSON_NOT_JSON,
  CSIMDJSON_NOT_UTF8,
  CSIMDJSON_NOT_AN_OBJECT,
  CSIMDJSON_TOO_DEEP,
  /// A number that is malformed or beyond the range of its type.
  CSIMDJSON_NUMBER,
  CSIMDJSON_NO_MEMORY,
} csimdjson_status;

/// A parser for the fields at `pointers` (RFC 6901; an empty one is never found), which keep their order.
/// Gives NULL if a pointer is not one, with its place in `bad`.
csimdjson_parser *_Nullable csimdjson_create(const csimdjson_slice *_Nonnull pointers, size_t count, size_t *_Nonnull bad);
void csimdjson_destroy(csimdjson_parser *_Nonnull parser);

/// Parses one document and fills `values`, which has a place for each pointer. Of a repeated key the last one holds, as in ECMAScript.
csimdjson_status csimdjson_extract(
  csimdjson_parser *_Nonnull parser, const void *_Nonnull bytes, size_t length, csimdjson_value *_Nonnull values);
/// What simdjson said of the last document that was refused.
const char *_Nonnull csimdjson_message(const csimdjson_parser *_Nonnull parser);

/// The strings of the array that was found at pointer `field`. False if an element is not a string, with its place in `count`.
bool csimdjson_strings(
  csimdjson_parser *_Nonnull parser, size_t field, const csimdjson_slice *_Nullable *_Nonnull strings, size_t *_Nonnull count);

/// The strings that `pointer` (RFC 6901) finds in each element of the array that was found at pointer `field`. False if it finds no string
/// in one, with its place in `count`.
bool csimdjson_member_strings(
  csimdjson_parser *_Nonnull parser, size_t field, csimdjson_slice pointer, const csimdjson_slice *_Nullable *_Nonnull strings,
  size_t *_Nonnull count);

typedef enum __attribute__((enum_extensibility(closed))) {
  CSIMDJSON_VECTOR_OK,
  CSIMDJSON_VECTOR_NULL,
  CSIMDJSON_VECTOR_NOT_AN_ARRAY,
  CSIMDJSON_VECTOR_NOT_A_NUMBER,
  CSIMDJSON_VECTOR_NOT_FINITE,
} csimdjson_vector_status;

/// A member of an object of number arrays.
typedef struct {
  csimdjson_slice name;
  const float *_Nullable values;
  size_t count;
  csimdjson_vector_status status;
  /// The first element at fault.
  size_t bad;
} csimdjson_vector;

/// The vectors of the object that was found at pointer `field`, in the document's order.
void csimdjson_vectors(
  csimdjson_parser *_Nonnull parser, size_t field, const csimdjson_vector *_Nullable *_Nonnull vectors, size_t *_Nonnull count);

/// The array of objects or scalars, or the object, that was found at pointer `field`, as compact JSON text.
csimdjson_slice csimdjson_compact(csimdjson_parser *_Nonnull parser, size_t field);

#ifdef __cplusplus
}
#endif
