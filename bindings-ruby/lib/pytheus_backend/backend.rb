# frozen_string_literal: true

module PytheusBackend
  # A rendered scrape: its text, and the Content-Type that says in which format. With the Content-Type of
  # protobuf, the text is a binary String.
  Exposition = Struct.new(:text, :content_type)

  # An open store and the metrics that are declared in it. All threads may use it at once. A server may open
  # it before it forks: the workers use the same objects.
  class Backend
    # The default upper bounds of a histogram, in seconds.
    DEFAULT_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0].freeze

    # Opens the store at `url`. With a block, yields the backend, closes it at the end and returns what the
    # block returns. Further keywords are options of the store:
    #
    #   PytheusBackend.open("redis://127.0.0.1:6379", key_prefix: "shop:") { |backend| … }
    def self.open(url = "memory:", **options)
      backend = new(url, **options)
      return backend unless block_given?

      begin
        yield backend
      ensure
        backend.close
      end
    end

    def initialize(url = "memory:", **options)
      url = with_options(url, options) unless options.empty?
      @handle = Library.handle(Library.create(:backend_new, url), :backend_free)
      @closed = false
      @has_server = url.start_with?("redis")
    ensure
      Log.deliver
    end

    attr_reader :handle # :nodoc:

    # Whether reading a value waits for a server.
    def server? # :nodoc:
      @has_server
    end

    # `series_ttl`, of all types: a series ends when no process has used it for so many seconds. A metric that is used
    # again begins a new one, from 0. `Float::INFINITY`: never, whatever the store's option says.
    #
    # `exemplars: true`, of counters and histograms: the series keep exemplars, which `exemplar:` gives them.
    def counter(name, help = nil, labels: [], unit: nil, series_ttl: nil, exemplars: false)
      Counter.new(Family.new(self, :counter, name, help: help, labels: labels, unit: unit, series_ttl: series_ttl,
                                                   exemplars: exemplars))
    end

    # `mode` gives every process its own value, which a scrape merges: `:all`, `:liveall`, `:min`, `:livemin`, `:max`,
    # `:livemax`, `:sum`, `:livesum`, `:mostrecent` or `:livemostrecent`.
    def gauge(name, help = nil, labels: [], unit: nil, mode: nil, series_ttl: nil)
      Gauge.new(Family.new(self, :gauge, name, help: help, labels: labels, unit: unit, mode: mode,
                                               series_ttl: series_ttl))
    end

    def summary(name, help = nil, labels: [], unit: nil, series_ttl: nil)
      Summary.new(Family.new(self, :summary, name, help: help, labels: labels, unit: unit, series_ttl: series_ttl))
    end

    # `native: true` makes a native histogram, with as many buckets from each power of two to the next as
    # `native_resolution` says (1, 2, 4, … 256) and room for `native_size` (16 to 4096) in a series. It has classic
    # buckets too if `buckets` are given.
    def histogram(name, help = nil, labels: [], unit: nil, native: false, native_resolution: 8, native_size: 384,
                  buckets: native ? nil : DEFAULT_BUCKETS, series_ttl: nil, exemplars: false)
      native &&= { resolution: native_resolution, size: native_size }
      Histogram.new(Family.new(self, :histogram, name, help: help, labels: labels, unit: unit, buckets: buckets,
                                                       native: native, series_ttl: series_ttl,
                                                       exemplars: exemplars))
    end

    def gauge_histogram(name, help = nil, labels: [], unit: nil, buckets: DEFAULT_BUCKETS, series_ttl: nil)
      GaugeHistogram.new(
        Family.new(self, :gauge_histogram, name, help: help, labels: labels, unit: unit, buckets: buckets,
                                                 series_ttl: series_ttl)
      )
    end

    def state_set(name, help = nil, states:, labels: [], series_ttl: nil)
      StateSet.new(Family.new(self, :state_set, name, help: help, labels: labels, states: states,
                                                      series_ttl: series_ttl))
    end

    def info(name, help = nil, labels: [], series_ttl: nil)
      Info.new(Family.new(self, :info, name, help: help, labels: labels, series_ttl: series_ttl))
    end

    # Renders all metrics of the store, those of other processes too, as an Exposition. `accept` is the
    # scraper's Accept header, which decides on the format; `prefix` stands in front of each name. `query` is the
    # query of the request: its parameters `name[]` select families. `created_samples: true` lets OpenMetrics show
    # when each counter, summary and histogram began.
    def render(accept: nil, prefix: nil, query: nil, created_samples: false)
      texts = [accept, prefix, query].map { |text| Library.string(text) }
      options = Library::MetricsRenderOptions.new
      options[:size] = Library::MetricsRenderOptions.size
      options[:accept], options[:name_prefix], options[:query] = texts
      options[:formats] = Library::METRICS_FORMATS[:all]
      options[:created_samples] = created_samples ? 1 : 0
      text = Library.handle(Library.create(:metrics_render, @handle, options), :metrics_text_free)
      bytes = Library.metrics_text_data(text).read_bytes(Library.metrics_text_length(text))
      content_type = Library.metrics_text_content_type(text)
      bytes.force_encoding(Encoding::UTF_8) if content_type.include?("charset=utf-8")
      Exposition.new(bytes, content_type)
    ensure
      text&.free
      Log.deliver
    end

    # Shows what the system says about each process that calls this: its processor time, memory and descriptors. A
    # forked worker appears with its first call or scrape. Each call updates the figures of its process, as a scrape
    # does. `prefix` begins the names of the metrics.
    def process_metrics(prefix = "")
      Library.call(:backend_process_metrics, @handle, prefix.to_s)
    ensure
      Log.deliver
    end

    # Waits until the store has what this process counted, for at most `timeout` seconds.
    def flush(timeout: 5)
      Library.call(:backend_flush, @handle, timeout)
    ensure
      Log.deliver
    end

    # Sends what is pending and ends the store's threads. What is counted afterwards is discarded. Closing
    # twice does nothing. A process that ends normally closes its backends by itself.
    def close
      @closed = true
      Library.call(:backend_close, @handle)
    ensure
      Log.deliver
    end

    def closed?
      @closed
    end

    # Returns what this process has done with the store so far, as a Hash; docs/operating.md explains the
    # entries.
    def statistics
      statistics = Library::BackendStatistics.new
      statistics[:size] = Library::BackendStatistics.size
      Library.call(:backend_statistics, @handle, statistics)
      (statistics.members - [:size]).to_h { |name| [name, statistics[name]] }
    end

    private

    def with_options(url, options)
      query = options.map { |name, value| "#{name}=#{encode(value)}" }.join("&")
      "#{url}#{url.include?("?") ? "&" : "?"}#{query}"
    end

    def encode(value)
      value.to_s.b.gsub(/[^A-Za-z0-9_.~-]/n) { |byte| format("%%%02X", byte.ord) }
    end
  end
end
