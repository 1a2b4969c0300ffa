# frozen_string_literal: true

module PytheusBackend
  # The base of Counter, Gauge, Histogram and the other types, which Backend#counter and its siblings make.
  #
  # Every call takes `labels:`, a Hash of label names (symbols or strings) and values. Counting raises for
  # mistakes of the program (wrong label names, a negative increment), but never because of the store (full,
  # lost, locked).
  class Metric
    NO_LABELS = {}.freeze
    private_constant :NO_LABELS

    attr_reader :preset_labels

    def initialize(family, preset_labels = NO_LABELS)
      @family = family
      @preset_labels = preset_labels
      # A metric without labels appears in scrapes with the value 0 before it first counts.
      family.metric(NO_LABELS) if family.label_names.empty?
    end

    def name
      @family.name
    end

    # The declared label names, as symbols.
    def label_names
      @family.label_names
    end

    # Returns the same metric with some labels filled in. Its calls take the remaining labels.
    def with_labels(labels)
      copies = labels.to_h { |name, value| [name.to_sym, value.is_a?(String) ? -value : value] }
      unknown = copies.keys - label_names
      raise InvalidArgumentError, "#{name} has no label #{unknown.first}" unless unknown.empty?

      self.class.new(@family, @preset_labels.merge(copies).freeze)
    end

    # Removes a label set from the store. Returns false if there is none, and with Redis also if this process
    # has not used it. Another process that still counts with the label set brings it back with Redis; in a
    # shared file, what that process counts is lost until it calls `remove` or `clear` itself.
    def remove(labels = NO_LABELS)
      @family.remove(merge(labels))
    end

    # Removes all label sets from the store, for all processes.
    def clear
      @family.clear
    end

    # Reads all series of the metric from the store: a Hash from labels to values.
    def values
      result = {}
      @family.each_series { |labels, samples| result[labels] = value(samples) }
      result
    end

    private

    def handle(labels)
      @family.metric(merge(labels))
    end

    def merge(labels)
      return @preset_labels if labels.empty?

      @preset_labels.empty? ? labels : @preset_labels.merge(labels.transform_keys(&:to_sym))
    end

    # Reads one value from the store, after what this process has pending was sent.
    def read(function, labels, *arguments)
      Library.read(function, handle(labels), *arguments)
    end
  end

  # Only goes up.
  class Counter < Metric
    # `exemplar` is a Hash of labels that lead to a trace, if the counter was declared with `exemplars: true`:
    # `increment(exemplar: { trace_id: "4bf92f3577b34da6" })`. Names and values have at most 128 characters. The last
    # exemplar stays for a tenth of a second. An exemplar that cannot be shown is an error, and nothing is counted.
    def increment(by: 1, labels: NO_LABELS, exemplar: nil)
      if exemplar.nil? || exemplar.empty?
        @family.check(Library.metric_inc(handle(labels), by), "increment by", by)
      else
        @family.count_with_exemplar(:metric_inc_with_exemplar, handle(labels), by, exemplar)
      end
    end

    # Reads the value from the store, as a Float.
    def get(labels: NO_LABELS)
      read(:metric_get, labels)
    end

    private

    def value(samples)
      samples.first
    end
  end

  # Goes up and down.
  class Gauge < Metric
    def set(value, labels: NO_LABELS)
      @family.check(Library.metric_set(handle(labels), value), "set to", value)
    end

    def set_to_current_time(labels: NO_LABELS)
      set(Time.now.to_f, labels: labels)
    end

    def increment(by: 1, labels: NO_LABELS)
      @family.check(Library.metric_inc(handle(labels), by), "increment by", by)
    end

    def decrement(by: 1, labels: NO_LABELS)
      @family.check(Library.metric_dec(handle(labels), by), "decrement by", by)
    end

    # Reads the value from the store, as a Float.
    def get(labels: NO_LABELS)
      read(:metric_get, labels)
    end

    private

    def value(samples)
      samples.first
    end
  end

  # The base of Histogram and Summary.
  class Distribution < Metric
    def observe(value, labels: NO_LABELS)
      @family.check(Library.metric_observe(handle(labels), value), "observe", value)
    end

    # Observes how many seconds the block takes, and returns its value. A block that raises is observed too.
    def time(labels: NO_LABELS)
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      begin
        yield
      ensure
        observe(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start, labels: labels)
      end
    end

    # Reads the sum of all observations from the store.
    def sum(labels: NO_LABELS)
      read(:metric_get_sum, labels)
    end

    # Reads the number of observations from the store.
    def count(labels: NO_LABELS)
      read(:metric_get_count, labels)
    end
  end
  private_constant :Distribution

  # Counts observations in buckets, and sums them.
  class Histogram < Distribution
    # `exemplar` is as in Counter#increment. A series has up to four.
    def observe(value, labels: NO_LABELS, exemplar: nil)
      return super(value, labels: labels) if exemplar.nil? || exemplar.empty?

      @family.count_with_exemplar(:metric_observe_with_exemplar, handle(labels), value, exemplar)
    end

    # The upper bounds of the buckets, without the last, which is infinity.
    def buckets
      @family.buckets
    end

    # Reads the number of observations up to this bound; Float::INFINITY is the last bucket.
    def bucket(upper_bound, labels: NO_LABELS)
      read(:metric_get_bucket, labels, upper_bound)
    end

    private

    def value(samples)
      *counts, count, sum = samples
      { buckets: (buckets + [Float::INFINITY]).zip(counts).to_h, count: count, sum: sum }
    end
  end

  # The distribution of what exists at present, such as the ages of waiting jobs: a histogram whose counts also
  # go down.
  class GaugeHistogram < Histogram
    # Takes an observation out again, because what it describes has ended.
    def unobserve(value, labels: NO_LABELS)
      @family.check(Library.metric_unobserve(handle(labels), value), "unobserve", value)
    end
  end

  # Named states, each of which is on or off. A state may be a Symbol or a String.
  class StateSet < Metric
    # The states in their declared order, as symbols.
    def states
      @family.states
    end

    # Switches one state on or off, and leaves the others as they are.
    def set(state, on = true, labels: NO_LABELS)
      change(state, "set") { |name| Library.metric_set_state(handle(labels), name, on ? 1 : 0) }
    end

    # Switches one state on and all others off.
    def choose(state, labels: NO_LABELS)
      change(state, "choose") { |name| Library.metric_choose_state(handle(labels), name) }
    end

    # Reads from the store whether a state is on.
    def on?(state, labels: NO_LABELS)
      place = FFI::MemoryPointer.new(:int32)
      Library.call(:metric_get_state, handle(labels), Library.utf8(state), place)
      !place.read_int32.zero?
    end

    private

    def change(state, operation)
      @family.check(yield(Library.utf8(state)), operation, state)
    end

    def value(samples)
      states.zip(samples.map { |sample| !sample.zero? }).to_h
    end
  end

  # Labels that describe something, such as the version of a program. A scrape shows those that any process has
  # set last.
  class Info < Metric
    def initialize(family, preset_labels = NO_LABELS) # rubocop:disable Lint/MissingSuper
      @family = family
      @preset_labels = preset_labels
    end

    # Sets labels, a Hash of names and values: `build.set({ version: "1.2", commit: "1a2b" })`. An info that was
    # declared with label names has one such set for each of their values.
    def set(info, labels: NO_LABELS)
      @family.set_info(merge(labels), info)
    end

    # Reads the labels that a scrape shows, one Hash for each set, with the declared labels.
    def values
      super.keys
    end

    private

    def value(samples)
      samples.first
    end
  end

  # Counts and sums observations.
  class Summary < Distribution
    private

    def value(samples)
      { count: samples.first, sum: samples.last }
    end
  end
end
