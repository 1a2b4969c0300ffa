# frozen_string_literal: true

# Counts orders in a shop, and prints what Prometheus would scrape.
#
#   ruby count.rb                              keeps the values in this process
#   ruby count.rb redis://127.0.0.1:6379       keeps them on a Redis server, shared with other processes

$LOAD_PATH.unshift File.expand_path("../../bindings-ruby/lib", __dir__) # not needed with the gem installed
require "pytheus_backend"

begin
  PytheusBackend.open(ARGV.fetch(0, "memory:")) do |backend|
    orders = backend.counter("shop_orders_total", "Orders, by the way they were paid.", labels: [:payment])
    durations = backend.histogram("shop_order_seconds", "How long an order took.", buckets: [0.1, 0.5, 2])

    { "card" => [0.25, 0.0625, 3], "cash" => [0.5] }.each do |payment, seconds|
      seconds.each do |duration|
        orders.increment(labels: { payment: payment })
        durations.observe(duration)
      end
    end

    puts backend.render.text
  end
rescue PytheusBackend::Error => e
  abort e.message
end
