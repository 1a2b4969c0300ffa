# frozen_string_literal: true

# The application of servers_spec.rb. A preloading server loads this file before it forks its workers.
require "pytheus_backend"

backend = PytheusBackend.open(ENV.fetch("STORE_URL"))
use PytheusBackend::Rack::Exporter, backend: backend
use PytheusBackend::Rack::Collector, backend: backend
run ->(_) { [200, { "content-type" => "text/plain" }, [Process.pid.to_s]] }
