#include "CSimdjson.h"

#include <simdjson.h>

#include <cmath>
#include <new>
#include <string>
#include <string_view>
#include <vector>

namespace dom = simdjson::dom;

namespace {

/// A level of the tree made of all pointers.
struct Node {
  struct Child {
    std::string key;
    /// The key as an array index, or -1.
    int64_t index;
    size_t node;
  };
  std::vector<Child> children;
  /// Fields whose pointer ends here.
  std::vector<size_t> fields;
};

/// After a longer document the buffers are given back.
constexpr size_t retainedCapacity = 1 << 20;

}  // namespace

struct csimdjson_parser {
  dom::parser parser;
  std::vector<Node> nodes{1};
  /// The element of each field in the last document, for arrays and objects.
  std::vector<dom::element> elements;
  std::vector<csimdjson_slice> strings;
  std::vector<csimdjson_vector> vectors;
  std::vector<float> numbers;
  std::string text;
  simdjson::error_code error = simdjson::SUCCESS;

  bool insert(std::string_view pointer, size_t field) {
    if (pointer.empty()) return true;
    size_t at = 0;
    while (!pointer.empty()) {
      if (pointer.front() != '/') return false;
      pointer.remove_prefix(1);
      const size_t end = std::min(pointer.find('/'), pointer.size());
      std::string key;
      for (size_t i = 0; i < end; ++i) {
        if (pointer[i] != '~') {
          key.push_back(pointer[i]);
        } else if (++i < end && (pointer[i] == '0' || pointer[i] == '1')) {
          key.push_back(pointer[i] == '0' ? '~' : '/');
        } else {
          return false;
        }
      }
      pointer.remove_prefix(end);
      at = child(at, key);
    }
    nodes[at].fields.push_back(field);
    return true;
  }

  size_t child(size_t parent, const std::string &key) {
    for (const Node::Child &child : nodes[parent].children) {
      if (child.key == key) return child.node;
    }
    const bool isIndex = !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos &&
      (key.size() == 1 || key[0] != '0');
    const size_t node = nodes.size();
    nodes.emplace_back();
    nodes[parent].children.push_back({key, isIndex ? std::stoll(key) : -1, node});
    return node;
  }

  /// Forgets what an earlier value of a repeated key had given.
  void clear(const Node &node, csimdjson_value *values) noexcept {
    for (size_t field : node.fields) values[field].kind = CSIMDJSON_MISSING;
    for (const Node::Child &child : node.children) clear(nodes[child.node], values);
  }

  void visit(const Node &node, dom::element element, csimdjson_value *values) noexcept {
    for (size_t field : node.fields) {
      values[field] = read(element);
      elements[field] = element;
    }
    if (node.children.empty()) return;
    dom::object object;
    dom::array array;
    if (element.get(object) == simdjson::SUCCESS) {
      for (auto member = object.begin(); member != object.end(); ++member) {
        const std::string_view key = member.key();
        for (const Node::Child &child : node.children) {
          if (child.key != key) continue;
          const Node &next = nodes[child.node];
          if (!next.children.empty()) clear(next, values);
          visit(next, member.value(), values);
          break;
        }
      }
    } else if (element.get(array) == simdjson::SUCCESS) {
      for (const Node::Child &child : node.children) {
        dom::element value;
        if (child.index >= 0 && array.at(size_t(child.index)).get(value) == simdjson::SUCCESS) visit(nodes[child.node], value, values);
      }
    }
  }

  static csimdjson_value read(dom::element element) noexcept {
    csimdjson_value value{CSIMDJSON_NULL, false, 0, 0, {nullptr, 0}};
    switch (element.type()) {
      case dom::element_type::ARRAY: value.kind = CSIMDJSON_ARRAY; break;
      case dom::element_type::OBJECT: value.kind = CSIMDJSON_OBJECT; break;
      case dom::element_type::INT64:
        value.kind = CSIMDJSON_INTEGER;
        value.integer = element.get_int64().value_unsafe();
        value.number = double(value.integer);
        break;
      case dom::element_type::UINT64:
      case dom::element_type::DOUBLE:
        value.kind = CSIMDJSON_DOUBLE;
        value.number = element.get_double().value_unsafe();
        break;
      case dom::element_type::STRING: {
        const std::string_view text = element.get_string().value_unsafe();
        value.kind = CSIMDJSON_STRING;
        value.string = {text.data(), text.size()};
        break;
      }
      case dom::element_type::BOOL:
        value.kind = CSIMDJSON_BOOL;
        value.boolean = element.get_bool().value_unsafe();
        break;
      case dom::element_type::NULL_VALUE: break;
    }
    return value;
  }
};

