# frozen_string_literal: true

require "zlib"

module PytheusBackend
  module Rack
    # Serves the metrics of a backend, as a Rack middleware or as an application of its own:
    #
    #   use PytheusBackend::Rack::Exporter, backend: BACKEND            # answers /metrics, passes on the rest
    #   map("/metrics") { run PytheusBackend::Rack::Exporter.new(backend: BACKEND) }
    #
    # The format follows the scraper's Accept header, gzip its Accept-Encoding. Parameters `name[]` select metrics.
    # A store that cannot be read is a 503 with the reason as text. `created_samples:` as for Backend#render.
    class Exporter
      def initialize(app = nil, backend:, path: "/metrics", prefix: nil, created_samples: false)
        @app = app
        @backend = backend
        @path = path
        @prefix = prefix
        @created_samples = created_samples
      end

      def call(env)
        return @app.call(env) if @app && env["PATH_INFO"].chomp("/") != @path

        case env["REQUEST_METHOD"]
        when "GET" then scrape(env)
        when "HEAD" then scrape(env)[0, 2] + [[]]
        else respond(405, "only GET and HEAD\n", "allow" => "GET, HEAD")
        end
      end

      private

      def scrape(env)
        exposition = @backend.render(accept: env["HTTP_ACCEPT"], prefix: @prefix, query: env["QUERY_STRING"],
                                     created_samples: @created_samples)
        headers = { "content-type" => exposition.content_type, "vary" => "Accept, Accept-Encoding" }
        return respond(200, exposition.text, headers) if Library.metrics_accepts_gzip(env["HTTP_ACCEPT_ENCODING"]).zero?

        respond(200, Zlib.gzip(exposition.text, level: Zlib::BEST_SPEED), headers.merge("content-encoding" => "gzip"))
      rescue Error => e
        respond(503, "#{e.message}\n")
      end

      def respond(status, text, headers = {})
        headers = { "content-type" => "text/plain; charset=utf-8", "content-length" => text.bytesize.to_s, **headers }
        [status, headers, [text]]
      end
    end
  end
end
