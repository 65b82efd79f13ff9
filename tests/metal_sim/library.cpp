// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// A compiler of Metal's language, such as kernels are written in. The host's preprocessor makes one
// text of it with msl/metal_stdlib; what C++ does not have is taken out (address spaces,
// attributes) or made something else (threadgroup arrays); each kernel gets a function that calls
// it with what its attributes ask for; and the host's compiler makes a library of it, which is kept
// on disk.
#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <regex>
#include <set>

#include "tests/metal_sim/internal.h"

namespace metal_sim {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string msl_folder() { return METAL_CANDLE_SOURCE_DIR "/tests/metal_sim/msl"; }

// Runs a command whose words end up in `log`.
void run(const std::string& command, const fs::path& log, const std::string& what) {
  if (std::system((command + " 2> " + log.string()).c_str()) == 0) return;
  throw std::runtime_error(fmt::format("{}:\n{}", what, read_file(log)));
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Replaces whole words.
std::string replace_words(const std::string& text,
                          const std::vector<std::pair<std::string, std::string>>& words) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (!is_word(text[i])) {
      out += text[i++];
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && is_word(text[end])) ++end;
    const std::string word = text.substr(i, end - i);
    i = end;
    const auto it = std::find_if(words.begin(), words.end(),
                                 [&](const auto& pair) { return pair.first == word; });
    out += it == words.end() ? word : it->second;
  }
  return out;
}

std::size_t matching(const std::string& text, std::size_t open) {
  const char closing = text[open] == '(' ? ')' : '}';
  int depth = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    if (text[i] == text[open]) ++depth;
    if (text[i] == closing && --depth == 0) return i;
  }
  throw std::runtime_error("a kernel without an end");
}

// Values that the system gives a kernel, as expressions of the Thread `t`.
const std::pair<const char*, const char*> kBuiltins[] = {
    {"thread_position_in_threadgroup", "uint3{t.index, 0, 0}"},
    {"threads_per_threadgroup", "uint3{t.size, 1, 1}"},
    {"threadgroup_position_in_grid", "uint3{t.group, t.group_y, t.group_z}"},
    {"threadgroups_per_grid", "uint3{t.groups, t.groups_y, t.groups_z}"},
    {"thread_index_in_simdgroup", "t.lane"},
    {"simdgroup_index_in_threadgroup", "t.warp"},
};

struct ParsedKernel {
  std::string name, max_threads, arguments, static_bytes = "0", struct_type;
  std::uint32_t buffers = 0, group_memories = 0;
};

// One parameter: "constant Arguments& arguments [[buffer(0)]]".
void parse_parameter(const std::string& text, ParsedKernel& kernel) {
  static const std::regex form(
      R"(\s*(.*?)\s*\b\w+\s*\[\[\s*(\w+)\s*(?:\(\s*(\d+)\s*\))?\s*\]\]\s*)");
  std::smatch match;
  if (!std::regex_match(text, match, form)) {
    throw std::runtime_error(
        fmt::format("{}: a parameter without an attribute: {}", kernel.name, text));
  }
  const std::string type = match[1], attribute = match[2];
  if (!kernel.arguments.empty()) kernel.arguments += ", ";
  if (attribute == "buffer") {
    const int index = std::stoi(match[3]);
    kernel.buffers |= 1u << index;
    static const std::regex reference(R"(constant\s+(.*?)\s*&)");
    std::smatch structure;
    if (!std::regex_match(type, structure, reference)) {
      throw std::runtime_error(
          fmt::format("{}: {} is not a constant reference", kernel.name, type));
    }
    if (index == 0) kernel.struct_type = structure[1];
    kernel.arguments +=
        fmt::format("*static_cast<const {}*>(b->buffers[{}])", std::string(structure[1]), index);
    return;
  }
  if (attribute == "threadgroup") {
    const int index = std::stoi(match[3]);
    kernel.group_memories |= 1u << index;
    kernel.arguments += fmt::format("memory + b->group_offsets[{}]", index);
    return;
  }
  for (const auto& [name, value] : kBuiltins) {
    if (attribute == name) {
      kernel.arguments += value;
      return;
    }
  }
  throw std::runtime_error(fmt::format("{}: [[{}]] is not known", kernel.name, attribute));
}

