// llama.cpp's log: silent unless asked for, its last error kept for our own messages.
#pragma once

#include <string>

namespace trimode::Log {

void install();  // once, at import
void set_verbose(bool verbose);
void clear_error();
std::string last_error();  // "no reason given" when there was none

}  // namespace trimode::Log
