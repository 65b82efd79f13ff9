// Copyright 2026 The metal-candle authors. SPDX-License-Identifier: Apache-2.0
//
// See peer.h. One line in, one line out.
#include "bench/peer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <utility>

#include "metal_candle/backend/cpu/parallel.h"
#include "metal_candle/core/error.h"

namespace metal_candle::bench {

std::unique_ptr<Peer> Peer::start(const std::string& script, const std::string& framework,
                                  std::string& why, const char* device) {
  const char* python = std::getenv("METAL_CANDLE_PYTHON");
  if (python == nullptr || *python == '\0') python = "python3";
  return start_process({python, "-u", "-c", script, std::to_string(backend::cpu::num_threads()),
                        device, clock_in_use() == Clock::kProcess ? "process" : "wall"},
                       framework, why);
}

std::unique_ptr<Peer> Peer::start_self(std::vector<std::string> arguments, std::string& why) {
  arguments.insert(arguments.begin(), "/proc/self/exe");
  return start_process(std::move(arguments), "metal-candle", why);
}

std::unique_ptr<Peer> Peer::start_process(std::vector<std::string> arguments,
                                          const std::string& framework, std::string& why) {
  int to_peer[2];
  int from_peer[2];
  if (::pipe(to_peer) != 0 || ::pipe(from_peer) != 0) throw IoError("bench: cannot make a pipe");
  // A peer that starts later must not hold these open: this one ends when its input does.
  for (const int fd : {to_peer[0], to_peer[1], from_peer[0], from_peer[1]}) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, to_peer[0], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, from_peer[1], STDOUT_FILENO);
  std::unique_ptr<Peer> peer(new Peer);
  if (::posix_spawnp(&peer->pid_, pointers[0], &files, nullptr, pointers.data(), environ) != 0) {
    peer->pid_ = -1;
  }
  ::posix_spawn_file_actions_destroy(&files);
  ::close(to_peer[0]);
  ::close(from_peer[1]);
  peer->to_peer_ = to_peer[1];
  peer->from_peer_ = from_peer[0];
  const std::string greeting = peer->ask("");
  if (!greeting.starts_with(framework + " ")) {
    why = greeting.empty() ? arguments[0] + " did not start" : greeting;
    return nullptr;
  }
  peer->framework_ = framework;
  peer->version_ = greeting.substr(framework.size() + 1);
  return peer;
}

Peer::~Peer() {
  if (to_peer_ >= 0) ::close(to_peer_);
  if (from_peer_ >= 0) ::close(from_peer_);
  if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
}

std::string Peer::ask(const std::string& line) {
  const std::string message = line + "\n";
  if (!line.empty() &&
      ::write(to_peer_, message.data(), message.size()) != static_cast<ssize_t>(message.size())) {
    return {};
  }
  for (;;) {
    const std::size_t end = buffered_.find('\n');
    if (end != std::string::npos) {
      std::string answer = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return answer;
    }
    char chunk[4096];
    const ssize_t count = ::read(from_peer_, chunk, sizeof(chunk));
    if (count <= 0) return {};
    buffered_.append(chunk, static_cast<std::size_t>(count));
  }
}

double Peer::measure(const std::string& line) {
  const std::string answer = ask(line);
  char* end = nullptr;
  const double number = std::strtod(answer.c_str(), &end);
  if (answer.empty() || end == answer.c_str()) {
    throw Error(fmt::format("bench: {} failed on '{}': {}", framework_, line,
                            answer.empty() ? "it ended" : answer));
  }
  return number;
}

Contestant Peer::contestant(const std::string& case_name) {
  return [this, case_name, failed = false]() mutable {
    if (failed) return std::numeric_limits<double>::quiet_NaN();
    try {
      return measure(case_name);
    } catch (const Error& error) {
      std::fputs((std::string(error.what()) + "\n").c_str(), stderr);
      failed = true;
      return std::numeric_limits<double>::quiet_NaN();
    }
  };
}

}  // namespace metal_candle::bench
