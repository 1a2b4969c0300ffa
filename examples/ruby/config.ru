# frozen_string_literal: true

# A Rack application whose workers all show the same totals at /metrics:
#
#   puma --workers 4 --preload config.ru
#   unicorn config.ru
#
# A preloading server opens the store before it forks; without preloading, each worker opens it by itself.

require "pytheus_backend"

backend = PytheusBackend.open(ENV.fetch("STORE_URL", "shm:///dev/shm/shop-metrics"))
use PytheusBackend::Rack::Exporter, backend: backend
use PytheusBackend::Rack::Collector, backend: backend
run ->(_) { [200, { "content-type" => "text/plain" }, ["worker #{Process.pid}\n"]] }
