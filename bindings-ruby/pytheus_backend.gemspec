# frozen_string_literal: true

require_relative "lib/pytheus_backend/version"

Gem::Specification.new do |spec|
  spec.name = "pytheus_backend"
  spec.version = PytheusBackend::VERSION
  spec.authors = ["pytheus-backend-rs"]
  spec.summary = "Prometheus metrics of forking servers, kept in shared memory or Redis"
  spec.description = <<~TEXT
    Counters, gauges, histograms and summaries whose values all processes of a service share. The engine is the
    library libpytheus_backend_rs; this gem calls it through ffi. It brings a Rack middleware, a Rack exporter and a
    data store for the prometheus-client gem.
  TEXT
  spec.licenses = ["MIT", "Apache-2.0"]
  spec.required_ruby_version = ">= 3.0"
  spec.files = Dir.chdir(__dir__) { Dir["lib/**/*.rb"] + ["README.md"] }
  spec.require_paths = ["lib"]
  spec.add_dependency "ffi", "~> 1.15"
end
