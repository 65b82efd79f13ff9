// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
#include "metal_candle/io/chat_template/parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "metal_candle/io/chat_template/expression_parser.h"
#include "metal_candle/io/chat_template/lexer.h"
#include "metal_candle/io/chat_template/token_stream.h"

namespace metal_candle::jinja {
namespace {

using Kind = Token::Kind;
using Names = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), expressions_(tokens_) {}

  Body run() {
    Body body = parse_body({}, 0);
    expressions_.check_names();
    return body;
  }

 private:
  // Parses up to a block that begins with one of `ends`, whose name becomes the current token.
  Body parse_body(Names ends, int opening_line);
  // The rest of an opening tag, then its body.
  Body parse_block(Names ends, int opening_line);
  // The rest of a closing tag is left to the caller: nothing but its end may follow the name.
  std::string_view next_name() { return tokens_.next().text; }
  Statement parse_statement();

  IfStatement parse_if(int line);
  ForStatement parse_for(int line);
  decltype(Statement::node) parse_set(int line);
  MacroStatement parse_macro(int line);
  WithStatement parse_with(int line);
  decltype(Statement::node) parse_loop_control(const Token& tag);

  TokenStream tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;  // Around the current statement.
};

Body Parser::parse_body(Names ends, int opening_line) {
  if (depth_ >= kMaxSyntaxDepth) {
    tokens_.fail(fmt::format("blocks nest deeper than {}", kMaxSyntaxDepth));
  }
  ++depth_;
  Body body;
  while (tokens_.current().kind != Kind::kEnd) {
    const Token token = tokens_.next();
    if (token.kind == Kind::kText) {
      body.push_back({token.line, TextStatement{token.text}});
    } else if (token.kind == Kind::kOutputBegin) {
      body.push_back({token.line, OutputStatement{expressions_.parse_tuple(true)}});
      tokens_.expect(Kind::kOutputEnd, "'}}'");
    } else {
      const bool is_end = std::any_of(ends.begin(), ends.end(), [this](std::string_view name) {
        return tokens_.current().is_name(name);
      });
      if (is_end) {
        --depth_;
        return body;
      }
      body.push_back(parse_statement());
      tokens_.expect(Kind::kBlockEnd, "'%}'");
    }
  }
  if (ends.size() > 0) {
    throw Failure(
        fmt::format("'{{% {} %}}' is missing at the end of the template", *(ends.end() - 1)),
        opening_line);
  }
  --depth_;
  return body;
}

Body Parser::parse_block(Names ends, int opening_line) {
  tokens_.skip_operator(":");
  tokens_.expect(Kind::kBlockEnd, "'%}'");
  return parse_body(ends, opening_line);
}

Statement Parser::parse_statement() {
  const Token tag = tokens_.expect(Kind::kName, "the name of a statement");
  const int line = tag.line;
  if (tag.text == "if") return {line, parse_if(line)};
  if (tag.text == "for") return {line, parse_for(line)};
  if (tag.text == "set") return {line, parse_set(line)};
  if (tag.text == "macro") return {line, parse_macro(line)};
  if (tag.text == "with") return {line, parse_with(line)};
  if (tag.text == "break" || tag.text == "continue") return {line, parse_loop_control(tag)};
  if (tag.text == "generation") {
    // Marks what the model is to learn; what it renders is its body.
    WithStatement scope{{}, parse_block({"endgeneration"}, line)};
    next_name();
    return {line, std::move(scope)};
  }
  const bool belongs =
      tag.text.starts_with("end") || tag.text.starts_with("el");  // To an opening tag.
  throw Failure(fmt::format("the statement '{{% {} %}}' is not {}", tag.text,
                            belongs ? "expected here" : "supported"),
                line);
}

IfStatement Parser::parse_if(int line) {
  // Whatever is in it may never run.
  const std::size_t before = expressions_.mark();
  IfStatement statement;
  std::string_view next;
  do {
    ExpressionPtr condition = expressions_.parse_tuple(false);
    Body body = parse_block({"elif", "else", "endif"}, line);
    statement.branches.emplace_back(std::move(condition), std::move(body));
    next = next_name();
  } while (next == "elif");
  if (next == "else") {
    statement.otherwise = parse_block({"endif"}, line);
    next_name();
  }
  expressions_.forgive_since(before);
  return statement;
}

ForStatement Parser::parse_for(int line) {
  ForStatement statement;
  statement.target = expressions_.parse_target(false);
  tokens_.expect_name("in");
  statement.iterable = expressions_.parse_tuple(false);
  if (tokens_.skip_name("if")) statement.condition = expressions_.parse_expression();
  if (tokens_.current().is_name("recursive")) tokens_.fail("recursive loops are not supported");
  ++loops_;
  statement.body = parse_block({"else", "endfor"}, line);
  --loops_;
  if (next_name() == "else") {
    statement.otherwise = parse_block({"endfor"}, line);
    next_name();
  }
  return statement;
}

decltype(Statement::node) Parser::parse_set(int line) {
  Target target = expressions_.parse_target(true);
  if (tokens_.skip_operator("=")) {
    return SetStatement{std::move(target), expressions_.parse_tuple(true)};
  }
  ExpressionPtr filter = expressions_.parse_filters(nullptr);
  Body body = parse_block({"endset"}, line);
  next_name();
  return SetBlockStatement{std::move(target), std::move(filter), std::move(body)};
}

MacroStatement Parser::parse_macro(int line) {
  MacroStatement macro;
  macro.name = tokens_.expect(Kind::kName, "the name of a macro").text;
  tokens_.expect_operator("(");
  while (!tokens_.current().is_operator(")")) {
    macro.parameters.push_back(tokens_.expect(Kind::kName, "the name of a parameter").text);
    if (tokens_.skip_operator("=")) {
      macro.defaults.push_back(expressions_.parse_expression());
    } else if (!macro.defaults.empty()) {
      tokens_.fail("a parameter without a default follows one with a default");
    }
    if (!tokens_.skip_operator(",")) break;
  }
  tokens_.expect_operator(")");
  const int loops = std::exchange(loops_, 0);
  macro.body = parse_block({"endmacro"}, line);
  loops_ = loops;
  next_name();
  return macro;
}

WithStatement Parser::parse_with(int line) {
  WithStatement with;
  while (tokens_.current().kind != Kind::kBlockEnd) {
    if (!with.variables.empty()) tokens_.expect_operator(",");
    Target target = expressions_.parse_target(false);
    tokens_.expect_operator("=");
    with.variables.emplace_back(std::move(target), expressions_.parse_expression());
  }
  with.body = parse_block({"endwith"}, line);
  next_name();
  return with;
}

decltype(Statement::node) Parser::parse_loop_control(const Token& tag) {
  if (loops_ == 0) throw Failure(fmt::format("'{}' outside of a loop", tag.text), tag.line);
  if (tag.text == "break") return BreakStatement{};
  return ContinueStatement{};
}

}  // namespace

Body parse(std::string_view source) { return Parser(source).run(); }

}  // namespace metal_candle::jinja
