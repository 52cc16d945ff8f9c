#include "libpolicy/text/math_expression.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>

#include "libpolicy/text/text_pattern.h"

namespace meed {

using Complex = std::complex<double>;

struct MathExpression::Node {
  enum class Kind { kNumber, kVariable, kAdd, kMultiply, kDivide, kPower, kRoot, kFunction } kind;
  Complex number{};
  char variable = 0;
  Complex (*function)(Complex) = nullptr;
  std::shared_ptr<const Node> left, right;
};

namespace {

using Node = MathExpression::Node;
using NodePtr = std::shared_ptr<const Node>;

constexpr size_t kMaxBytes = 4096;
constexpr int kMaxDepth = 64;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

struct Unit {
  const char* name;
  const char* dimension;
  double factor;
};
constexpr Unit kUnits[] = {
    {"mm", "length", 1e-3},      {"cm", "length", 1e-2},      {"m", "length", 1.0},
    {"km", "length", 1e3},       {"meter", "length", 1.0},    {"meters", "length", 1.0},
    {"metre", "length", 1.0},    {"metres", "length", 1.0},   {"centimeters", "length", 1e-2},
    {"kilometers", "length", 1e3}, {"inch", "length", 0.0254}, {"inches", "length", 0.0254},
    {"in", "length", 0.0254},    {"ft", "length", 0.3048},    {"foot", "length", 0.3048},
    {"feet", "length", 0.3048},  {"yards", "length", 0.9144}, {"yard", "length", 0.9144},
    {"mile", "length", 1609.344}, {"miles", "length", 1609.344}, {"mg", "mass", 1e-6},
    {"g", "mass", 1e-3},         {"gram", "mass", 1e-3},      {"grams", "mass", 1e-3},
    {"kg", "mass", 1.0},         {"kilograms", "mass", 1.0},  {"lb", "mass", 0.45359237},
    {"lbs", "mass", 0.45359237}, {"pounds", "mass", 0.45359237}, {"oz", "mass", 0.028349523125},
    {"ounces", "mass", 0.028349523125}, {"s", "time", 1.0},   {"sec", "time", 1.0},
    {"second", "time", 1.0},     {"seconds", "time", 1.0},    {"min", "time", 60.0},
    {"minute", "time", 60.0},    {"minutes", "time", 60.0},   {"h", "time", 3600.0},
    {"hr", "time", 3600.0},      {"hour", "time", 3600.0},    {"hours", "time", 3600.0},
    {"day", "time", 86400.0},    {"days", "time", 86400.0},   {"week", "time", 604800.0},
    {"weeks", "time", 604800.0}, {"ml", "volume", 1e-3},      {"mL", "volume", 1e-3},
    {"l", "volume", 1.0},        {"L", "volume", 1.0},        {"liter", "volume", 1.0},
    {"liters", "volume", 1.0},   {"litres", "volume", 1.0},   {"dollar", "money", 1.0},
    {"dollars", "money", 1.0},   {"cent", "money", 0.01},     {"cents", "money", 0.01},
    {"degree", "angle", 1.0},    {"degrees", "angle", 1.0},
};

const Unit* find_unit(std::string_view name) {
  for (const auto& unit : kUnits)
    if (name == unit.name) return &unit;
  return nullptr;
}

Complex factorial(Complex n) {
  if (n.imag() != 0.0 || n.real() < 0.0 || n.real() > 170.0 || n.real() != std::floor(n.real()))
    return kNan;
  return std::tgamma(n.real() + 1.0);
}
Complex logarithm10(Complex x) { return std::log10(x); }

struct Function {
  const char* name;
  Complex (*function)(Complex);
};
constexpr Function kFunctions[] = {
    {"sqrt", [](Complex x) { return std::sqrt(x); }}, {"sin", [](Complex x) { return std::sin(x); }},
    {"cos", [](Complex x) { return std::cos(x); }},   {"tan", [](Complex x) { return std::tan(x); }},
    {"ln", [](Complex x) { return std::log(x); }},    {"log", logarithm10},
    {"exp", [](Complex x) { return std::exp(x); }},   {"arcsin", [](Complex x) { return std::asin(x); }},
    {"arccos", [](Complex x) { return std::acos(x); }},
    {"arctan", [](Complex x) { return std::atan(x); }},
    {"abs", [](Complex x) { return Complex(std::abs(x)); }},
};

/// Recursive descent over tidy text. A parse that fails leaves `ok` false.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  NodePtr sum() {
    const Depth depth(*this);
    NodePtr left = product();
    while (ok && !done()) {
      if (take("+"))
        left = binary(Node::Kind::kAdd, left, product());
      else if (take("-"))
        left = binary(Node::Kind::kAdd, left, negative(product()));
      else
        break;
    }
    return left;
  }

