# frozen_string_literal: true

require "logger"

module PytheusBackend
  # Hands the engine's log records to a Ruby logger.
  #
  # The engine's own threads never call Ruby: their records wait in a bounded queue in the engine, and the calls of
  # this gem that may wait anyway (open, render, flush, close, a new label set) deliver them afterwards, on the
  # program's own thread. There is no thread for it, so nothing has to be started again after a fork.
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

      # Delivers what waits. A logger that itself counts comes back here; that inner call returns at once.
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

      # Logs a failure of the environment, once per text: what fails in a request fails in thousands of them.
      def once(message)
        deliver
        return if (@said ||= {})[message]

        @said.clear if @said.size >= 1000
        @said[message] = true
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

    # Delivers the log records that wait. A process that only counts and is never scraped may call it now and then;
    # Rack::Collector does so after each request.
    def deliver_log
      Log.deliver
    end
  end
end
