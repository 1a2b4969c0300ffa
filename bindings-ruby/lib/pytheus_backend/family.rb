# frozen_string_literal: true

require "json"

module PytheusBackend
  # A declared metric family and the handles of its metrics, one for each label set. Metric and Store count
  # through it.
  #
  # The caches have no lock, so that a signal handler can count too: under CRuby's interpreter lock, a thread
  # can read a Hash while another thread adds to it. Two threads that meet the same new label set make two
  # handles of one metric, and both work. A removal replaces the caches: a thread that made its handle before
  # the removal adds it to the old caches, which are not read again.
  class Family
    # Label values that cannot change, so that a Hash of them can be a key.
    CONSTANT_VALUES = [String, Symbol, Integer, TrueClass, FalseClass, NilClass].freeze
    # Handles by the labels as the program gives them, and by their texts in declared order.
    Caches = Struct.new(:by_labels, :by_values)
    private_constant :CONSTANT_VALUES, :Caches

    attr_reader :name, :label_names, :buckets, :states

    def initialize(backend, type, name, help: nil, labels: [], unit: nil, buckets: nil, native: nil,
                   states: [], mode: nil, series_ttl: nil, exemplars: false, lifetime: :backend)
      @backend = backend # keeps the store open for as long as something counts in it
      @name = name.to_s
      @label_names = labels.map(&:to_sym).freeze
      # A native histogram may have no bounds.
      @buckets = (native ? buckets.to_a : buckets)&.map { |bound| Float(bound) }&.freeze
      @type = type
      @native = native
      @mode = mode&.to_sym
      @series_ttl = series_ttl
      @exemplars = exemplars
      @states = states.map(&:to_sym).freeze
      @handle = Library.handle(declare(type, help, unit, lifetime), :metric_family_free)
      forget
    end

    # Returns the handle of a label set, and creates it if it is new. If the store cannot take it now, the engine
    # counts it in this process until the store can.
    def metric(labels)
      @caches.by_labels[labels] || find(labels)
    end

    # Sets the labels of an info.
    def set_info(labels, info)
      values = values_of(labels)
      names, texts = info.transform_values { |value| Library.utf8(value) }.to_a.transpose
      Library.call(:metric_family_set_info, @handle, Library::Strings.new(values), values.size,
                   Library::Strings.new(names.to_a), Library::Strings.new(texts.to_a), info.size)
    ensure
      Log.deliver
    end

    # Counts with an exemplar, a Hash of label names and values, by a function such as `metric_inc_with_exemplar`.
    def count_with_exemplar(function, handle, amount, exemplar)
      names, values = exemplar.to_h.to_a.transpose
      Library.call(function, handle, amount, Library::Strings.new(names), Library::Strings.new(values), names.size)
    ensure
      Log.deliver
    end

    # Removes a label set from the store. Returns false if there was none.
    def remove(labels)
      values = values_of(labels)
      Library.call(:metric_remove, @handle, Library::Strings.new(values), values.size)
      true
    rescue NotFoundError
      false
    ensure
      forget
    end

    # Removes all label sets from the store.
    def clear
      Library.call(:metric_family_clear, @handle)
    ensure
      forget
    end

    # Yields the labels (a Hash) and the sample values of each series in the store.
    def each_series
      families = FFI::MemoryPointer.new(:pointer).write_pointer(@handle)
      snapshot = Library.handle(Library.create(:metrics_snapshot_new, @backend.handle, families, 1),
                                :metrics_snapshot_free)
      series = Library::MetricsSeries.new
      while Library.metrics_snapshot_next(snapshot, series).zero?
        labels = JSON.parse(series[:labels].read_string.force_encoding(Encoding::UTF_8), symbolize_names: true)
        yield @type == :info ? labels : labels.slice(*@label_names), series[:values].read_array_of_double(series[:value_count])
      end
    ensure
      snapshot&.free
    end

    # Ends a hot call, which returns a status only: raises its error, and delivers log records.
    def check(status, operation, amount)
      Log.deliver
      return if status.zero?

      name = Library.backend_status_name(status)
      raise PytheusBackend.error_class(status), "#{@name}: #{operation} #{amount}: #{name}"
    end

    private

    def declare(type, help, unit, lifetime)
      raise InvalidArgumentError, "a metric name must not contain NUL: #{@name.inspect}" if @name.include?("\0")
      # To the engine, no bounds would mean its default ones.
      raise InvalidArgumentError, "#{@name} needs at least one bucket bound" if @buckets&.empty? && !@native

      # The engine copies what the options point to; these variables keep it alive until then.
      texts = [@name, help, unit].map { |text| Library.string(text) }
      names = Library::Strings.new(@label_names)
      states = Library::Strings.new(@states)
      bounds = FFI::MemoryPointer.new(:double, [@buckets.to_a.size, 1].max).write_array_of_double(@buckets.to_a)
      options = Library::MetricFamilyOptions.new
      options[:size] = Library::MetricFamilyOptions.size
      options[:name], options[:help], options[:unit] = texts
      options[:metric_type] = Library::METRIC_TYPES.fetch(type)
      options[:lifetime] = Library::METRIC_LIFETIMES.fetch(lifetime)
      options[:label_names] = names
      options[:label_count] = @label_names.size
      options[:buckets] = bounds if @buckets && !@buckets.empty?
      options[:bucket_count] = @buckets.to_a.size
      options[:states] = states
      options[:state_count] = @states.size
      declare_native(options) if @native
      options[:gauge_mode] = gauge_mode if @mode
      options[:series_ttl] = seconds if @series_ttl
      options[:exemplars] = Library::METRIC_EXEMPLARS.fetch(@exemplars ? :kept : :none)
      Library.create(:metric_family_new, @backend.handle, options)
    end

    def seconds
      # To the C interface, 0 means the option of the store.
      return Float(@series_ttl) unless @series_ttl.zero?

      raise InvalidArgumentError, "#{@name}: series_ttl is #{@series_ttl}: expected 1 second or more"
    end

    def gauge_mode
      Library::METRIC_GAUGE_MODES.fetch(@mode) do
        known = Library::METRIC_GAUGE_MODES.keys.join(", ")
        raise InvalidArgumentError, "#{@name}: the mode is #{@mode.inspect}: expected one of #{known}"
      end
    end

    def declare_native(options)
      options[:native] = Library::METRIC_NATIVE.fetch(@buckets.empty? ? :alone : :both)
      @native.each do |name, number|
        # To the C interface, 0 means the default.
        unless number.is_a?(Integer) && number.between?(1, 0x7fffffff)
          raise InvalidArgumentError, "#{@name}: native_#{name} is #{number.inspect}: expected a number above 0"
        end

        options[:"native_#{name}"] = number
      end
    end

    # Drops all handles: what the handle of a removed metric counts does not reach the store.
    def forget
      @caches = Caches.new({}, {})
    end

    def find(labels)
      values = values_of(labels)
      caches = @caches
      handle = caches.by_values[values] ||= create(values)
      if labels.each_value.all? { |value| CONSTANT_VALUES.include?(value.class) }
        caches.by_labels[frozen(labels)] = handle
      end
      handle
    end

    def values_of(labels)
      labels = labels.transform_keys(&:to_sym)
      unless labels.size == @label_names.size && @label_names.all? { |name| labels.key?(name) }
        raise InvalidArgumentError,
              "#{@name} has the labels #{@label_names.inspect}, but was given #{labels.keys.inspect}"
      end

      @label_names.map { |name| Library.utf8(labels[name]) }
    end

    def frozen(labels)
      labels.to_h { |name, value| [name, value.is_a?(String) ? -value : value] }.freeze
    end

    def create(values)
      pointer = Library.create(:metric_new, @handle, Library::Strings.new(values), values.size)
      Log.deliver
      Library.handle(pointer, :metric_free)
    end
  end
  private_constant :Family
end
