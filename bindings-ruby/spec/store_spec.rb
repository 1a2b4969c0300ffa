# frozen_string_literal: true

begin
  require "prometheus/client"
rescue LoadError
  require_relative "support/prometheus_client_stand_in"
end

RSpec.describe PytheusBackend::Store do
  include_context "with a log"

  let(:url) { "shm://#{@directory}/metrics" }
  let(:store) { described_class.new(url) }
  let(:client) { Prometheus::Client }

  before { client.config.data_store = store }

  def counter(name = :orders_total, **options)
    client::Counter.new(name, docstring: "Orders.", **options)
  end

  def gauge(aggregation = nil, **options)
    settings = { aggregation: aggregation }.compact
    client::Gauge.new(:queue_length, docstring: "Jobs.", store_settings: settings, **options)
  end

  def histogram(**options)
    client::Histogram.new(:job_seconds, docstring: "Jobs.", buckets: [0.5, 1, 2.5], **options)
  end

  # Runs the block in another process that opens the store by itself, as a worker without preloading does.
  def in_other_process
    in_child do
      client.config.data_store = described_class.new(url)
      yield
    end
  end

  it "shows one total of all processes" do
    orders = counter(labels: [:payment])
    orders.increment(labels: { payment: "card" })
    in_child { orders.increment(by: 2, labels: { payment: "card" }) }
    in_other_process { counter(labels: [:payment]).increment(by: 4, labels: { payment: :card }) }
    expect(orders.get(labels: { payment: "card" })).to eql 7.0
    expect(orders.values).to eq({ payment: "card" } => 7.0)
    expect(orders.values[{ payment: "cash" }]).to eql 0.0
  end

  it "returns the new value of an increment, but not with a server, which would cost a round trip" do
    expect(counter.increment).to eql 1.0
    in_child { counter.increment(by: 2) }
    expect(counter.increment(by: 0.5)).to eql 3.5
    expect { counter.increment(by: -1) }.to raise_error(StandardError)
    store = described_class.new(shared_stores.fetch("Redis"))
    client.config.data_store = store
    expect(counter.increment).to be_nil
    expect(counter.get).to eql 1.0
  end

  it "keeps what was counted when another process starts, and with it declares the same metrics" do
    orders = counter
    jobs = histogram
    gauge = gauge(:most_recent)
    orders.increment(by: 5)
    jobs.observe(1)
    gauge.set(3)
    in_other_process do
      counter
      histogram
      gauge(:most_recent)
    end
    expect(orders.get).to eq 5
    expect(jobs.get).to eq("0.5" => 0.0, "1" => 1.0, "2.5" => 1.0, "+Inf" => 1.0, "sum" => 1.0)
    expect(gauge.get).to eq 3
  end

  it "has a metric without labels in the scrape from the start" do
    counter
    gauge
    histogram
    expect(store.backend.render.text).to include("\norders_total 0\n", "\nqueue_length{pid=\"#{Process.pid}\"} 0\n",
                                                 "\njob_seconds_count 0\n")
  end

  it "observes once for the two increments of the gem" do
    jobs = histogram(labels: [:name])
    [0.25, 1, 7].each { |value| jobs.observe(value, labels: { name: "mail" }) }
    in_child { jobs.observe(0.5, labels: { name: "mail" }) }
    expected = { "0.5" => 2.0, "1" => 3.0, "2.5" => 3.0, "+Inf" => 4.0, "sum" => 8.75 }
    expect(jobs.get(labels: { name: "mail" })).to eq expected
    expect(jobs.values).to eq({ name: "mail" } => expected)

    sizes = client::Summary.new(:size_bytes, docstring: "Sizes.")
    [3, 4].each { |value| sizes.observe(value) }
    expect(sizes.get).to eq("count" => 2.0, "sum" => 7.0)
  end

  it "gives other scrapers of the store families of the right type, with help" do
    counter(labels: [:payment]).increment(labels: { payment: "card" })
    histogram.observe(0.25)
    expect(PytheusBackend.open(url).render.text).to eq <<~TEXT
      # HELP orders_total Orders.
      # TYPE orders_total counter
      orders_total{payment="card"} 1
      # HELP job_seconds Jobs.
      # TYPE job_seconds histogram
      job_seconds_bucket{le="0.5"} 1
      job_seconds_bucket{le="1"} 1
      job_seconds_bucket{le="2.5"} 1
      job_seconds_bucket{le="+Inf"} 1
      job_seconds_sum 0.25
      job_seconds_count 1
    TEXT
  end

  context "with a gauge" do
    # Sets the gauge to 5 here and to 3, then 2, in two other processes.
    def values_of(gauge)
      gauge.set(5, labels: { name: "mail" })
      [3, 2].each { |value| in_child { gauge.set(value, labels: { name: "mail" }) } }
      gauge.values
    end

    it "shows each process by default" do
      values = values_of(gauge(labels: [:name]))
      expect(values.values).to contain_exactly(5.0, 3.0, 2.0)
      expect(values).to include({ name: "mail", pid: Process.pid.to_s } => 5.0)
    end

    { sum: 10.0, min: 2.0, max: 5.0, most_recent: 2.0 }.each do |aggregation, value|
      it "shows the #{aggregation} of all processes" do
        expect(values_of(gauge(aggregation, labels: [:name]))).to eq({ name: "mail" } => value)
      end
    end

    it "sets zero where the program says so, most recently too" do
      last = gauge(:most_recent)
      last.set(4)
      in_child { last.set(0) }
      expect(last.get).to eq 0
    end

    it "increments the value of its process alone" do
      jobs = gauge(labels: [:name])
      jobs.set(5, labels: { name: "mail" })
      in_child { jobs.increment(labels: { name: "mail" }) }
      expect(jobs.get(labels: { name: "mail" })).to eq 5
      expect(jobs.values.values).to contain_exactly(5.0, 1.0)
      expect { gauge(:most_recent).increment }.to raise_error(described_class::InvalidStoreSettingsError)
    end

    ["shared memory", "Redis"].each do |kind|
      it "forgets the values of a process that has ended with #{kind}" do
        client.config.data_store = store = described_class.new(shared_stores.fetch(kind))
        values_of(jobs = gauge(labels: [:name]))
        ended = jobs.values.keys.map { |labels| labels[:pid] } - [Process.pid.to_s]
        expect(ended.size).to eq 2
        ended.each { |process| store.forget(process.to_i) }
        expect(jobs.values).to eq({ name: "mail", pid: Process.pid.to_s } => 5.0)
        store.forget
        expect(jobs.values).to be_empty
        jobs.set(1, labels: { name: "mail" })
        expect(jobs.values.values).to eq [1.0]
      end
    end

    it "names processes as it is told to" do
      client.config.data_store = described_class.new(url, process: -> { "host-1" })
      gauge.set(1)
      expect(store.backend.render.text).to include 'queue_length{pid="host-1"} 1'
    end
  end

  it "refuses settings that it does not know" do
    expect { counter(store_settings: { aggregation: :average }) }.to raise_error(/:aggregation is one of .*:average/)
    expect { counter(store_settings: { retention: 1 }) }.to raise_error(/:retention/)
    expect { counter(store_settings: { aggregation: :most_recent }) }.to raise_error(/for gauges/)
    expect { counter(store_settings: { aggregation: :all }) }.not_to raise_error
  end

  it "keeps values of metrics whose labels nothing declared" do
    metric = store.for_metric(:learned, metric_type: :counter)
    expect(metric.all_values).to be_empty
    expect(metric.get(labels: { b: "1", a: "2" })).to eql 0.0
    metric.increment(labels: { b: "1", a: "2" })
    metric.increment(labels: { a: "2", b: "1" }, by: 2)
    metric.set(labels: { b: "2", a: "2" }, val: 5)
    metric.synchronize { metric.increment(labels: { a: "2", b: "2" }) }
    expect(metric.all_values).to eql({ a: "2", b: "1" } => 3.0, { a: "2", b: "2" } => 6.0)
  end

  it "accepts bounds that the engine does not" do
    jobs = client::Histogram.new(:odd_seconds, docstring: "Jobs.", buckets: [1, 1, 2])
    jobs.observe(1.5)
    expect(jobs.get).to include("2" => 1.0, "+Inf" => 1.0, "sum" => 1.5)
    jobs = client::Histogram.new(:no_bounds_seconds, docstring: "Jobs.", buckets: [])
    jobs.observe(1.5)
    expect(jobs.get).to eq("+Inf" => 1.0, "sum" => 1.5)
  end

  it "counts a metric that other processes have declared otherwise in its own process, and says so" do
    counter.increment(by: 7)
    in_other_process do
      mine = client::Gauge.new(:orders_total, docstring: "Now a gauge.", store_settings: { aggregation: :max })
      mine.set(3)
      exit(false) unless mine.get == 3 && log.string.include?("orders_total counts in this process alone")
    end
    expect(store.backend.render.text).to include "orders_total 7"
  end

  it "lets two metrics of one name live their own lives in memory, as the gem's own stores do" do
    client.config.data_store = described_class.new("memory:")
    first = counter
    second = counter(labels: [:payment])
    first.increment
    expect([first.get, second.get(labels: { payment: "card" })]).to eq [1, 0]
  end

  ["shared memory", "Redis"].each do |kind|
    it "is exact with #{kind} when processes are killed" do
      client.config.data_store = store = described_class.new(shared_stores.fetch(kind))
      orders = counter
      acknowledged = 3.times.sum do
        reader, writer = IO.pipe
        child = fork do
          loop do
            orders.increment
            store.backend.flush if kind == "Redis"
            writer.write("x")
          end
        end
        writer.close
        sleep 0.05
        Process.kill(:KILL, child)
        Process.wait(child)
        reader.read.size
      end
      # Each kill may have interrupted one increment before it was acknowledged.
      expect(orders.get).to be_between(acknowledged, acknowledged + 3)
    end
  end
end
