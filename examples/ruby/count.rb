# frozen_string_literal: true

# Counts orders in a shop through the ffi gem, and prints what Prometheus would scrape.
#
#   ruby count.rb                              keeps the values in this process
#   ruby count.rb redis://127.0.0.1:6379       keeps them on a Redis server, shared with other processes
#
# PYTHEUS_BACKEND_RS_LIBRARY names the shared library. The default is the one that cargo built in this tree.

require "ffi"

module Metrics
  # The functions of pytheus_backend_rs.h that this program needs.
  module Library
    extend FFI::Library

    BUILT_HERE = File.expand_path("../../target/release/libpytheus_backend_rs.so", __dir__)
    ffi_lib ENV.fetch("PYTHEUS_BACKEND_RS_LIBRARY", BUILT_HERE)

    class MetricFamilyOptions < FFI::Struct
      layout size: :size_t,
             name: :pointer,
             help: :pointer,
             metric_type: :int32,
             lifetime: :int32,
             label_names: :pointer,
             label_count: :size_t,
             buckets: :pointer,
             bucket_count: :size_t,
             unit: :pointer,
             names: :int32
    end

    # `blocking: true` lets other Ruby threads run while a call waits for a server.
    attach_function :backend_new, %i[string pointer pointer], :int32, blocking: true
    attach_function :backend_free, %i[pointer], :void, blocking: true
    attach_function :backend_status_name, %i[int32], :string
    attach_function :backend_error_message, %i[pointer], :string
    attach_function :backend_error_free, %i[pointer], :void
    attach_function :backend_string_free, %i[pointer], :void
    attach_function :metric_family_new, %i[pointer pointer pointer pointer], :int32
    attach_function :metric_family_free, %i[pointer], :void
    attach_function :metric_new, %i[pointer pointer size_t pointer pointer], :int32
    attach_function :metric_free, %i[pointer], :void
    attach_function :metric_inc, %i[pointer double], :int32
    attach_function :metric_observe, %i[pointer double], :int32
    attach_function :metrics_collect, %i[pointer pointer pointer pointer], :int32, blocking: true
  end

  # A failed call. The message is the name of the status and the library's explanation.
  class Error < StandardError; end

  module_function

  # Makes a call that writes a pointer or, if it fails, an error. Returns the pointer or raises the error.
  # `behind` are the arguments between these two out-parameters.
  def pointer_from(function, *arguments, behind: [])
    result = FFI::MemoryPointer.new(:pointer)
    error = FFI::MemoryPointer.new(:pointer)
    status = Library.public_send(function, *arguments, result, *behind, error)
    return result.read_pointer if status.zero?

    reason = error.read_pointer
    message = Library.backend_error_message(reason)
    Library.backend_error_free(reason)
    raise Error, "#{Library.backend_status_name(status)}: #{message}"
  end

  # Raises the status of a call that has no error parameter, unless it succeeded.
  def check(status)
    raise Error, Library.backend_status_name(status) unless status.zero?
  end

  # Makes an array of C strings. It owns them, so it must live as long as C reads them.
  def strings(texts)
    FFI::MemoryPointer.new(:pointer, [texts.size, 1].max).tap do |array|
      pointers = texts.map { |text| FFI::MemoryPointer.from_string(text) }
      array.write_array_of_pointer(pointers)
      array.instance_variable_set(:@pointers, pointers)
    end
  end

  # An open store.
  class Backend
    TYPES = { counter: 1, histogram: 3 }.freeze

    def initialize(url)
      @handle = FFI::AutoPointer.new(Metrics.pointer_from(:backend_new, url), Library.method(:backend_free))
    end

    def counter(name, help, labels: [])
      declare(Counter, :counter, name, help, labels, [])
    end

    def histogram(name, help, labels: [], buckets: [])
      declare(Histogram, :histogram, name, help, labels, buckets)
    end

    # Returns all metrics as Prometheus text.
    def collect
      text = Metrics.pointer_from(:metrics_collect, @handle, behind: [nil])
      text.read_string.force_encoding(Encoding::UTF_8)
    ensure
      Library.backend_string_free(text)
    end

    # Sends pending changes and ends the library's threads.
    def close
      @handle.free
    end

    private

    # The library copies what the options point to before it returns; the local variables keep it alive until then.
    def declare(kind, type, name, help, labels, buckets)
      name_text = FFI::MemoryPointer.from_string(name)
      help_text = FFI::MemoryPointer.from_string(help)
      label_names = Metrics.strings(labels)
      bounds = FFI::MemoryPointer.new(:double, [buckets.size, 1].max).write_array_of_double(buckets)
      options = Library::MetricFamilyOptions.new
      options[:size] = Library::MetricFamilyOptions.size
      options[:name] = name_text
      options[:help] = help_text
      options[:metric_type] = TYPES.fetch(type)
      options[:label_names] = label_names
      options[:label_count] = labels.size
      options[:buckets] = bounds
      options[:bucket_count] = buckets.size
      kind.new(Metrics.pointer_from(:metric_family_new, @handle, options))
    end
  end

  # A metric family. It makes a metric once for each set of label values, and keeps it.
  class Family
    def initialize(handle)
      @handle = FFI::AutoPointer.new(handle, Library.method(:metric_family_free))
      @metrics = {}
    end

    private

    def metric(label_values)
      @metrics[label_values] ||= begin
        handle = Metrics.pointer_from(:metric_new, @handle, Metrics.strings(label_values), label_values.size)
        FFI::AutoPointer.new(handle, Library.method(:metric_free))
      end
    end
  end

  # A value that only goes up.
  class Counter < Family
    def increment(*label_values, by: 1)
      Metrics.check(Library.metric_inc(metric(label_values), by))
    end
  end

  # Counts observations by buckets.
  class Histogram < Family
    def observe(value, *label_values)
      Metrics.check(Library.metric_observe(metric(label_values), value))
    end
  end
end

if $PROGRAM_NAME == __FILE__
  begin
    backend = Metrics::Backend.new(ARGV.fetch(0, "memory:"))
    orders = backend.counter("shop_orders_total", "Orders, by the way they were paid.", labels: ["payment"])
    durations = backend.histogram("shop_order_seconds", "How long an order took.", buckets: [0.1, 0.5, 2])

    %w[card card card cash].zip([0.25, 0.0625, 3, 0.5]) do |payment, seconds|
      orders.increment(payment)
      durations.observe(seconds)
    end

    puts backend.collect
    backend.close
  rescue Metrics::Error => e
    abort e.message
  end
end