  bool done() {
    space();
    return at_ >= text_.size();
  }
  bool peek(char c) {
    space();
    return at_ < text_.size() && text_[at_] == c;
  }
  bool take(std::string_view what) {
    space();
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  /// The letters here.
  std::string_view word() {
    space();
    size_t end = at_;
    while (end < text_.size() && is_letter(text_[end])) ++end;
    return text_.substr(at_, end - at_);
  }
  size_t position() const { return at_; }

  bool ok = true;
  std::set<char> variables;

 private:
  struct Depth {
    explicit Depth(Parser& parser) : parser(parser) {
      if (++parser.depth_ > kMaxDepth) parser.ok = false;
    }
    ~Depth() { --parser.depth_; }
    Parser& parser;
  };

  static NodePtr binary(Node::Kind kind, NodePtr left, NodePtr right) {
    Node node{.kind = kind};
    node.left = std::move(left);
    node.right = std::move(right);
    return std::make_shared<const Node>(std::move(node));
  }
  static NodePtr number(Complex value) {
    return std::make_shared<const Node>(Node{.kind = Node::Kind::kNumber, .number = value});
  }
  static NodePtr negative(NodePtr node) {
    return binary(Node::Kind::kMultiply, number(-1.0), std::move(node));
  }
  static NodePtr call(Complex (*function)(Complex), NodePtr argument) {
    Node node{.kind = Node::Kind::kFunction};
    node.function = function;
    node.left = std::move(argument);
    return std::make_shared<const Node>(std::move(node));
  }
  NodePtr fail() {
    ok = false;
    return number(kNan);
  }
  void space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }

  NodePtr product() {
    const Depth depth(*this);
    if (!ok) return fail();
    if (take("-")) return negative(product());
    if (take("+")) return product();
    NodePtr left = power();
    while (ok && !done()) {
      if (take("*") || take("\\times") || take("\\cdot"))
        left = binary(Node::Kind::kMultiply, left, signed_power());
      else if (take("/") || take("\\div"))
        left = binary(Node::Kind::kDivide, left, signed_power());
      else if (starts_factor())
        left = binary(Node::Kind::kMultiply, left, power());
      else
        break;
    }
    return left;
  }

  NodePtr signed_power() {
    const Depth depth(*this);
    if (!ok) return fail();
    if (take("-")) return negative(signed_power());
    return power();
  }

  /// What may follow a factor without a sign: "2x", "3(x+1)", "2\pi"; not a second number.
  bool starts_factor() {
    space();
    if (at_ >= text_.size()) return false;
    const char c = text_[at_];
    if (c == '(' || c == '{') return true;
    if (c == '\\') {
      for (const std::string_view known : {"\\frac", "\\sqrt", "\\pi", "\\sin", "\\cos", "\\tan",
                                           "\\ln", "\\log", "\\exp", "\\arc"})
        if (text_.substr(at_).starts_with(known)) return true;
      return false;
    }
    if (!is_letter(c)) return false;
    const auto letters = word();
    return letters.size() == 1 || function_named(letters) != nullptr || letters == "pi";
  }

  NodePtr power() {
    const Depth depth(*this);
    if (!ok) return fail();
    NodePtr base = postfix();
    if (ok && take("^")) {
      NodePtr exponent = peek('{') ? group('{', '}') : signed_power();
      base = binary(Node::Kind::kPower, base, exponent);
    }
    return base;
  }

