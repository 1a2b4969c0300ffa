# frozen_string_literal: true

require "ffi"

module PytheusBackend
  # The functions and structs of pytheus_backend_rs.h that this gem uses, and helpers that turn failed calls
  # into exceptions. It is private to the gem.
  module Library
    extend FFI::Library

    # The binary interface that these declarations were written for: BACKEND_ABI_VERSION of the header.
    ABI_VERSION = 1
    # Names the library file; without it the dynamic linker looks for the installed one.
    LOCATION = "PYTHEUS_BACKEND_RS_LIBRARY"
    SONAME = "libpytheus_backend_rs.#{FFI::Platform.mac? ? "#{ABI_VERSION}.dylib" : "so.#{ABI_VERSION}"}"

    def self.load_library
      name = ENV.fetch(LOCATION, SONAME)
      begin
        ffi_lib name
        attach_function :backend_abi_version, [], :uint32
        attach_function :backend_version, [], :string
      rescue LoadError => e
        raise LoadError, "cannot load the metrics engine #{name}: install libpytheus_backend_rs, or set #{LOCATION} " \
                         "to the path of the library (#{e.message.strip})", cause: nil
      end
      if backend_abi_version != ABI_VERSION
        refuse "#{name} has binary interface #{backend_abi_version}, but this version of the gem needs #{ABI_VERSION}"
      end
      # An older library refuses options that it does not know.
      return if Gem::Version.new(backend_version) >= Gem::Version.new(VERSION)

      refuse "#{name} has version #{backend_version}, but this gem needs version #{VERSION} or newer"
    end

    def self.refuse(reason)
      raise LoadError, "#{reason}: install the gem and the library of one release", cause: nil
    end
    private_class_method :load_library, :refuse
    load_library

    class MetricFamilyOptions < FFI::Struct
      layout size: :size_t, name: :pointer, help: :pointer, metric_type: :int32, lifetime: :int32,
             label_names: :pointer, label_count: :size_t, buckets: :pointer, bucket_count: :size_t, unit: :pointer,
             names: :int32, states: :pointer, state_count: :size_t, native: :int32, native_resolution: :int32,
             native_size: :size_t, gauge_mode: :int32, series_ttl: :double, exemplars: :int32
    end

    class MetricsRenderOptions < FFI::Struct
      layout size: :size_t, accept: :pointer, name_prefix: :pointer, families: :pointer, family_count: :size_t,
             others: :int32, foreign: :pointer, formats: :int32, query: :pointer,
             created_samples: :int32
    end

    class MetricsSeries < FFI::Struct
      layout family_index: :size_t, family: :pointer, labels: :pointer, values: :pointer, value_count: :size_t
    end

    class BackendStatistics < FFI::Struct
      layout size: :size_t, batches_sent: :uint64, batches_resent: :uint64, batches_refused: :uint64,
             operations_sent: :uint64, metrics_pending: :uint64, metrics_held_back: :uint64, scrapes: :uint64,
             scrape_errors: :uint64, last_flush_timestamp: :double, batches_replayed: :uint64, losses: :uint64
    end

    METRIC_TYPES = { counter: 1, gauge: 2, histogram: 3, summary: 4, untyped: 5, info: 6, state_set: 7,
                     gauge_histogram: 8 }.freeze
    METRIC_LIFETIMES = { backend: 0, handle: 1 }.freeze
    METRIC_GAUGE_MODES = { all: 1, liveall: 2, min: 3, livemin: 4, max: 5, livemax: 6, sum: 7, livesum: 8,
                           mostrecent: 9, livemostrecent: 10 }.freeze
    METRIC_NATIVE = { none: 0, alone: 1, both: 2 }.freeze
    METRIC_EXEMPLARS = { none: 0, kept: 1 }.freeze
    METRICS_FORMATS = { text: 0, all: 1 }.freeze

    # These calls may wait for a server, a file lock or a disk, so they release the interpreter lock.
    attach_function :backend_new, %i[string pointer pointer], :int32, blocking: true
    attach_function :backend_free, %i[pointer], :void, blocking: true
    attach_function :backend_close, %i[pointer pointer], :int32, blocking: true
    attach_function :backend_process_metrics, %i[pointer string pointer], :int32
    attach_function :backend_flush, %i[pointer double pointer], :int32, blocking: true
    attach_function :metric_family_new, %i[pointer pointer pointer pointer], :int32, blocking: true
    attach_function :metric_family_clear, %i[pointer pointer], :int32, blocking: true
    attach_function :metric_family_set_info, %i[pointer pointer size_t pointer pointer size_t pointer], :int32,
                    blocking: true
    attach_function :metric_new, %i[pointer pointer size_t pointer pointer], :int32, blocking: true
    attach_function :metric_remove, %i[pointer pointer size_t pointer], :int32, blocking: true
    attach_function :metric_get, %i[pointer pointer pointer], :int32, blocking: true
    attach_function :metric_get_sum, %i[pointer pointer pointer], :int32, blocking: true
    attach_function :metric_get_count, %i[pointer pointer pointer], :int32, blocking: true
    attach_function :metric_get_bucket, %i[pointer double pointer pointer], :int32, blocking: true
    attach_function :metric_get_state, %i[pointer string pointer pointer], :int32, blocking: true
    attach_function :metrics_render, %i[pointer pointer pointer pointer], :int32, blocking: true
    attach_function :metrics_snapshot_new, %i[pointer pointer size_t pointer pointer], :int32, blocking: true

    # For a store without a server, which it does not wait for.
    attach_function :metric_inc_and_get, %i[pointer double pointer pointer], :int32

    attach_function :metric_inc_with_exemplar, %i[pointer double pointer pointer size_t pointer], :int32
    attach_function :metric_observe_with_exemplar, %i[pointer double pointer pointer size_t pointer], :int32

    # These calls take nanoseconds, less than releasing the interpreter lock would.
    attach_function :metric_inc, %i[pointer double], :int32
    attach_function :metric_dec, %i[pointer double], :int32
    attach_function :metric_set, %i[pointer double], :int32
    attach_function :metric_observe, %i[pointer double], :int32
    attach_function :metric_unobserve, %i[pointer double], :int32
    attach_function :metric_set_state, %i[pointer string int32], :int32
    attach_function :metric_choose_state, %i[pointer string], :int32

    attach_function :backend_statistics, %i[pointer pointer pointer], :int32
    attach_function :backend_error_message, %i[pointer], :string
    attach_function :backend_error_free, %i[pointer], :void
    attach_function :backend_status_name, %i[int32], :string
    attach_function :backend_string_free, %i[pointer], :void
    attach_function :backend_log_queue, %i[int32], :int32
    attach_function :backend_log_waiting, [], :pointer
    attach_function :backend_log_claim, [], :size_t
    attach_function :backend_log_release, [], :void
    attach_function :backend_log_next, %i[double pointer pointer pointer], :int32
    attach_function :metric_family_free, %i[pointer], :void
    attach_function :metric_free, %i[pointer], :void
    attach_function :metrics_text_data, %i[pointer], :pointer
    attach_function :metrics_text_length, %i[pointer], :size_t
    attach_function :metrics_text_content_type, %i[pointer], :string
    attach_function :metrics_text_free, %i[pointer], :void
    attach_function :metrics_accepts_gzip, %i[string], :int32
    attach_function :metrics_snapshot_next, %i[pointer pointer], :int32
    attach_function :metrics_snapshot_free, %i[pointer], :void

    # Makes a call whose last parameter is a `BackendError **`, and raises the error if it fails.
    def self.call(function, *arguments)
      error = FFI::MemoryPointer.new(:pointer)
      status = public_send(function, *arguments, error)
      return if status.zero?

      reason = error.read_pointer
      message = utf8(backend_error_message(reason))
      backend_error_free(reason)
      raise PytheusBackend.error_class(status), message
    end

    # Makes a call whose last parameters are an out-parameter for a handle and a `BackendError **`. Returns
    # the handle.
    def self.create(function, *arguments)
      handle = FFI::MemoryPointer.new(:pointer)
      call(function, *arguments, handle)
      handle.read_pointer
    end

    # Makes a call that writes a double before its `BackendError **`. Returns the double.
    def self.read(function, *arguments)
      value = FFI::MemoryPointer.new(:double)
      call(function, *arguments, value)
      value.read_double
    end

    # Returns a place for a double, one for each fiber, because making one takes longer than the call.
    def self.double_place
      Thread.current[:pytheus_backend_double_place] ||= FFI::MemoryPointer.new(:double)
    end

    # Wraps a pointer: garbage collection passes it to the C function `free`.
    def self.handle(pointer, free)
      FFI::AutoPointer.new(pointer, method(free))
    end

    # Returns `text` as UTF-8 without NUL, as the engine needs it. Invalid bytes and NUL become U+FFFD:
    # clients of a web server can send them, so they must not raise.
    def self.utf8(text)
      text = text.to_s
      if text.encoding == Encoding::BINARY
        text = text.dup.force_encoding(Encoding::UTF_8)
      elsif text.encoding != Encoding::UTF_8
        text = text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace)
      end
      text.scrub.tr("\0", "\uFFFD")
    end

    # Returns a C string, or nil (NULL) for nil. The caller keeps it alive while C reads it.
    def self.string(text)
      text && FFI::MemoryPointer.from_string(utf8(text))
    end

    # An array of C strings. It keeps the strings alive.
    class Strings < FFI::MemoryPointer
      def initialize(texts)
        super(:pointer, [texts.size, 1].max)
        @strings = texts.map { |text| Library.string(text) }
        write_array_of_pointer(@strings)
      end
    end
  end
  private_constant :Library
end
