// Counts once with the C++ classes and prints the scrape.
#include <pytheus_backend_rs.hpp>

#include <iostream>

int main() {
  pytheus::Backend backend("memory:");
  pytheus::Counter counter = backend.counter("consumed_total", "").with();
  counter.inc();
  std::cout << backend.render().text;
}