  NodePtr postfix() {
    NodePtr node = atom();
    while (ok && peek('!')) {
      take("!");
      node = call(factorial, node);
    }
    return node;
  }

  NodePtr group(char open, char close) {
    if (!take(std::string_view(&open, 1))) return fail();
    NodePtr inner = sum();
    if (!take(std::string_view(&close, 1))) return fail();
    return inner;
  }

  /// The argument of a LaTeX command: {...} or one digit or letter.
  NodePtr argument() {
    if (peek('{')) return group('{', '}');
    space();
    if (at_ < text_.size() && is_digit(text_[at_])) return number(text_[at_++] - '0');
    if (at_ < text_.size() && is_letter(text_[at_])) return variable(text_[at_++]);
    if (peek('(')) return group('(', ')');
    if (peek('\\')) return atom();
    return fail();
  }

  NodePtr variable(char name) {
    if (name == 'e') return number(std::numbers::e);
    if (name == 'i') return number(Complex(0.0, 1.0));
    variables.insert(name);
    return std::make_shared<const Node>(Node{.kind = Node::Kind::kVariable, .variable = name});
  }

  static const Function* function_named(std::string_view name) {
    for (const auto& each : kFunctions)
      if (name == each.name) return &each;
    return nullptr;
  }

  NodePtr atom() {
    const Depth depth(*this);
    space();
    if (!ok || at_ >= text_.size()) return fail();
    const char c = text_[at_];
    if (is_digit(c) || c == '.') return literal();
    if (c == '(') return group('(', ')');
    if (c == '{') return group('{', '}');
    if (c == '[') return group('[', ']');
    if (c == '|') {
      ++at_;
      NodePtr inner = sum();
      if (!take("|")) return fail();
      return call(function_named("abs")->function, inner);
    }
    if (take("\\frac")) {
      NodePtr top = argument();
      NodePtr bottom = argument();
      return binary(Node::Kind::kDivide, top, bottom);
    }
    if (take("\\pi")) return number(std::numbers::pi);
    if (take("\\sqrt")) {
      if (peek('[')) {
        NodePtr degree = group('[', ']');
        return binary(Node::Kind::kRoot, argument(), degree);
      }
      return call(function_named("sqrt")->function, argument());
    }
    if (c == '\\') ++at_;
    const auto name = word();
    if (name == "pi") {
      at_ += 2;
      return number(std::numbers::pi);
    }
    if (const auto* function = function_named(name)) {
      at_ += name.size();
      NodePtr inner = peek('(') ? group('(', ')') : peek('{') ? group('{', '}') : power();
      return call(function->function, inner);
    }
    if (c != '\\' && name.size() == 1) {
      ++at_;
      return variable(c);
    }
    return fail();
  }

  /// Digits with thousands separators, a fraction, an exponent; "2 1/2" and "2\frac{1}{2}".
  NodePtr literal() {
    std::string digits;
    bool whole = true;
    while (at_ < text_.size()) {
      if (is_digit(text_[at_]))
        digits += text_[at_++];
      else if (text_[at_] == ',' && three_digits(at_ + 1) && !digits.empty() && digits.size() <= 60)
        ++at_;
      else
        break;
    }
    if (at_ < text_.size() && text_[at_] == '.') {
      whole = false;
      digits += text_[at_++];
      while (at_ < text_.size() && is_digit(text_[at_])) digits += text_[at_++];
    }
    if (at_ + 1 < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      size_t end = at_ + 1;
      if (end + 1 < text_.size() && (text_[end] == '+' || text_[end] == '-')) ++end;
      if (is_digit(text_[end])) {
        digits += 'e';
        if (!is_digit(text_[at_ + 1])) digits += text_[at_ + 1];
        for (at_ = end; at_ < text_.size() && is_digit(text_[at_]);) digits += text_[at_++];
        whole = false;
      }
    }
    if (digits.starts_with('.')) digits.insert(0, "0");
    double value = 0.0;
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (read.ec != std::errc() || (read.ptr != digits.data() + digits.size() && *read.ptr != '.'))
      return fail();
    NodePtr node = number(value);
    if (whole) {
      const size_t before = at_;
      NodePtr part = mixed_part();
      if (part) return binary(Node::Kind::kAdd, node, part);
      at_ = before;
    }
    return node;
  }

