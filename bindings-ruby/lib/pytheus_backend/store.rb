# frozen_string_literal: true

require "monitor"

module PytheusBackend
  # A data store for the prometheus-client gem: the gem's metrics count in the engine, and every process of
  # the service shows the same totals.
  #
  #   Prometheus::Client.config.data_store = PytheusBackend::Store.new("shm:///dev/shm/shop-metrics")
  #
  # The gem tells a store only the name and type of a metric. The module Declared adds its labels, help and
  # buckets, so that the engine has a family of the right type, which other scrapers of the same store can
  # read too. A program that calls `for_metric` itself gives none of these, and gets untyped values.
  #
  # `store_settings: { aggregation: … }` of a metric means what it means for the gem's DirectFileStore:
  #
  # - `:sum`, the default of all but gauges: one value, shared by all processes. A gauge has one value per
  #   process, and the scrape shows their sum.
  # - `:all`, the default of gauges: one value per process, with the label `pid`.
  # - `:min`, `:max`: one value per process; the scrape shows the least or the greatest.
  # - `:most_recent`, for gauges: one shared value, that of the last `set` in any process.
  class Store
    class InvalidStoreSettingsError < StandardError; end

    AGGREGATION_MODES = %i[sum all min max most_recent].freeze

    # The backend, for Rack::Exporter or metrics of its own.
    attr_reader :backend

    # `backend` is a Backend or a store URL. `process:` returns what identifies this process in the label
    # `pid`. The default is not unique if processes on several machines share a Redis server.
    def initialize(backend, process: -> { Process.pid.to_s })
      @backend = backend.is_a?(Backend) ? backend : Backend.new(backend)
      @process = process
      @own_values = ObjectSpace::WeakMap.new
      return unless defined?(::Prometheus::Client::Metric)

      ::Prometheus::Client::Metric.prepend(Declared) unless ::Prometheus::Client::Metric.include?(Declared)
    end

    # Called by the gem for each metric.
    def for_metric(metric_name, metric_type:, metric_settings: {})
      mode = aggregation(metric_type, metric_settings)
      begin
        metric_store(@backend, metric_name, metric_type, mode, Declared.declaration)
      rescue ConflictError => e
        # The program must start all the same, as it does with the gem's own stores.
        Log.once([:conflict, metric_name], "#{metric_name} counts in this process alone: #{e.message}")
        metric_store(local, metric_name, metric_type, mode, Declared.declaration)
      end
    end

    # Removes the per-process values (gauges) of a process that has ended or is about to: in Unicorn's
    # `after_worker_exit { |_, _, status| store.forget(status.pid) }`, in Puma's `on_worker_shutdown {
    # store.forget }`.
    def forget(process = @process.call)
      @own_values.each_key { |values| values.forget(process.to_s) }
    end

    private

    def metric_store(backend, name, type, mode, declaration)
      if declaration && mode == :sum && %i[histogram summary].include?(type)
        return Observations.new(backend, name, type, declaration)
      end

      values = Values.new(backend, @process, name, type, mode, declaration)
      @own_values[values] = nil if values.own?
      values
    rescue InvalidArgumentError
      raise unless declaration

      # The gem accepts what the engine does not, such as two equal bounds.
      metric_store(backend, name, type, mode, nil)
    end

    def local
      @local ||= Backend.new("memory:")
    end

    def aggregation(metric_type, settings)
      settings = { aggregation: metric_type == :gauge ? :all : :sum }.merge(settings)
      unless (settings.keys - [:aggregation]).empty?
        raise InvalidStoreSettingsError, "the only setting of a metric is :aggregation, not #{settings.keys.inspect}"
      end

      mode = settings[:aggregation]
      unless AGGREGATION_MODES.include?(mode)
        raise InvalidStoreSettingsError, ":aggregation is one of #{AGGREGATION_MODES.inspect}, not #{mode.inspect}"
      end
      raise InvalidStoreSettingsError, ":most_recent is for gauges" if mode == :most_recent && metric_type != :gauge

      mode
    end

    # Is prepended to the gem's Metric. It keeps the documented arguments of `initialize` for the store, which
    # the gem calls without them.
    module Declared
      Declaration = Struct.new(:help, :labels, :buckets)
      DECLARATION = :pytheus_backend_declaration
      INITIALIZING = :pytheus_backend_initializes

      def self.declaration
        Thread.current[DECLARATION]
      end

      # Whether the gem calls `set(0)` itself, to create a label set.
      def self.initializing?
        Thread.current[INITIALIZING]
      end

      def self.with(key, value)
        before = Thread.current[key]
        Thread.current[key] = value
        yield
      ensure
        Thread.current[key] = before
      end

      def initialize(name, docstring:, labels: [], **others)
        bounds = buckets if respond_to?(:buckets)
        Declared.with(DECLARATION, Declaration.new(docstring, labels, bounds)) { super }
      end

      def init_label_set(labels)
        Declared.with(INITIALIZING, true) { super }
      end
    end
    private_constant :Declared

    # One number for each label set: counters, gauges, and metrics whose labels are not declared.
    class Values
      def initialize(backend, process, name, type, mode, declaration)
        @backend = backend
        @process = process
        @name = name
        @mode = mode
        @own = %i[all min max].include?(mode) || (mode == :sum && type == :gauge)
        @help = declaration&.help
        @lock = Monitor.new
        # For a histogram the gem adds a label for the bucket, which only its first label set shows.
        declared = declaration && %i[counter gauge].include?(type)
        @type = declared ? type : :untyped
        @family = declare(declaration.labels + (@own ? [:pid] : [])) if declared
      end

      # Whether each process has a value of its own.
      def own?
        @own
      end

      def synchronize(&block)
        @lock.synchronize(&block)
      end

      def set(labels:, val:)
        metric = metric(labels)
        return if val.zero? && only_declared?

        @family.check(Library.metric_set(metric, val), "set to", val)
      end

      # Returns the new value, as the gem's own stores do. With a server it returns nil, because the value
      # would cost a round trip.
      def increment(labels:, by: 1)
        if @mode == :most_recent
          raise InvalidStoreSettingsError, "with :most_recent a gauge can be set, but not incremented"
        end

        metric = metric(labels)
        if @backend.server?
          @family.check(Library.metric_inc(metric, by), "increment by", by)
          return
        end

        value = Library.double_place
        @family.check(Library.metric_inc_and_get(metric, by, value, nil), "increment by", by)
        value.read_double
      end

      def get(labels:)
        Library.read(:metric_get, metric(labels))
      end

      def all_values
        values = Hash.new(0.0)
        @family&.each_series { |labels, samples| merge(values, labels, samples.first) }
        values
      end

      # Removes the values of one process.
      def forget(process)
        series = []
        @family&.each_series { |labels,| series << labels if labels[:pid] == process }
        # On a server a process can only remove what it has a handle of.
        series.each do |labels|
          @family.metric(labels)
          @family.remove(labels)
        end
      end

      private

      # Adds the value of one series, which with @own is that of one process.
      def merge(values, labels, value)
        labels.delete(:pid) if @own && @mode != :all
        values[labels] = case values.key?(labels) && @mode
                         when :sum then values[labels] + value
                         when :min, :max then [values[labels], value].public_send(@mode)
                         else value
                         end
      end

      # Whether `set(0)` only creates the label set. The gem calls it in each process that starts, where it
      # must not erase what other processes have counted in a shared value.
      def only_declared?
        case @type
        when :counter then true
        when :gauge then !@own && Declared.initializing?
        else !@own
        end
      end

      def metric(labels)
        labels = labels.merge(pid: @process.call) if @own
        # The first label set of an undeclared metric decides its label names.
        family = @family || @lock.synchronize { @family ||= declare(labels.keys.sort) }
        family.metric(labels)
      end

      def declare(label_names)
        # The family lives as long as the gem's metric, because the gem allows several metrics of one name.
        Family.new(@backend, @type, @name, help: @help, labels: label_names, lifetime: :handle)
      end
    end
    private_constant :Values

    # A histogram or summary. For an observation the gem increments two numbers: a bucket (or the count) by
    # one, and the sum by the observed value. The engine does both in one call, so the increment of the sum
    # makes that call and the other increment does nothing.
    class Observations
      def initialize(backend, name, type, declaration)
        @lock = Monitor.new
        @series = type == :histogram ? :le : :quantile # the label by which the gem tells the numbers apart
        @numbers = type == :histogram ? declaration.buckets.map(&:to_s) + ["+Inf"] : ["count"]
        @family = Family.new(backend, type, name, help: declaration.help, labels: declaration.labels,
                                                        buckets: declaration.buckets, lifetime: :handle)
      end

      # The gem reads all numbers of a histogram within one block. They come from one snapshot, so they are
      # consistent.
      def synchronize
        @lock.synchronize do
          yield
        ensure
          @read = nil
        end
      end

      # The gem only sets 0, to create the label set.
      def set(labels:, val:)
        raise ArgumentError, "a histogram or summary is observed, not set" unless val.zero?

        metric(labels)
        nil
      end

      def increment(labels:, by: 1)
        return unless labels[@series] == "sum"

        @family.check(Library.metric_observe(metric(labels), by), "observe", by)
      end

      def get(labels:)
        return all_values[labels] unless @lock.mon_owned?

        (@read ||= all_values)[labels]
      end

      def all_values
        values = Hash.new(0.0)
        @family.each_series do |labels, samples|
          *counts, count, sum = samples
          # The engine's buckets are cumulative; the gem adds them up itself.
          own_counts = @series == :le ? [0, *counts].each_cons(2).map { |below, upto| upto - below } : [count]
          @numbers.zip(own_counts) { |number, value| values[labels.merge(@series => number)] = value }
          values[labels.merge(@series => "sum")] = sum
        end
        values
      end

      private

      def metric(labels)
        @family.metric(labels.reject { |name,| name == @series })
      end
    end
    private_constant :Observations
  end
end
