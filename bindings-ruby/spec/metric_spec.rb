# frozen_string_literal: true

RSpec.describe "Metrics" do
  let(:backend) { PytheusBackend.open("memory:") }

  describe PytheusBackend::GaugeHistogram do
    it "takes observations out again, and shows nothing below 0" do
      ages = backend.gauge_histogram("age_seconds", "Ages.", labels: [:queue], unit: "seconds", buckets: [1, 10])
      [0.5, 5, 50].each { |age| ages.observe(age, labels: { queue: "mail" }) }
      ages.unobserve(5, labels: { queue: "mail" })
      expect(ages.count(labels: { queue: "mail" })).to eq 2
      expect(ages.values.values).to eq [{ buckets: { 1.0 => 1.0, 10.0 => 1.0, Float::INFINITY => 2.0 }, count: 2.0,
                                         sum: 50.5 }]
      text = backend.render(accept: "application/openmetrics-text;version=1.0.0").text
      expect(text).to include "# TYPE age_seconds gaugehistogram\n# UNIT age_seconds seconds\n"
      expect(text).to include %(age_seconds_gcount{queue="mail"} 2\n)
      2.times { ages.unobserve(0.5, labels: { queue: "mail" }) }
      expect(ages.bucket(1, labels: { queue: "mail" })).to eq 0
    end
  end

  describe PytheusBackend::StateSet do
    let(:job) { backend.state_set("job", "Job.", states: %i[idle busy], labels: [:worker]) }

    it "switches states" do
      job.set(:idle, labels: { worker: 1 })
      job.set("busy", true, labels: { worker: 1 })
      job.set(:idle, false, labels: { worker: 1 })
      expect(job.on?(:busy, labels: { worker: 1 })).to be true
      expect(backend.render.text).to include %(job{worker="1",job="idle"} 0\njob{worker="1",job="busy"} 1\n)
      job.with_labels(worker: 1).choose(:idle)
      expect(job.values).to eq({ worker: "1" } => { idle: true, busy: false })
    end

    it "raises for a state that was not declared, and for a wrong declaration" do
      expect { job.set(:none, labels: { worker: 1 }) }.to raise_error(ArgumentError, /job: set none/)
      expect { job.choose(:none, labels: { worker: 1 }) }.to raise_error(ArgumentError, /job: choose none/)
      expect { job.on?(:none, labels: { worker: 1 }) }.to raise_error(ArgumentError, /expected one of idle, busy/)
      expect { backend.state_set("b", states: []) }.to raise_error(ArgumentError, /1 to 52 states/)
      expect { backend.state_set("b", states: %w[a a]) }.to raise_error(ArgumentError, /given twice/)
      expect { backend.state_set("a:b", states: %w[a]) }.to raise_error(ArgumentError, /without/)
    end
  end

  describe PytheusBackend::Info do
    it "shows the labels that were set last" do
      build = backend.info("build", "Build.", labels: [:part])
      expect(build.values).to eq []
      build.set({ version: "1" }, labels: { part: "core" })
      build.with_labels(part: "core").set({ version: 2, "commit" => "a" })
      expect(build.values).to eq [{ commit: "a", part: "core", version: "2" }]
      expect(backend.render.text).to include %(build_info{commit="a",part="core",version="2"} 1\n)
      expect(build.remove(part: "core")).to be true
      expect(build.values).to eq []
    end

    it "raises for labels that cannot be shown" do
      build = backend.info("build", "Build.")
      expect { build.set({}) }.to raise_error(ArgumentError, /at least one label/)
      expect { build.set({ __x: "1" }) }.to raise_error(ArgumentError, /reserved/)
      expect { build.set({ version: "1" }, labels: { part: 1 }) }.to raise_error(ArgumentError, /build has the labels/)
    end
  end

  describe PytheusBackend::Counter do
    let(:requests) { backend.counter("requests_total", "Requests.", labels: %i[method code]) }

    it "counts by label set, in whatever order and type the labels come" do
      requests.increment(labels: { method: "GET", code: 200 })
      requests.increment(by: 2.5, labels: { "code" => "200", "method" => :GET })
      expect(requests.get(labels: { method: "GET", code: "200" })).to eq 3.5
      expect(requests.values).to eq({ method: "GET", code: "200" } => 3.5)
    end

    it "is in the scrape before it first counts, if it has no labels" do
      backend.counter("idle_total", "Idle.")
      expect(backend.render.text).to include "\nidle_total 0\n"
    end

    it "raises for mistakes of the program, naming metric and labels" do
      expect { requests.increment(labels: { method: "GET" }) }
        .to raise_error(PytheusBackend::InvalidArgumentError, /requests_total has the labels \[:method, :code\]/)
      expect { requests.increment(labels: { method: "GET", code: 1, path: "/" }) }.to raise_error(PytheusBackend::Error)
      expect { requests.increment(by: -1, labels: { method: "GET", code: 1 }) }
        .to raise_error(ArgumentError, /requests_total: increment by -1/)
      expect { requests.increment(by: "much", labels: { method: "GET", code: 1 }) }.to raise_error(TypeError)
      expect { requests.increment(by: nil, labels: { method: "GET", code: 1 }) }.to raise_error(TypeError)
    end

    it "keeps label values as they were when they counted" do
      method = +""
      # A small Hash tells keys apart by a byte of their hash: a key that changed is mistaken in one of 256
      # cases.
      counted = Array.new(2000) do |i|
        requests.clear
        requests.increment(labels: { method: method.replace("GET#{i}"), code: 200 })
        requests.increment(labels: { method: method.replace("PUT#{i}"), code: 200 })
        requests.values.values
      end
      expect(counted.uniq).to eq [[1.0, 1.0]]
    end

    it "takes any bytes as a label value" do
      texts = ["\xFF", "\xFF".b, "a\0b", "caf\u00e9".encode("ISO-8859-1"), "caf\u00e9".b, "\u{1F600}"]
      texts.each { |text| requests.increment(labels: { method: text, code: 1 }) }
      expect(requests.values.keys.map { |labels| labels[:method] })
        .to contain_exactly("\uFFFD", "a\uFFFDb", "caf\u00e9", "\u{1F600}")
      expect(requests.values.values.sum).to eq texts.size
    end

    it "fills in labels with with_labels" do
      gets = requests.with_labels(method: "GET")
      gets.increment(labels: { code: 200 })
      gets.with_labels("code" => 200).increment(by: 2)
      expect(requests.values).to eq({ method: "GET", code: "200" } => 3.0)
      expect { requests.with_labels(path: "/") }
        .to raise_error(PytheusBackend::InvalidArgumentError, "requests_total has no label path")
    end

    it "counts what threads count at the same time, in new label sets too" do
      threads = Array.new(8) do
        Thread.new { 500.times { |i| requests.increment(labels: { method: "GET", code: i % 50 }) } }
      end
      threads.each(&:join)
      expect(requests.values.values).to eq [80.0] * 50
    end

    it "counts in a signal handler, a new label set too" do
      failure = :not_called
      counter = requests
      before = trap(:USR2) do
        counter.increment(labels: { method: "GET", code: 500 })
        failure = nil
      rescue StandardError => e
        failure = e
      end
      Process.kill(:USR2, Process.pid)
      wait_until("the handler has run") { failure != :not_called }
      expect(failure).to be_nil
      expect(requests.values).to eq({ method: "GET", code: "500" } => 1.0)
    ensure
      trap(:USR2, before)
    end

    it "removes one label set or all, and counts from zero afterwards" do
      [1, 2].each { |code| requests.increment(labels: { method: "GET", code: code }) }
      expect(requests.remove(method: "GET", code: 1)).to be true
      expect(requests.remove(method: "GET", code: 1)).to be false
      expect(requests.values).to eq({ method: "GET", code: "2" } => 1.0)
      requests.increment(labels: { method: "GET", code: 1 })
      expect(requests.get(labels: { method: "GET", code: 1 })).to eq 1.0
      requests.clear
      expect(requests.values).to be_empty
      requests.increment(labels: { method: "GET", code: 1 })
      expect(requests.values).to eq({ method: "GET", code: "1" } => 1.0)
    end
  end

  describe PytheusBackend::Gauge do
    let(:queue) { backend.gauge("queue_length", "Jobs.", labels: [:name]) }

    it "goes up and down" do
      mails = queue.with_labels(name: "mails")
      mails.set(10)
      mails.increment
      mails.decrement(by: 3)
      expect(mails.get).to eq 8.0
    end

    it "is set to the current time" do
      before = Time.now.to_f
      queue.set_to_current_time(labels: { name: "mails" })
      expect(queue.get(labels: { name: "mails" })).to be_between(before, Time.now.to_f)
    end
  end

  describe PytheusBackend::Histogram do
    let(:seconds) { backend.histogram("job_seconds", "Jobs.", labels: [:name], buckets: [0.5, 1], unit: "seconds") }

    it "observes" do
      [0.25, 1, 8].each { |value| seconds.observe(value, labels: { name: "mail" }) }
      mail = seconds.with_labels(name: "mail")
      expect([mail.sum, mail.count, mail.bucket(0.5), mail.bucket(1), mail.bucket(Float::INFINITY)])
        .to eq [9.25, 3, 1, 2, 3]
      expect(seconds.values).to eq(
        { name: "mail" } => { buckets: { 0.5 => 1.0, 1.0 => 2.0, Float::INFINITY => 3.0 }, count: 3.0, sum: 9.25 }
      )
      expect { mail.bucket(7) }.to raise_error(KeyError)
    end

    it "has the usual buckets if none are named, and says so" do
      latency = backend.histogram("latency_seconds")
      latency.observe(0.3)
      expect(latency.buckets).to eq PytheusBackend::Backend::DEFAULT_BUCKETS
      expect(latency.bucket(0.5)).to eq 1
    end

    it "needs a bucket bound" do
      expect { backend.histogram("none_seconds", buckets: []) }
        .to raise_error(PytheusBackend::InvalidArgumentError, "none_seconds needs at least one bucket bound")
    end

    it "shows the process" do
      backend.process_metrics("shop")
      expect(backend.render.text).to match(/^shop_process_resident_memory_bytes \d{6,}$/)
      expect { backend.process_metrics("a\0b") }.to raise_error(ArgumentError)
    end

    it "merges the values of processes by the mode of a gauge" do
      jobs = backend.gauge("jobs", "Jobs.", mode: :livesum)
      jobs.set(3)
      expect(backend.render.text).to include "\njobs 3\n"
      expect { backend.gauge("wrong", mode: :odd) }
        .to raise_error(PytheusBackend::InvalidArgumentError, /the mode is :odd: expected one of all, liveall/)
      expect { backend.gauge("wrong", labels: [:pid], mode: "all") }
        .to raise_error(PytheusBackend::InvalidArgumentError, /"pid"/)
    end

    it "takes the time after which a series ends" do
      backend.gauge("short", labels: [:a], series_ttl: 60).set(1, labels: { a: "x" })
      expect(backend.render.text).to include "\nshort{a=\"x\"} 1\n"
      backend.counter("endless_total", series_ttl: Float::INFINITY)
      [0, -1, 0.5, Float::NAN, 1e12].each do |wrong|
        expect { backend.counter("wrong", series_ttl: wrong) }
          .to raise_error(PytheusBackend::InvalidArgumentError, /series_ttl/)
      end
      expect { backend.gauge("wrong", mode: :max, series_ttl: 60) }
        .to raise_error(PytheusBackend::InvalidArgumentError, /a gauge with a mode has no series_ttl/)
    end

    it "keeps exemplars if it was declared so" do
      sent = backend.counter("sent_total", labels: [:to], exemplars: true)
      sent.increment(by: 2, labels: { to: "x" }, exemplar: { trace_id: "4bf92f3577b34da6", "span_id" => "größe\n" })
      sent.with_labels(to: "x").increment(exemplar: {})
      times = backend.histogram("times", buckets: [1, 2], exemplars: true)
      times.observe(1.5, exemplar: { trace_id: :a })
      text = backend.render(accept: "application/openmetrics-text;version=1.0.0").text
      expect(text).to match(/^sent_total\{to="x"\} 3 # \{trace_id="4bf92f3577b34da6",span_id="größe\\n"\} 2 \d+\.\d+$/)
      expect(text).to match(/^times_bucket\{le="2\.0"\} 1 # \{trace_id="a"\} 1\.5 \d+\.\d{3}$/)
      expect(text).to include "\ntimes_bucket{le=\"1.0\"} 0\n"
      expect(backend.render.text).not_to include "# {"
    end

    it "raises for exemplars that cannot be shown, and counts nothing then" do
      kept = backend.counter("kept_total", exemplars: true)
      { { trace_id: "x" * 121 } => /have 129 characters: expected at most 128/, { "a b" => 1 } => /a b/,
        { __a: 1 } => /reserved/ }.each do |exemplar, reason|
        expect { kept.increment(exemplar: exemplar) }.to raise_error(PytheusBackend::InvalidArgumentError, reason)
      end
      expect { kept.increment(by: -1, exemplar: { a: 1 }) }.to raise_error(PytheusBackend::InvalidArgumentError, /-1/)
      expect(kept.get).to eq 0
      expect { backend.counter("plain_total").increment(exemplar: { a: 1 }) }
        .to raise_error(PytheusBackend::WrongTypeError, /declared without exemplars/)
      expect { backend.gauge_histogram("ages").observe(1, exemplar: { a: 1 }) }
        .to raise_error(PytheusBackend::WrongTypeError, /no such operation/)
    end

    it "has native buckets, alone or beside classic ones" do
      alone = backend.histogram("alone_seconds", "Alone.", native: true)
      alone.observe(3)
      expect(alone.buckets).to eq []
      expect(alone.values).to eq({} => { buckets: { Float::INFINITY => 1.0 }, count: 1.0, sum: 3.0 })
      accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
      # The schema, 3, and the zero threshold, 2^-128.
      schema = "\x28\x06\x31\0\0\0\0\0\0\xf0\x37".b
      expect(backend.render(accept: accept).text).to include schema
      both = backend.histogram("both_seconds", native: true, buckets: [1], native_resolution: 4, native_size: 16)
      both.observe(0.5)
      expect(both.bucket(1)).to eq 1
    end

    it "raises for silly options of native buckets" do
      { { native_resolution: 3 } => /resolution of a native histogram is 3: expected 1, 2/,
        { native_resolution: 0 } => /native_resolution is 0/, { native_size: 15 } => /size of a native histogram is 15/,
        { native_size: 2.5 } => /native_size is 2.5/ }.each do |options, reason|
        expect { backend.histogram("wrong", native: true, **options) }.to raise_error(ArgumentError, reason)
      end
    end

    it "measures a block and returns its value, also of one that raises" do
      expect(seconds.time(labels: { name: "mail" }) { :sent }).to be :sent
      expect { seconds.time(labels: { name: "mail" }) { raise "lost" } }.to raise_error("lost")
      expect(seconds.count(labels: { name: "mail" })).to eq 2
      expect(seconds.sum(labels: { name: "mail" })).to be >= 0
    end
  end

  describe PytheusBackend::Summary do
    it "counts and sums" do
      sizes = backend.summary("size_bytes", "Sizes.")
      sizes.observe(3)
      sizes.observe(4)
      expect([sizes.count, sizes.sum]).to eq [2, 7]
      expect(sizes.values).to eq({} => { count: 2.0, sum: 7.0 })
    end
  end

  context "when the store takes no more label sets" do
    include_context "with a log"

    it "counts on in the process, without an exception, and says so once" do
      backend = PytheusBackend.open("shm://#{@directory}/metrics", size_limit: 1 << 20)
      paths = backend.counter("paths_total", "Paths.", labels: [:path])
      20.times { |i| 2.times { paths.increment(labels: { path: "#{i}#{"x" * 100_000}" }) } }
      stored = paths.values.size
      expect(stored).to be_between(1, 19)
      expect(backend.statistics[:metrics_held_back]).to eq 20 - stored
      expect(paths.get(labels: { path: "19#{"x" * 100_000}" })).to eq 2
      expect(log.string.lines.size).to eq 1
      expect(log.string).to include "paths_total"
    end
  end
end
