// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/expression_parser.h"

#include <fmt/format.h>

#include <utility>

#include "metal_candle/io/chat_template/filters.h"
#include "metal_candle/io/chat_template/tests.h"

namespace metal_candle::jinja {
namespace {

using Kind = Token::Kind;

// Bounds recursion: guards what the parser's recursion always passes through.
class Nesting {
 public:
  Nesting(int& depth, const TokenStream& tokens) : depth_(depth) {
    if (++depth_ > kMaxSyntaxDepth) {
      --depth_;
      tokens.fail(fmt::format("an expression nests deeper than {}", kMaxSyntaxDepth));
    }
  }
  ~Nesting() { --depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& depth_;
};

bool is_one_of(const Token& token, std::initializer_list<std::string_view> operators) {
  for (const auto name : operators) {
    if (token.is_operator(name)) return true;
  }
  return false;
}

}  // namespace

void ExpressionParser::check_names() const {
  if (!unknown_.empty()) throw unknown_.front();
}

ExpressionPtr ExpressionParser::parse_expression() {
  const Nesting nesting(depth_, tokens_);
  const std::size_t before = mark();
  int line = tokens_.line();
  ExpressionPtr expression = parse_or();
  while (tokens_.skip_name("if")) {
    ExpressionPtr condition = parse_or();
    ExpressionPtr otherwise = tokens_.skip_name("else") ? parse_expression() : nullptr;
    expression = make_expression(
        line, Conditional{std::move(condition), std::move(expression), std::move(otherwise)});
    line = tokens_.line();
    forgive_since(before);
  }
  return expression;
}

ExpressionPtr ExpressionParser::parse_or() {
  int line = tokens_.line();
  ExpressionPtr left = parse_and();
  while (tokens_.skip_name("or")) {
    ExpressionPtr right = parse_and();
    left = make_expression(line, Logical{false, std::move(left), std::move(right)});
    line = tokens_.line();
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  int line = tokens_.line();
  ExpressionPtr left = parse_not();
  while (tokens_.skip_name("and")) {
    ExpressionPtr right = parse_not();
    left = make_expression(line, Logical{true, std::move(left), std::move(right)});
    line = tokens_.line();
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  const int line = tokens_.line();
  if (!tokens_.skip_name("not")) return parse_comparison();
  const Nesting nesting(depth_, tokens_);
  return make_expression(line, Unary{'!', parse_not()});
}

ExpressionPtr ExpressionParser::parse_comparison() {
  const int line = tokens_.line();
  Comparison comparison{parse_sum(), {}};
  while (true) {
    std::string operation;
    if (is_one_of(tokens_.current(), {"==", "!=", "<", "<=", ">", ">="})) {
      operation = tokens_.next().text;
    } else if (tokens_.skip_name("in")) {
      operation = "in";
    } else if (tokens_.current().is_name("not") && tokens_.look().is_name("in")) {
      tokens_.next();
      tokens_.next();
      operation = "not in";
    } else {
      break;
    }
    comparison.rest.emplace_back(std::move(operation), parse_sum());
  }
  if (comparison.rest.empty()) return std::move(comparison.first);
  return make_expression(line, std::move(comparison));
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concatenation();
  while (is_one_of(tokens_.current(), {"+", "-"})) {
    const Token operation = tokens_.next();
    ExpressionPtr right = parse_concatenation();
    left =
        make_expression(operation.line, Binary{operation.text, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concatenation() {
  const int line = tokens_.line();
  Concatenation concatenation;
  do {
    concatenation.parts.push_back(parse_product());
  } while (tokens_.skip_operator("~"));
  if (concatenation.parts.size() == 1) return std::move(concatenation.parts.front());
  return make_expression(line, std::move(concatenation));
}

ExpressionPtr ExpressionParser::parse_product() {
  ExpressionPtr left = parse_power();
  while (is_one_of(tokens_.current(), {"*", "/", "//", "%"})) {
    const Token operation = tokens_.next();
    ExpressionPtr right = parse_power();
    left =
        make_expression(operation.line, Binary{operation.text, std::move(left), std::move(right)});
  }
  return left;
}

// Unlike Python's, this power binds to the left, and weaker than a sign.
ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  while (tokens_.current().is_operator("**")) {
    const int line = tokens_.next().line;
    ExpressionPtr right = parse_unary(true);
    left = make_expression(line, Binary{"**", std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  const Nesting nesting(depth_, tokens_);
  ExpressionPtr operand;
  if (is_one_of(tokens_.current(), {"-", "+"})) {
    const Token sign = tokens_.next();
    operand = make_expression(sign.line, Unary{sign.text.front(), parse_unary(false)});
  } else {
    operand = parse_primary();
  }
  operand = parse_postfix(std::move(operand));
  return with_filters ? parse_filters_and_tests(std::move(operand)) : std::move(operand);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = tokens_.current();
  switch (token.kind) {
    case Kind::kName:
      return parse_name();
    case Kind::kInteger: {
      const Token& number = tokens_.next();
      return make_expression(number.line, Literal{Value(number.integer)});
    }
    case Kind::kFloat: {
      const Token& number = tokens_.next();
      return make_expression(number.line, Literal{Value(number.number)});
    }
    case Kind::kString: {
      // Neighbouring literals are one.
      const int line = token.line;
      std::string text;
      while (tokens_.current().kind == Kind::kString) text += tokens_.next().text;
      return make_expression(line, Literal{Value(std::move(text))});
    }
    default:
      break;
  }
  if (token.is_operator("(")) return parse_parentheses();
  if (token.is_operator("[")) return parse_list();
  if (token.is_operator("{")) return parse_dict();
  tokens_.fail_expected("an expression");
}

ExpressionPtr ExpressionParser::parse_name() {
  const Token& token = tokens_.next();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return make_expression(token.line, Literal{Value(true)});
  if (name == "false" || name == "False") return make_expression(token.line, Literal{Value(false)});
  if (name == "none" || name == "None") return make_expression(token.line, Literal{Value()});
  return make_expression(token.line, Variable{name});
}

ExpressionPtr ExpressionParser::parse_parentheses() {
  const int line = tokens_.next().line;
  if (tokens_.skip_operator(")")) {
    return make_expression(line, SequenceLiteral{Sequence::Kind::kTuple, {}});
  }
  ExpressionPtr expression = parse_tuple(true);
  tokens_.expect_operator(")");
  return expression;
}

bool ExpressionParser::at_tuple_end() const {
  const Token& token = tokens_.current();
  return token.kind == Kind::kOutputEnd || token.kind == Kind::kBlockEnd || token.is_operator(")");
}

ExpressionPtr ExpressionParser::parse_tuple(bool allow_conditional) {
  const int line = tokens_.line();
  SequenceLiteral tuple{Sequence::Kind::kTuple, {}};
  bool is_tuple = false;
  while (!at_tuple_end()) {
    tuple.elements.push_back(allow_conditional ? parse_expression() : parse_or());
    if (!tokens_.skip_operator(",")) break;
    is_tuple = true;
  }
  if (tuple.elements.empty()) tokens_.fail_expected("an expression");
  if (!is_tuple) return std::move(tuple.elements.front());
  return make_expression(line, std::move(tuple));
}

ExpressionPtr ExpressionParser::parse_list() {
  const int line = tokens_.next().line;
  SequenceLiteral list{Sequence::Kind::kList, {}};
  while (!tokens_.current().is_operator("]")) {
    list.elements.push_back(parse_expression());
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("]");
  return make_expression(line, std::move(list));
}

ExpressionPtr ExpressionParser::parse_dict() {
  const int line = tokens_.next().line;
  DictLiteral dict;
  while (!tokens_.current().is_operator("}")) {
    ExpressionPtr key = parse_expression();
    tokens_.expect_operator(":");
    ExpressionPtr value = parse_expression();
    dict.items.emplace_back(std::move(key), std::move(value));
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator("}");
  return make_expression(line, std::move(dict));
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr operand) {
  while (true) {
    if (tokens_.current().is_operator(".")) {
      operand = parse_attribute(std::move(operand));
    } else if (tokens_.current().is_operator("[")) {
      operand = parse_subscript(std::move(operand));
    } else if (tokens_.current().is_operator("(")) {
      operand = parse_call(std::move(operand));
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr operand) {
  while (true) {
    if (tokens_.current().is_operator("|")) {
      operand = parse_filters(std::move(operand));
    } else if (tokens_.current().is_name("is")) {
      operand = parse_test(std::move(operand));
    } else if (tokens_.current().is_operator("(")) {
      operand = parse_call(std::move(operand));
    } else {
      return operand;
    }
  }
}

ExpressionPtr ExpressionParser::parse_attribute(ExpressionPtr object) {
  const int line = tokens_.next().line;
  const Token& name = tokens_.current();
  if (name.kind == Kind::kInteger) {
    ExpressionPtr index = make_expression(line, Literal{Value(tokens_.next().integer)});
    return make_expression(line, Subscript{std::move(object), std::move(index)});
  }
  tokens_.expect(Kind::kName, "the name of an attribute");
  return make_expression(line, Attribute{std::move(object), name.text});
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr object) {
  const int line = tokens_.next().line;
  ExpressionPtr index;
  if (!tokens_.current().is_operator(":")) index = parse_expression();
  ExpressionPtr result;
  if (tokens_.skip_operator(":")) {
    result = parse_slice(line, std::move(object), std::move(index));
  } else {
    result = make_expression(line, Subscript{std::move(object), std::move(index)});
  }
  if (tokens_.current().is_operator(","))
    tokens_.fail("an index of several parts is not supported");
  tokens_.expect_operator("]");
  return result;
}

ExpressionPtr ExpressionParser::parse_slice(int line, ExpressionPtr object, ExpressionPtr start) {
  const auto at_bound = [this] { return !is_one_of(tokens_.current(), {":", "]", ","}); };
  ExpressionPtr stop = at_bound() ? parse_expression() : nullptr;
  ExpressionPtr step;
  if (tokens_.skip_operator(":") && at_bound()) step = parse_expression();
  return make_expression(
      line, Slice{std::move(object), std::move(start), std::move(stop), std::move(step)});
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr function) {
  const int line = tokens_.line();
  Arguments arguments = parse_arguments();
  return make_expression(line, Call{std::move(function), std::move(arguments)});
}

Arguments ExpressionParser::parse_arguments() {
  tokens_.expect_operator("(");
  Arguments arguments;
  while (!tokens_.current().is_operator(")")) {
    if (is_one_of(tokens_.current(), {"*", "**"})) {
      tokens_.fail(fmt::format("'{}' before an argument is not supported", tokens_.current().text));
    }
    if (tokens_.current().kind == Kind::kName && tokens_.look().is_operator("=")) {
      std::string name = tokens_.next().text;
      tokens_.next();
      arguments.named.emplace_back(std::move(name), parse_expression());
    } else if (!arguments.named.empty()) {
      tokens_.fail("an argument without a name follows one with a name");
    } else {
      arguments.positional.push_back(parse_expression());
    }
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator(")");
  return arguments;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr input) {
  while (tokens_.skip_operator("|")) {
    const Token name = tokens_.expect(Kind::kName, "the name of a filter");
    if (find_filter(name.text) == nullptr) {
      unknown_.emplace_back(fmt::format("the filter '{}' is not supported", name.text), name.line);
    }
    Arguments arguments;
    if (tokens_.current().is_operator("(")) arguments = parse_arguments();
    input = make_expression(name.line, Filter{std::move(input), name.text, std::move(arguments)});
  }
  return input;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr input) {
  const int line = tokens_.next().line;
  const bool is_negated = tokens_.skip_name("not");
  const Token name = tokens_.expect(Kind::kName, "the name of a test");
  if (find_test(name.text) == nullptr) {
    unknown_.emplace_back(fmt::format("the test '{}' is not supported", name.text), name.line);
  }
  Arguments arguments;
  const Token& token = tokens_.current();
  if (token.is_operator("(")) {
    arguments = parse_arguments();
  } else if (token.is_name("is")) {
    tokens_.fail("a test cannot follow a test");
  } else if ((token.kind == Kind::kName && token.text != "else" && token.text != "or" &&
              token.text != "and") ||
             token.kind == Kind::kString || token.kind == Kind::kInteger ||
             token.kind == Kind::kFloat || is_one_of(token, {"[", "{"})) {
    // One argument needs no parentheses.
    arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  ExpressionPtr test =
      make_expression(line, Test{std::move(input), name.text, std::move(arguments)});
  return is_negated ? make_expression(line, Unary{'!', std::move(test)}) : std::move(test);
}

Target ExpressionParser::parse_target(bool allow_attribute) {
  const Nesting nesting(depth_, tokens_);
  const auto parse_one = [&] {
    if (tokens_.skip_operator("(")) {
      Target inner = parse_target(allow_attribute);
      tokens_.expect_operator(")");
      return inner;
    }
    Target target;
    target.name = tokens_.expect(Kind::kName, "a name to assign to").text;
    for (const char* word : {"true", "false", "none", "True", "False", "None"}) {
      if (target.name == word) tokens_.fail(fmt::format("cannot assign to '{}'", word));
    }
    if (allow_attribute && tokens_.skip_operator(".")) {
      target.attribute = tokens_.expect(Kind::kName, "the name of an attribute").text;
    }
    return target;
  };
  Target tuple;
  while (tuple.parts.empty() || !at_tuple_end()) {
    tuple.parts.push_back(parse_one());
    if (!tokens_.skip_operator(",")) break;
    tuple.is_tuple = true;
  }
  return tuple.is_tuple ? std::move(tuple) : std::move(tuple.parts.front());
}

}  // namespace metal_candle::jinja