  bool three_digits(size_t i) const {
    return i + 3 <= text_.size() && is_digit(text_[i]) && is_digit(text_[i + 1]) &&
           is_digit(text_[i + 2]) && (i + 3 == text_.size() || !is_digit(text_[i + 3]));
  }

  std::string_view run_of_digits() {
    const size_t first = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return text_.substr(first, at_ - first);
  }

  /// The fraction after a whole number, both of whose sides are whole numbers; null if there is
  /// none.
  NodePtr mixed_part() {
    const auto to_number = [](std::string_view digits) {
      double value = kNan;
      std::from_chars(digits.data(), digits.data() + digits.size(), value);
      return value;
    };
    const bool gap = at_ < text_.size() && text_[at_] == ' ';
    space();
    std::string_view top, bottom;
    if (take("\\frac{")) {
      top = run_of_digits();
      if (!take("}{")) return nullptr;
      bottom = run_of_digits();
      if (!take("}")) return nullptr;
    } else if (take("\\frac")) {
      top = text_.substr(at_, 1);
      bottom = at_ + 1 < text_.size() ? text_.substr(at_ + 1, 1) : "";
      if (top.empty() || bottom.empty() || !is_digit(top[0]) || !is_digit(bottom[0])) return nullptr;
      at_ += 2;
    } else if (gap) {
      top = run_of_digits();
      if (!take("/")) return nullptr;
      bottom = run_of_digits();
    }
    if (top.empty() || bottom.empty()) return nullptr;
    const double value = to_number(top) / to_number(bottom);
    return std::isfinite(value) && value < 1.0 ? number(value) : nullptr;
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

Complex evaluate(const Node& node, const MathExpression::Assignment& variables) {
  using Kind = Node::Kind;
  switch (node.kind) {
    case Kind::kNumber:
      return node.number;
    case Kind::kVariable: {
      const auto found = variables.find(node.variable);
      return found == variables.end() ? Complex(kNan) : found->second;
    }
    case Kind::kFunction:
      return node.function(evaluate(*node.left, variables));
    default:
      break;
  }
  const Complex a = evaluate(*node.left, variables), b = evaluate(*node.right, variables);
  switch (node.kind) {
    case Kind::kAdd:
      return a + b;
    case Kind::kMultiply:
      return a * b;
    case Kind::kDivide:
      return b == 0.0 ? Complex(kNan) : a / b;
    case Kind::kRoot:
      // The real root of a negative number where the degree is odd.
      if (a.imag() == 0.0 && a.real() < 0.0 && b.imag() == 0.0 && std::fmod(b.real(), 2.0) == 1.0)
        return -std::pow(-a.real(), 1.0 / b.real());
      return b == 0.0 ? Complex(kNan) : std::pow(a, 1.0 / b);
    default:
      if (b.imag() == 0.0 && a.imag() == 0.0) {
        const double real = std::pow(a.real(), b.real());
        if (!std::isnan(real)) return real;
      }
      return std::pow(a, b);
  }
}

/// Splits at commas that no bracket encloses.
std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  size_t first = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') --depth;
    if (c == ',' && depth == 0) {
      parts.push_back(text.substr(first, i - first));
      first = i + 1;
    }
  }
  parts.push_back(text.substr(first));
  return parts;
}

/// The brackets around all of the text, and the text within: "(", "[" or "\{" first, and a closing
/// one last that belongs to it.
std::pair<std::string, std::string_view> outer_brackets(std::string_view text) {
  std::string open;
  if (text.starts_with("\\{") && text.ends_with("\\}") && text.size() >= 4)
    return {"{}", text.substr(2, text.size() - 4)};
  if (text.size() < 2 || (text.front() != '(' && text.front() != '[')) return {"", text};
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '(' || text[i] == '[') ++depth;
    if (text[i] == ')' || text[i] == ']') --depth;
    if (depth == 0 && i + 1 < text.size()) return {"", text};
  }
  if (depth != 0) return {"", text};
  return {std::string{text.front(), text.back()}, text.substr(1, text.size() - 2)};
}