csimdjson_parser *csimdjson_create(const csimdjson_slice *pointers, size_t count, size_t *bad) {
  auto *parser = new csimdjson_parser;
  parser->elements.resize(count);
  for (size_t field = 0; field < count; ++field) {
    if (!parser->insert({pointers[field].start, pointers[field].length}, field)) {
      *bad = field;
      delete parser;
      return nullptr;
    }
  }
  return parser;
}

void csimdjson_destroy(csimdjson_parser *parser) { delete parser; }

csimdjson_status csimdjson_extract(csimdjson_parser *parser, const void *bytes, size_t length, csimdjson_value *values) {
  for (size_t field = 0; field < parser->elements.size(); ++field) values[field].kind = CSIMDJSON_MISSING;
  if (parser->parser.capacity() > retainedCapacity && length <= retainedCapacity) parser->parser = dom::parser();
  dom::element root;
  parser->error = parser->parser.parse(static_cast<const char *>(bytes), length).get(root);
  switch (parser->error) {
    case simdjson::SUCCESS: break;
    case simdjson::EMPTY: return CSIMDJSON_EMPTY;
    case simdjson::UTF8_ERROR: return CSIMDJSON_NOT_UTF8;
    case simdjson::DEPTH_ERROR: return CSIMDJSON_TOO_DEEP;
    case simdjson::NUMBER_ERROR: return CSIMDJSON_NUMBER;
    case simdjson::MEMALLOC:
    case simdjson::CAPACITY: return CSIMDJSON_NO_MEMORY;
    default: return CSIMDJSON_NOT_JSON;
  }
  if (!root.is_object()) return CSIMDJSON_NOT_AN_OBJECT;
  parser->visit(parser->nodes[0], root, values);
  return CSIMDJSON_OK;
}

const char *csimdjson_message(const csimdjson_parser *parser) { return simdjson::error_message(parser->error); }

bool csimdjson_strings(csimdjson_parser *parser, size_t field, const csimdjson_slice **strings, size_t *count) {
  return csimdjson_member_strings(parser, field, {nullptr, 0}, strings, count);
}

bool csimdjson_member_strings(
  csimdjson_parser *parser, size_t field, csimdjson_slice pointer, const csimdjson_slice **strings, size_t *count) {
  const std::string_view path(pointer.start, pointer.length);
  parser->strings.clear();
  for (dom::element element : dom::array(parser->elements[field].get_array().value_unsafe())) {
    std::string_view text;
    dom::element member = element;
    if ((!path.empty() && element.at_pointer(path).get(member) != simdjson::SUCCESS) || member.get(text) != simdjson::SUCCESS) {
      *count = parser->strings.size();
      return false;
    }
    parser->strings.push_back({text.data(), text.size()});
  }
  *strings = parser->strings.data();
  *count = parser->strings.size();
  return true;
}

void csimdjson_vectors(csimdjson_parser *parser, size_t field, const csimdjson_vector **vectors, size_t *count) {
  parser->vectors.clear();
  parser->numbers.clear();
  const dom::object object = parser->elements[field].get_object().value_unsafe();
  for (auto member = object.begin(); member != object.end(); ++member) {
    const std::string_view name = member.key();
    csimdjson_vector vector{{name.data(), name.size()}, nullptr, 0, CSIMDJSON_VECTOR_OK, 0};
    dom::array array;
    if (member.value().is_null()) {
      vector.status = CSIMDJSON_VECTOR_NULL;
    } else if (member.value().get(array) != simdjson::SUCCESS) {
      vector.status = CSIMDJSON_VECTOR_NOT_AN_ARRAY;
    } else {
      for (dom::element element : array) {
        double number;
        if (element.get(number) != simdjson::SUCCESS) {
          vector.status = CSIMDJSON_VECTOR_NOT_A_NUMBER;
        } else if (!std::isfinite(float(number))) {
          vector.status = CSIMDJSON_VECTOR_NOT_FINITE;
        }
        if (vector.status != CSIMDJSON_VECTOR_OK) {
          vector.bad = vector.count;
          break;
        }
        parser->numbers.push_back(float(number));
        ++vector.count;
      }
      if (vector.status != CSIMDJSON_VECTOR_OK) {
        parser->numbers.resize(parser->numbers.size() - vector.count);
        vector.count = 0;
      }
    }
    parser->vectors.push_back(vector);
  }
  // Only now do the numbers lie still.
  const float *values = parser->numbers.data();
  for (csimdjson_vector &vector : parser->vectors) {
    vector.values = values;
    values += vector.count;
  }
  *vectors = parser->vectors.data();
  *count = parser->vectors.size();
}

csimdjson_slice csimdjson_compact(csimdjson_parser *parser, size_t field) {
  parser->text = simdjson::minify(parser->elements[field]);
  return {parser->text.data(), parser->text.size()};
}
