// llama.cpp's log: silent unless asked for, its last error kept for our own messages.
#pragma once

#include <string>

namespace trimode::Log {

void install();                           // once, at import
void set_verbose(bool verbose);           // on stderr; what a file wrote into it drives no terminal and forges no line
void set_json(bool json);                 // an object per line, as in the server's log
void set_file(const std::string & path);  // in place of stderr, appended; "": stderr. Throws std::runtime_error
void clear_error();
std::string last_error();  // "no reason given" when there was none

// Keeps what libllama logs in this thread while it lives; the log has it too.
class Recording {
  public:
    Recording();
    ~Recording();
    Recording(const Recording &) = delete;
    Recording & operator=(const Recording &) = delete;
    const std::string & text() const { return text_; }

  private:
    std::string text_;
};

}  // namespace trimode::Log
