# frozen_string_literal: true

RSpec.describe PytheusBackend::Backend do
  it "yields itself to a block, returns its value and is closed behind it" do
    kept = nil
    result = PytheusBackend.open("memory:") do |backend|
      kept = backend
      expect(backend).not_to be_closed
      :done
    end
    expect(result).to be :done
    expect(kept).to be_closed
    expect { kept.close }.not_to raise_error
  end

  it "sends everything when it is closed" do
    url = RedisServer.fresh_url
    PytheusBackend.open(url) { |backend| backend.counter("sent_total").increment(by: 7) }
    expect(PytheusBackend.open(url).render.text).to include "\nsent_total 7\n"
  end

  it "takes options of the store as keywords" do
    url = RedisServer.fresh_url
    PytheusBackend.open(url, key_prefix: "a&b=%/ ") { |backend| backend.counter("mine_total").increment }
    PytheusBackend.open("#{url}?db=0", key_prefix: "a&b=%/ ") do |backend|
      expect(backend.render.text).to include "mine_total 1"
    end
    expect(PytheusBackend.open(url).render.text).not_to include "mine_total"
  end

  it "raises by what went wrong" do
    expect { PytheusBackend.open("nowhere:") }.to raise_error(PytheusBackend::ConfigurationError, /nowhere/)
    expect { PytheusBackend.open("redis://127.0.0.1:1") }
      .to raise_error(PytheusBackend::UnavailableError, /127.0.0.1:1/)
    PytheusBackend.open do |backend|
      backend.counter("a_total")
      expect { backend.gauge("a_total") }.to raise_error(PytheusBackend::ConflictError, /a_total/)
      expect { backend.counter("a\0b") }.to raise_error(PytheusBackend::InvalidArgumentError, /NUL/)
      expect { backend.counter("1") }.to raise_error(PytheusBackend::InvalidArgumentError)
      expect { backend.histogram("h", buckets: [2, 1]) }.to raise_error(PytheusBackend::InvalidArgumentError)
    end
    expect(PytheusBackend::ConflictError.include?(PytheusBackend::Error)).to be true
  end

  it "renders in the format of the Accept header, with a prefix" do
    PytheusBackend.open do |backend|
      backend.counter("a_total", "Gr\u00fc\u00dfe.").increment
      expect(backend.render.to_a).to eq ["# HELP a_total Gr\u00fc\u00dfe.\n# TYPE a_total counter\na_total 1\n",
                                         "text/plain; version=0.0.4; charset=utf-8"]
      metrics = backend.render(accept: "application/openmetrics-text; version=1.0.0", prefix: "shop")
      expect(metrics.content_type).to start_with "application/openmetrics-text; version=1.0.0"
      expect(metrics.text).to include("\nshop_a_total 1").and end_with("# EOF\n")
    end
  end

  it "shows when series began if it is told to" do
    PytheusBackend.open do |backend|
      backend.counter("a_total").increment
      accept = "application/openmetrics-text; version=1.0.0"
      expect(backend.render(accept: accept).text).not_to include "_created"
      created = backend.render(accept: accept, created_samples: true).text[/^a_created (\S+)$/, 1].to_f
      expect(created).to be_within(600).of(Time.now.to_f)
    end
  end

  it "flushes to other processes, and says what it has done" do
    url = RedisServer.fresh_url
    backend = PytheusBackend.open(url, flush_interval_ms: 60_000)
    backend.counter("flushed_total").increment
    backend.flush(timeout: 30)
    expect(PytheusBackend.open(url).render.text).to include "\nflushed_total 1\n"
    expect(backend.statistics).to include(metrics_pending: 0, scrapes: 0)
    expect(backend.statistics[:batches_sent]).to be_positive
    expect { backend.flush(timeout: -1) }.to raise_error(PytheusBackend::InvalidArgumentError)
  end

  context "with a server that does not answer" do
    include_context "with a log"

    it "lets other threads run while it waits, raises at its deadline, and logs" do
      server = RedisServer.new
      backend = PytheusBackend.open("redis://127.0.0.1:#{server.port}", socket_timeout: 1, collect_timeout: 1)
      counter = backend.counter("waits_total")
      server.paused do
        counter.increment
        turns = 0
        ticking = Thread.new { loop { (turns += 1) && sleep(0.001) } }
        before = turns
        expect { backend.render }.to raise_error(PytheusBackend::TimeoutError)
        expect(turns - before).to be > 20
        ticking.kill
        wait_until("the log says so") { counter.increment || log.string.include?("127.0.0.1:#{server.port}") }
      end
      wait_until("the server answers again") { backend.render.text[/^waits_total (\d+)/, 1].to_i > 1 rescue false }
      backend.close
    ensure
      server.stop
    end
  end

  it "hands log records, one after the other, to a logger that itself counts and logs" do
    records = PytheusBackend.open.counter("log_records_total")
    # What cannot be sent when a backend is closed is an error, and a log record.
    lose = lambda do
      away = PytheusBackend.open("redis://127.0.0.1:1", required: false, shutdown_timeout: 0.01)
      away.counter("away_total").increment
      expect { away.close }.to raise_error(PytheusBackend::UnavailableError)
    end
    depths = [0]
    logger = Logger.new(StringIO.new)
    logger.formatter = lambda do |*|
      depths << depths.last + 1
      records.increment
      lose.call if records.get < 4
      depths << depths.last - 1
      ""
    end
    PytheusBackend.logger = logger
    lose.call
    wait_until("records are counted") { PytheusBackend.deliver_log || records.get >= 4 }
    expect(depths.max).to eq 1
  ensure
    PytheusBackend.logger = Logger.new($stderr, level: Logger::WARN)
  end

  it "counts on when the logger raises" do
    logger = Logger.new(StringIO.new)
    calls = 0
    logger.formatter = ->(*) { (calls += 1) && raise("no disk") }
    PytheusBackend.logger = logger
    counter = PytheusBackend.open.counter("counts_on_total")
    expect do
      PytheusBackend.open("redis://127.0.0.1:1", required: false, shutdown_timeout: 0.01)
      wait_until("a record is delivered") { counter.increment || calls.positive? }
    end.to output(/the logger raises RuntimeError: no disk/).to_stderr
  ensure
    PytheusBackend.logger = Logger.new($stderr, level: Logger::WARN)
  end

  it "frees what is no longer used" do
    backend = PytheusBackend.open
    store = PytheusBackend::Store.new(backend)
    100.times { |i| store.for_metric("short_lived_#{i}", metric_type: :counter).increment(labels: {}) }
    wait_until("garbage collection frees most handles") do
      GC.start
      # The families of a Store live as long as its objects.
      backend.render.text.scan(/^short_lived_\d+ 1$/).size < 10
    end
  end
end
