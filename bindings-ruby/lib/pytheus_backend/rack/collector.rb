# frozen_string_literal: true

module PytheusBackend
  module Rack
    # A Rack middleware that counts requests and measures how long they take:
    #
    #   use PytheusBackend::Rack::Collector, backend: BACKEND
    #
    # Metrics and labels are those of the collector in the prometheus-client gem, so dashboards stay as they
    # are: `http_server_requests_total` (code, method, path), `http_server_request_duration_seconds` (method,
    # path) and `http_server_exceptions_total` (exception).
    #
    # Each path that clients request makes a series of its own. The collector therefore replaces numbers and
    # UUIDs in paths. `path:` can name the route instead: it is called with the Rack environment.
    class Collector
      METHODS = %w[get head post put patch delete options trace connect].to_h { |name| [name.upcase, name] }.freeze
      UUID = /\A\h{8}-\h{4}-\h{4}-\h{4}-\h{12}\z/
      private_constant :METHODS, :UUID

      def initialize(app, backend:, metrics_prefix: "http_server", path: nil)
        @app = app
        @path = path || method(:path_of)
        @requests = backend.counter("#{metrics_prefix}_requests_total", "HTTP requests that the application answered.",
                                    labels: %i[code method path])
        @durations = backend.histogram("#{metrics_prefix}_request_duration_seconds",
                                       "How long the application took to answer.", labels: %i[method path])
        @exceptions = backend.counter("#{metrics_prefix}_exceptions_total", "Exceptions that the application raised.",
                                      labels: [:exception])
      end

      def call(env)
        start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        response = @app.call(env)
        measuring { record(env, response.first, Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) }
        response
      rescue StandardError => e
        measuring { @exceptions.increment(labels: { exception: e.class.name }) }
        raise
      end

      private

      def record(env, code, duration)
        labels = { method: METHODS.fetch(env["REQUEST_METHOD"], "other"), path: @path.call(env) }
        @durations.observe(duration, labels: labels)
        @requests.increment(labels: labels.merge(code: code.to_s))
      end

      # An error of the measurement, such as a `path:` that raises, must not fail the request.
      def measuring
        yield
      rescue StandardError => e
        Log.once(e.class, "a request was not counted: #{e.class}: #{e.message}")
      end

      def path_of(env)
        path = Library.utf8("#{env["SCRIPT_NAME"]}#{env["PATH_INFO"]}")
        path.split("/", -1).map { |segment| placeholder(segment) }.join("/")
      end

      def placeholder(segment)
        case segment
        when /\A\d+\z/ then ":id"
        when UUID then ":uuid"
        else segment
        end
      end
    end
  end
end