/// "x = 5": the right side, where the left is one letter, or one letter of another ("f(x) =").
std::string_view without_left_side(std::string_view text) {
  const auto sign = text.find('=');
  if (sign == std::string_view::npos || text.find('=', sign + 1) != std::string_view::npos ||
      text.find_first_of("<>") != std::string_view::npos)
    return text;
  std::string left;
  for (const char c : text.substr(0, sign))
    if (!std::isspace(static_cast<unsigned char>(c))) left += c;
  const bool plain = left.size() == 1 && is_letter(left[0]);
  const bool applied = left.size() == 4 && is_letter(left[0]) && left[1] == '(' && left[3] == ')';
  return plain || applied ? text.substr(sign + 1) : text;
}

/// Cuts what is counted or measured off the end: "5 cm", "5\\text{ cm}^2", "12 red apples". Returns
/// the unit, if it is a known one, and its power. One letter is a unit only after a space.
std::pair<const Unit*, int> take_unit(std::string_view& piece) {
  const auto trim = [](std::string_view text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
      text.remove_suffix(1);
    return text;
  };
  std::string_view head = trim(piece);
  int exponent = 1;
  for (const auto& [suffix, power] :
       {std::pair<std::string_view, int>{"^2", 2}, {"^{2}", 2}, {"^3", 3}, {"^{3}", 3}})
    if (head.ends_with(suffix)) {
      head.remove_suffix(suffix.size());
      exponent = power;
      break;
    }
  std::string_view words;
  bool wrapped = false;
  if (head.ends_with('}')) {
    for (const std::string_view command : {"\\text{", "\\mathrm{", "\\mbox{", "\\textrm{"})
      if (const auto at = head.rfind(command); at != std::string_view::npos && !wrapped) {
        words = head.substr(at + command.size());
        words.remove_suffix(1);
        head = head.substr(0, at);
        wrapped = words.find_first_of("{}") == std::string_view::npos;
      }
    if (!wrapped) return {nullptr, 1};
  } else {
    size_t at = head.size();
    while (at > 0 && (is_letter(head[at - 1]) || head[at - 1] == ' ')) --at;
    words = head.substr(at);
    head = head.substr(0, at);
  }
  head = trim(head);
  const bool measured = !head.empty() && (is_digit(head.back()) || head.back() == '}' ||
                                          head.back() == ')' || head.back() == '.');
  const bool gap = wrapped || words.starts_with(' ');
  while (words.starts_with(' ')) words.remove_prefix(1);
  const auto first = words.substr(0, words.find(' '));
  if (!measured || first.empty()) return {nullptr, 1};
  const auto* unit = find_unit(first);
  const bool counted = unit != nullptr ? first.size() > 1 || gap : gap && first.size() > 2;
  if (!counted) return {nullptr, 1};
  // The head must be free of variables, or the letter may be one of them.
  if (!wrapped && first.size() == 1) {
    Parser parser(head);
    parser.sum();
    if (!parser.variables.empty()) return {nullptr, 1};
  }
  piece = head;
  return {unit, exponent};
}

}  // namespace

