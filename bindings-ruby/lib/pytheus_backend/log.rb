# frozen_string_literal: true

require "logger"

module PytheusBackend
  # Hands the engine's log records to a Ruby logger.
  #
  # The engine's threads never call Ruby. Their records wait in a bounded queue in the engine. Calls of this
  # gem that may wait anyway (open, render, flush, close, a new label set) deliver them before they return, on
  # the program's own thread. No Ruby thread does this, so there is none to start again after a fork.
  module Log
    # Logger severities by BackendLogLevel, from 1.
    SEVERITIES = [nil, ::Logger::ERROR, ::Logger::WARN, ::Logger::INFO, ::Logger::DEBUG].freeze
    DELIVERING = :pytheus_backend_delivers_log

    class << self
      attr_reader :logger

      def logger=(logger)
        @logger = logger
        level = logger ? SEVERITIES.rindex { |severity| severity && severity >= logger.level } : nil
        Library.backend_log_queue(level || 1)
      end

      # Delivers the records that wait. A logger that uses the gem calls this again, and that inner call does
      # nothing.
      def deliver
        return if Thread.current[DELIVERING]

        Thread.current[DELIVERING] = true
        begin
          while (record = take)
            logger&.add(SEVERITIES.fetch(record.first), record.last, "pytheus_backend")
          end
        ensure
          Thread.current[DELIVERING] = nil
        end
      end

      # Logs a failure once per cause: what fails in one request fails in thousands of them.
      def once(cause, message)
        deliver
        return if (@causes ||= {})[cause]

        @causes[cause] = true
        logger&.error("pytheus_backend") { message }
      end

      private

      def take
        level = FFI::MemoryPointer.new(:int32)
        message = FFI::MemoryPointer.new(:pointer)
        return unless Library.backend_log_next(0, level, nil, message).zero?

        text = message.read_pointer
        [level.read_int32, text.read_string.force_encoding(Encoding::UTF_8)]
      ensure
        Library.backend_string_free(text) if text
      end
    end
    self.logger = ::Logger.new($stderr, level: ::Logger::WARN)
  end
  private_constant :Log

  class << self
    # The logger that receives the engine's records; by default warnings and errors go to standard error.
    def logger
      Log.logger
    end

    # Replaces the logger; nil discards the records. Its level at this moment decides which records are kept.
    def logger=(logger)
      Log.logger = logger
    end

    # Delivers the log records that wait. Rack::Collector does so after each request; a process that only
    # counts and is never scraped should do so now and then.
    def deliver_log
      Log.deliver
    end
  end
end
