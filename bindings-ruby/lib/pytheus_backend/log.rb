# frozen_string_literal: true

require "logger"

module PytheusBackend
  # Hands the engine's log records to a Ruby logger.
  #
  # The engine's threads never call Ruby. Their records wait in a bounded queue in the engine, and a byte in
  # memory says that some wait. Every call of this gem looks at the byte when its own work is done, and
  # delivers the records on the program's own thread. No Ruby thread does this, so there is none to start
  # again after a fork.
  module Log
    # Logger severities by BackendLogLevel, from 1.
    SEVERITIES = [nil, ::Logger::ERROR, ::Logger::WARN, ::Logger::INFO, ::Logger::DEBUG].freeze
    WAITING = Library.backend_log_waiting

    class << self
      attr_reader :logger

      def logger=(logger)
        @logger = logger
        level = logger ? SEVERITIES.rindex { |severity| severity && severity >= logger.level } : nil
        Library.backend_log_queue(level || 1)
      end

      # Delivers the records that wait, unless another thread does so, or an outer call of a logger that uses
      # this gem.
      def deliver
        return if WAITING.read_uint8.zero?

        count = Library.backend_log_claim
        return if count.zero?

        begin
          count.times { write(*take) }
        ensure
          Library.backend_log_release
        end
      end

      # Logs a failure once per cause: what fails in one request fails in thousands of them.
      def once(cause, message)
        deliver
        return if (@causes ||= {})[cause]

        @causes[cause] = true
        write(::Logger::ERROR, message)
      end

      private

      # A logger that raises must not break the call that counts.
      def write(severity, text)
        logger&.add(severity, text, "pytheus_backend") if text
      rescue StandardError => e
        warn("pytheus_backend: the logger raises #{e.class}: #{e.message}")
      end

      # Takes a record from the queue: its severity and text, or nils if the queue was emptied meanwhile.
      def take
        level = FFI::MemoryPointer.new(:int32)
        message = FFI::MemoryPointer.new(:pointer)
        return [nil, nil] unless Library.backend_log_next(0, level, nil, message).zero?

        text = message.read_pointer
        [SEVERITIES.fetch(level.read_int32), text.read_string.force_encoding(Encoding::UTF_8)]
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

    # Delivers the log records that wait, as every other call does. For a process that calls nothing else.
    def deliver_log
      Log.deliver
    end
  end
end
