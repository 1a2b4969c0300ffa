# frozen_string_literal: true

# Counts with the metrics engine libpytheus_backend_rs:
#
#   backend = PytheusBackend.open("shm:///dev/shm/shop-metrics")
#   orders = backend.counter("shop_orders_total", "Orders.", labels: [:payment])
#   orders.increment(labels: { payment: "card" })
#   puts backend.render.text
module PytheusBackend
  # Opens a store; see Backend.open.
  def self.open(...)
    Backend.open(...)
  end
end

require_relative "pytheus_backend/version"
require_relative "pytheus_backend/error"
require_relative "pytheus_backend/library"
require_relative "pytheus_backend/log"
require_relative "pytheus_backend/family"
require_relative "pytheus_backend/metric"
require_relative "pytheus_backend/backend"
require_relative "pytheus_backend/store"
require_relative "pytheus_backend/rack/collector"
require_relative "pytheus_backend/rack/exporter"