// Arrays of the group are where the group's memory is.
std::string translate_body(const std::string& body, ParsedKernel& kernel) {
  static const std::regex array(R"(\bthreadgroup\s+([\w:]+)\s+(\w+)\s*\[)");
  std::string out;
  std::string rest = body;
  std::smatch match;
  while (std::regex_search(rest, match, array)) {
    std::size_t end = static_cast<std::size_t>(match.position()) + match.length();
    int depth = 1;
    const std::size_t begin = end;
    while (depth > 0) {
      depth += rest[end] == '[' ? 1 : rest[end] == ']' ? -1 : 0;
      ++end;
    }
    const std::string count = rest.substr(begin, end - 1 - begin);
    if (kernel.static_bytes != "0") {
      throw std::runtime_error(kernel.name + ": one array of the group, not more");
    }
    kernel.static_bytes = fmt::format("sizeof({}) * ({})", std::string(match[1]), count);
    out += rest.substr(0, static_cast<std::size_t>(match.position()));
    out += fmt::format("{0}* {1} = reinterpret_cast<{0}*>(metal_candle::gpu_sim::group_memory())",
                       std::string(match[1]), std::string(match[2]));
    rest = rest.substr(end);
  }
  return out + rest;
}

// The text in C++, with a table of its kernels behind it.
std::string translate(const std::string& text) {
  static const std::string head = "[[kernel, max_total_threads_per_threadgroup(";
  std::string out;
  std::vector<ParsedKernel> kernels;
  std::size_t at = 0;
  for (;;) {
    const std::size_t found = text.find(head, at);
    out += text.substr(at, found == std::string::npos ? found : found - at);
    if (found == std::string::npos) break;
    ParsedKernel kernel;
    const std::size_t open = found + head.size() - 1;
    const std::size_t close = matching(text, open);
    kernel.max_threads = text.substr(open + 1, close - open - 1);
    const std::size_t list = text.find('(', close + 1);
    static const std::regex heading(R"(\)\]\]\s*void\s+(\w+)\s*)");
    std::smatch match;
    const std::string between = text.substr(close, list - close);
    if (!std::regex_match(between, match, heading)) {
      throw std::runtime_error("not the heading of a kernel: " + between);
    }
    kernel.name = match[1];
    const std::size_t list_end = matching(text, list);
    std::string parameters;
    int depth = 0;
    std::size_t from = list + 1;
    for (std::size_t i = list + 1; i <= list_end; ++i) {
      depth += text[i] == '(' || text[i] == '[' ? 1 : text[i] == ')' || text[i] == ']' ? -1 : 0;
      if (i < list_end && !(text[i] == ',' && depth == 0)) continue;
      const std::string parameter = text.substr(from, i - from);
      parse_parameter(parameter, kernel);
      parameters += (from > list + 1 ? ", " : "") + parameter.substr(0, parameter.find("[["));
      from = i + 1;
    }
    const std::size_t body = text.find('{', list_end);
    const std::size_t body_end = matching(text, body);
    out += fmt::format("static void {}({}) ", kernel.name, parameters) +
           translate_body(text.substr(body, body_end - body + 1), kernel);
    at = body_end + 1;
    kernels.push_back(std::move(kernel));
  }
  out = replace_words(out,
                      {{"device", ""}, {"threadgroup", ""}, {"thread", ""}, {"constant", "const"}});
  out += R"(
namespace metal_sim_table {
struct SimThread { uint32_t index, size, group, group_y, group_z, groups, groups_y, groups_z, lane, warp; };
struct SimBindings { const void* buffers[8]; uint32_t group_offsets[8]; };
struct SimKernel { const char* name; void (*body)(const void*, char*, const SimThread&); int max_threads;
  uint32_t static_bytes, buffers, group_memories, argument_bytes, argument_alignment; };
)";
  std::string table;
  for (const ParsedKernel& kernel : kernels) {
    out += fmt::format(
        "static void run_{0}(const void* bindings, char* memory, const SimThread& t) {{\n"
        "  const SimBindings* b = static_cast<const SimBindings*>(bindings);\n  ::{0}({1});\n}}\n",
        kernel.name, kernel.arguments);
    table += fmt::format("{{\"{0}\", run_{0}, {1}, uint32_t({2}), {3}u, {4}u, {5}, {6}}},\n",
                         kernel.name, kernel.max_threads, kernel.static_bytes, kernel.buffers,
                         kernel.group_memories,
                         kernel.struct_type.empty() ? "0" : "sizeof(" + kernel.struct_type + ")",
                         kernel.struct_type.empty() ? "1" : "alignof(" + kernel.struct_type + ")");
  }
  const std::string visible = "__attribute__((visibility(\"default\")))";
  return out + fmt::format(
                   "extern \"C\" {{\n{0} extern const int metal_sim_kernel_count;\n"
                   "{0} extern const SimKernel metal_sim_kernels[];\n"
                   "const int metal_sim_kernel_count = {1};\n"
                   "const SimKernel metal_sim_kernels[] = {{\n{2}{{}}}};\n}}\n}}\n",
                   visible, kernels.size(), table);
}

std::string compiler() { return METAL_SIM_COMPILER; }

// Kernels that are compiled as a test runs are many, small, and run a few times. The symbols that
// they lack are this process's.
constexpr const char* kOfText = "-Og -pipe -nostdlib";
constexpr const char* kOfFile = "-O1 -pipe";

