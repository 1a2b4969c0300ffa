# frozen_string_literal: true

module PytheusBackend
  VERSION = "0.1.0"
end
