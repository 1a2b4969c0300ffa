# frozen_string_literal: true

# Runs the prometheus-client gem's own specs with PytheusBackend::Store in place of its stores:
#
#   rspec -I lib -I GEM/lib -I GEM/spec -r ./spec/support/client_ruby.rb GEM/spec
#
# GEM is a checkout of github.com/prometheus/client_ruby. `make test-ruby-client GEM=…` does it.

require "pytheus_backend"
require "prometheus/client"
require "prometheus/client/data_stores/direct_file_store"
require "prometheus/client/data_stores/synchronized"
require "timecop"
require "fileutils"

[Prometheus::Client::DataStores::Synchronized, Prometheus::Client::DataStores::DirectFileStore].each do |store|
  store.send(:remove_const, :InvalidStoreSettingsError)
  store.const_set(:InvalidStoreSettingsError, PytheusBackend::Store::InvalidStoreSettingsError)
end

# Each spec makes a new store and expects it to be empty.
Prometheus::Client::DataStores::Synchronized.define_singleton_method(:new) { PytheusBackend::Store.new("memory:") }
Prometheus::Client::DataStores::DirectFileStore.define_singleton_method(:new) do |dir:|
  FileUtils.mkdir_p(dir)
  PytheusBackend::Store.new("shm://#{dir}/metrics")
end

# The specs that this store does not pass, by the reason. If one of them passes, rspec reports a failure.
OTHERWISE = {
  "series are sorted by their labels, and a gauge has the label pid, as with DirectFileStore" => [
    "Prometheus::Client::Formats::Text.marshal returns a Text format version 0.0.4 compatible representation",
    "Prometheus::Middleware::Collector includes SCRIPT_NAME in the path if provided"
  ],
  "a counter is one value of all processes; the gem itself never sets one" => [
    "Prometheus::Client::DataStores::DirectFileStore for a non-gauge metric sums values from different processes " \
    "by default"
  ],
  "it looks at the files or private methods of DirectFileStore" => [
    "Prometheus::Client::DataStores::DirectFileStore when process is forked opens a new internal store to avoid two " \
    "processes using the same file",
    "Prometheus::Client::DataStores::DirectFileStore resizes the File if metrics get too big",
    "Prometheus::Client::DataStores::DirectFileStore raises when aggregating if we get to that that point with an " \
    "invalid aggregation mode"
  ]
}.flat_map { |reason, specs| specs.map { |spec| [spec, reason] } }.to_h.freeze

RSpec.configure do |config|
  config.before do |example|
    reason = OTHERWISE[example.full_description]
    pending(reason) if reason
  end
end