std::string flags(const std::string& level) {
  std::string all =
      "-std=c++20 " + level + " -w -fPIC -ffp-contract=off -fvisibility=hidden -nostdinc";
#if defined(__x86_64__)
  if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) all += " -mfma -mf16c";
#endif
  return all;
}

// Writes the library `out`.
void compile(const std::string& text, const std::string& include, const std::string& level,
             const fs::path& out) {
  const std::string stem = fmt::format("{}.{}", out.string(), getpid());
  const fs::path source = stem + ".metal", expanded = stem + ".i", code = stem + ".cpp",
                 log = stem + ".log", library = stem + ".so";
  std::ofstream(source) << text;
  run(fmt::format("{} -E -P -x c++ -nostdinc -I{} {} -D__METAL_VERSION__=310 {} -o {}", compiler(),
                  msl_folder(), include.empty() ? "" : "-I" + include, source.string(),
                  expanded.string()),
      log, "the text of kernels");
  std::ofstream(code) << translate(read_file(expanded));
  run(fmt::format("{} {} -shared {} -o {}", compiler(), flags(level), code.string(),
                  library.string()),
      log, "kernels");
  fs::rename(library, out);
  for (const fs::path& left : {source, expanded, code, log}) fs::remove(left);
}

std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

fs::path library_folder() {
  const char* temporary = std::getenv("TMPDIR");
  const fs::path folder = fs::path(temporary ? temporary : "/tmp") / "metal-candle-metal-sim";
  fs::create_directories(folder);
  return folder;
}

}  // namespace

std::vector<const Kernel*> load_library(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  const auto* count = static_cast<const int*>(dlsym(library, "metal_sim_kernel_count"));
  const auto* table = static_cast<const Kernel*>(dlsym(library, "metal_sim_kernels"));
  if (count == nullptr || table == nullptr) throw std::runtime_error(path + " is no library");
  std::vector<const Kernel*> kernels;
  for (int i = 0; i < *count; ++i) kernels.push_back(table + i);
  return kernels;
}

std::vector<const Kernel*> compile_text(const std::string& text) {
  // What libraries are made with outlives a process, and so is part of their names.
  static const std::string made_with =
      read_file(msl_folder() + "/metal_stdlib") +
      read_file(METAL_CANDLE_SOURCE_DIR "/tests/metal_sim/library.cpp") + flags(kOfText);
  const fs::path out = library_folder() / fmt::format("{:016x}{:016x}.so", fnv1a(text + made_with),
                                                      fnv1a(made_with + text));
  if (!fs::exists(out)) compile(text, {}, kOfText, out);
  return load_library(out.string());
}

void compile_file(const std::string& source, const std::string& include, const std::string& out) {
  compile(read_file(source), include, kOfFile, out);
}

}  // namespace metal_sim

namespace MTL {

Function* Library::newFunction(const NS::String* name) {
  check();
  const auto it = kernels.find(name->utf8String());
  if (it == kernels.end()) return nullptr;
  auto* function = new Function;
  function->kernel = it->second;
  return function;
}

NS::Array* Library::functionNames() const {
  check();
  auto* names = new NS::Array;
  for (const auto& [name, kernel] : kernels) {
    auto* string = new NS::String;
    string->text = name;
    names->objects.push_back(NS::TransferPtr<NS::Object>(string));
  }
  return names->autorelease();
}

void CompileOptions::setLanguageVersion(LanguageVersion language) {
  check();
  version = language;
}
void CompileOptions::setFastMathEnabled(bool enabled) {
  check();
  fast_math = enabled;
}

namespace {

Library* make_library(const std::function<std::vector<const metal_sim::Kernel*>()>& make,
                      NS::Error** error) {
  try {
    const auto kernels = make();
    auto* library = new Library;
    for (const metal_sim::Kernel* kernel : kernels) library->kernels[kernel->name] = kernel;
    return library;
  } catch (const std::runtime_error& e) {
    if (error != nullptr) *error = NS::Error::make(1, e.what());
    return nullptr;
  }
}

}  // namespace

Library* Device::newLibrary(const NS::URL* url, NS::Error** error) {
  check();
  return make_library([&] { return metal_sim::load_library(url->fileSystemRepresentation()); },
                      error);
}

Library* Device::newLibrary(const NS::String* source, const CompileOptions* options,
                            NS::Error** error) {
  check();
  if (options == nullptr || options->fast_math || options->version < LanguageVersion3_1) {
    metal_sim::violation("kernels are compiled as Metal 3.1, without fast math");
  }
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  ++metal_sim::counters().compiled;
  return make_library([&] { return metal_sim::compile_text(source->utf8String()); }, error);
}

}  // namespace MTL
