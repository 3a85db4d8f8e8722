// A mapped file that gets shorter, or whose disk fails, while it is in use: its pages are gone, and whoever touches one
// gets SIGBUS. Without a handler the process would end without a word.
#pragma once

namespace trimode::LostFile {

// At import. On SIGBUS in a mapped file one line on stderr names it, and the process ends with exit code 1. Anything
// else, and a handler that the program has itself, stays as it is.
void install();

}  // namespace trimode::LostFile