std::string tidy_math(std::string_view raw) {
  std::string text(raw);
  static constexpr std::pair<std::string_view, std::string_view> kReplacements[] = {
      {"\\left", ""},      {"\\right", ""},    {"\\!", ""},
      {"\\,", " "},        {"\\;", " "},       {"\\:", " "},
      {"\\ ", " "},        {"~", " "},         {"\\quad", " "},
      {"\\displaystyle", ""}, {"\\dfrac", "\\frac"}, {"\\tfrac", "\\frac"},
      {"\\cfrac", "\\frac"}, {"{,}", ","},     {"\\%", "%"},
      {"\\$", "$"},        {"\\(", " "},       {"\\)", " "},
      {"\\[", " "},        {"\\]", " "},       {"^{\\circ}", "\\degree"},
      {"^\\circ", "\\degree"}, {"\xC2\xB0", "\\degree"}, {"\xE2\x88\x92", "-"},
      {"\xC3\x97", "*"},   {"\xC2\xB7", "*"},  {"\xC3\xB7", "/"},
      {"\xCF\x80", "\\pi "}, {"\xE2\x88\x9A", "\\sqrt"}, {"\xC2\xBD", "(1/2)"},
      {"\xC2\xBC", "(1/4)"}, {"\xC2\xBE", "(3/4)"}, {"\xC2\xB2", "^2"},
      {"\xC2\xB3", "^3"},  {"\xE2\x88\x9E", "\\infty"}, {"\xC2\xB1", "\\pm"},
      {"\\lbrace", "\\{"}, {"\\rbrace", "\\}"}, {"**", "^"},
      {"\xE2\x82\xAC", ""}, {"\xC2\xA3", ""},
  };
  for (const auto& [from, to] : kReplacements) TextPattern(std::string(from)).replace_all(text, to);
  text.erase(std::remove(text.begin(), text.end(), '$'), text.end());
  while (!text.empty() && (std::isspace(static_cast<unsigned char>(text.back())) ||
                           text.back() == '.' || text.back() == ';' || text.back() == ','))
    text.pop_back();
  const auto first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first);
}

std::optional<MathExpression> MathExpression::parse(std::string_view raw) {
  if (raw.size() > kMaxBytes) return std::nullopt;
  const std::string text = tidy_math(raw);
  std::string_view rest = without_left_side(text);
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  if (rest.empty()) return std::nullopt;
  MathExpression result;
  std::vector<std::string_view> pieces{rest};
  if (const auto [brackets, inner] = outer_brackets(rest); !brackets.empty()) {
    const auto inside = split_list(inner);
    if (inside.size() > 1 || brackets == "{}") {
      pieces = inside;
      result.brackets_ = brackets;
    }
  } else if (const auto list = split_list(rest); list.size() > 1 && rest.find(", ") != rest.npos) {
    pieces = list;  // "1, 2": several answers, in any order
    result.brackets_ = "{}";
  }
  std::set<char> variables;
  for (auto piece : pieces) {
    const auto [unit, exponent] = take_unit(piece);
    if (unit != nullptr) {
      result.unit_ = unit->dimension;
      if (exponent > 1) result.unit_ += "^" + std::to_string(exponent);
      result.unit_factor_ = std::pow(unit->factor, exponent);
    }
    Parser parser(piece);
    auto node = parser.sum();
    if (!parser.ok) return std::nullopt;
    const auto plus_minus = parser.take("\\pm");
    if (plus_minus) {
      Parser right(piece.substr(parser.position()));
      auto spread = right.sum();
      if (!right.ok || !right.done()) return std::nullopt;
      variables.insert(right.variables.begin(), right.variables.end());
      Node up{.kind = Node::Kind::kAdd}, minus{.kind = Node::Kind::kMultiply},
          down{.kind = Node::Kind::kAdd};
      up.left = down.left = node;
      up.right = spread;
      minus.left = std::make_shared<const Node>(Node{.kind = Node::Kind::kNumber, .number = -1.0});
      minus.right = spread;
      down.right = std::make_shared<const Node>(std::move(minus));
      result.parts_.push_back(std::make_shared<const Node>(std::move(up)));
      result.parts_.push_back(std::make_shared<const Node>(std::move(down)));
      if (result.brackets_.empty()) result.brackets_ = "{}";
    } else {
      if (parser.take("%"))
        result.percent_ = true;
      else if (parser.take("\\degree"))
        result.unit_ = "angle";
      if (!parser.done()) return std::nullopt;
      result.parts_.push_back(std::move(node));
    }
    variables.insert(parser.variables.begin(), parser.variables.end());
  }
  result.variables_.assign(variables.begin(), variables.end());
  return result;
}

std::vector<Complex> MathExpression::values(const Assignment& variables) const {
  std::vector<Complex> values;
  for (const auto& part : parts_) values.push_back(evaluate(*part, variables));
  return values;
}

}  // namespace meed
