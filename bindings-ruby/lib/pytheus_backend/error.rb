# frozen_string_literal: true

module PytheusBackend
  # Included by every exception of this gem: `rescue PytheusBackend::Error` catches them all. Each is also the
  # built-in exception that a Ruby programmer expects.
  module Error
  end

  # A defect of this gem: it passed NULL where the engine needs a pointer.
  class NullPointerError < RuntimeError
    include Error
  end

  # A name, label, amount or bucket bound is not acceptable.
  class InvalidArgumentError < ArgumentError
    include Error
  end

  # The store URL or one of its options is not acceptable.
  class ConfigurationError < ArgumentError
    include Error
  end

  # A metric of this name is declared with another definition.
  class ConflictError < ArgumentError
    include Error
  end

  # The type of the metric has no such operation.
  class WrongTypeError < TypeError
    include Error
  end

  # The metric or bucket does not exist.
  class NotFoundError < KeyError
    include Error
  end

  # The store cannot be reached, refuses to serve, or is closed.
  class UnavailableError < IOError
    include Error
  end

  # The store did not answer before the deadline.
  class TimeoutError < IOError
    include Error
  end

  # The store answered, but it refuses the file, the key or the metric.
  class StoreError < RuntimeError
    include Error
  end

  # A defect of the engine.
  class PanicError < RuntimeError
    include Error
  end

  # The classes by BackendStatus, from 1.
  STATUS_ERRORS = [
    nil, NullPointerError, InvalidArgumentError, ConfigurationError, ConflictError, WrongTypeError, NotFoundError,
    UnavailableError, TimeoutError, StoreError, PanicError
  ].freeze
  private_constant :STATUS_ERRORS

  # Returns the exception class of a failing BackendStatus.
  def self.error_class(status)
    STATUS_ERRORS.fetch(status, PanicError)
  end
end
