#pragma once

#include <stdexcept>
#include <string>

namespace meed {

/// Base of every exception this project throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user's recipe or command line is wrong. The message names file, line and key. Exit code 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// An input file (dataset, tokenizer, checkpoint) is missing, truncated or malformed. Exit code 1.
class DataError : public Error {
 public:
  using Error::Error;
};

/// A collective failed or another process died. Exit code 1.
class DistributedError : public Error {
 public:
  using Error::Error;
};

/// A mistake of this project's, not of its user.
class InternalError : public Error {
 public:
  using Error::Error;
};

[[noreturn]] void fail_check(const char* file, int line, const char* condition,
                             const std::string& what);

}  // namespace meed

#define MEED_CHECK(condition, what)                                             \
  do {                                                                          \
    if (!(condition)) ::meed::fail_check(__FILE__, __LINE__, #condition, what); \
  } while (false)
