# frozen_string_literal: true

require "rack"
require "rack/lint"
require "rack/mock"
require "zlib"

RSpec.describe "Rack" do
  let(:backend) { PytheusBackend.open }

  describe PytheusBackend::Rack::Collector do
    let(:app) do
      lambda do |env|
        raise KeyError, "no such page" if env["PATH_INFO"] == "/raise"

        [env["PATH_INFO"] == "/missing" ? 404 : 200, { "content-type" => "text/plain" }, ["ok"]]
      end
    end
    let(:options) { {} }
    let(:client) { Rack::MockRequest.new(Rack::Lint.new(described_class.new(app, backend: backend, **options))) }

    it "counts and measures requests by code, method and path" do
      2.times { expect(client.get("/a").body).to eq "ok" }
      client.post("/missing")
      text = backend.render.text
      expect(text).to include 'http_server_requests_total{code="200",method="get",path="/a"} 2'
      expect(text).to include 'http_server_requests_total{code="404",method="post",path="/missing"} 1'
      expect(text).to include 'http_server_request_duration_seconds_count{method="get",path="/a"} 2'
    end

    it "replaces numbers and UUIDs in paths, and methods that are none" do
      client.get("/users/12345/files/2b6f0cc9-04c2-4f3b-9a51-0d9c7e2b1f00/v1")
      client.get("/1/2/")
      client.get("/", "PATH_INFO" => "/\xFF".b)
      client.request("BREW", "/1x")
      expect(backend.render.text.scan(/requests_total\{code="200",method="(\w+)",path="([^"]*)"/)).to contain_exactly(
        ["get", "/users/:id/files/:uuid/v1"], ["get", "/:id/:id/"], ["get", "/\uFFFD"], ["other", "/1x"]
      )
    end

    it "includes the place where the application is mounted" do
      client.get("/a", "SCRIPT_NAME" => "/shop")
      expect(backend.render.text).to include 'path="/shop/a"'
    end

    it "counts exceptions and passes them on" do
      expect { client.get("/raise") }.to raise_error(KeyError)
      expect(backend.render.text).to include 'http_server_exceptions_total{exception="KeyError"} 1'
    end

    context "with options" do
      let(:options) { { metrics_prefix: "shop", path: ->(env) { "route of #{env["PATH_INFO"]}" } } }

      it "takes a prefix and a name for the route" do
        client.get("/a")
        expect(backend.render.text).to include 'shop_requests_total{code="200",method="get",path="route of /a"} 1'
      end
    end

    context "when the measurement fails" do
      include_context "with a log"
      let(:options) { { path: ->(_) { raise "no route" } } }

      it "answers all the same, and says so once" do
        2.times { expect(client.get("/a").status).to eq 200 }
        expect(log.string.lines.grep(/a request was not counted: RuntimeError: no route/).size).to eq 1
      end
    end
  end

  describe PytheusBackend::Rack::Exporter do
    let(:rest) { ->(_) { [200, { "content-type" => "text/plain" }, ["the rest"]] } }
    let(:exporter) { described_class.new(rest, backend: backend) }
    let(:client) { Rack::MockRequest.new(Rack::Lint.new(exporter)) }

    before { backend.counter("a_total", "A.").increment }

    it "answers /metrics and passes on the rest" do
      response = client.get("/metrics")
      expect([response.status, response["content-type"]]).to eq [200, "text/plain; version=0.0.4; charset=utf-8"]
      expect(response.body).to include "a_total 1"
      expect(client.get("/metrics/").body).to include "a_total 1"
      expect(client.get("/metrics2").body).to eq "the rest"
      expect(client.get("/").body).to eq "the rest"
    end

    it "speaks the scraper's format" do
      response = client.get("/metrics", "HTTP_ACCEPT" => "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
      expect(response["content-type"]).to start_with "application/openmetrics-text; version=1.0.0"
      expect(response.body).to end_with "# EOF\n"
    end

    it "sends protobuf as bytes" do
      backend.gauge("a_gauge", "\u00fc").set(255.5)
      protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
      response = client.get("/metrics", "HTTP_ACCEPT" => "#{protobuf},text/plain;q=0.5")
      expect(response["content-type"]).to start_with "application/vnd.google.protobuf; proto=io.prometheus.client."
      expect(response["content-length"].to_i).to eq response.body.bytesize
      families = split(response.body)
      expect(families.map { |family| family[2, family.getbyte(1)] }).to eq %w[a_total a_gauge]
      # Name, help, type 1 (gauge), and a metric with a gauge that has the value.
      value = [255.5].pack("E")
      expect(families.last).to eq "\x0A\x07a_gauge\x12\x02\xC3\xBC\x18\x01\x22\x0B\x12\x09\x09".b + value
      expect(backend.render(accept: protobuf).text.encoding).to eq Encoding::BINARY
    end

    # Returns the messages of a body, each of which follows its length.
    def split(body)
      input = StringIO.new(body.b)
      messages = []
      messages << input.read(input.getbyte) until input.eof?
      messages
    end

    it "shows the families that the query names" do
      backend.histogram("seconds", "S.").observe(1)
      shown = ->(query) { client.get("/metrics", "QUERY_STRING" => query).body.scan(/^# TYPE (\S+)/).flatten }
      expect(shown.call("x=1")).to eq %w[a_total seconds]
      expect(shown.call("name[]=seconds_sum&x=%FF")).to eq %w[seconds]
      expect(shown.call("name%5B%5D=a&name[]=seconds")).to eq %w[a_total seconds]
      expect(client.get("/metrics", "QUERY_STRING" => "name[]=%FF&name[]=%zz&name[]=\xFF".b).body).to eq ""
      open_metrics = client.get("/metrics?name[]=b", "HTTP_ACCEPT" => "application/openmetrics-text")
      expect([open_metrics.status, open_metrics.body]).to eq [200, "# EOF\n"]
      expect(backend.render(query: "name[]=\xFF".b).text).to eq ""
    end

    it "shows when series began if it is told to" do
      exporter = described_class.new(rest, backend: backend, created_samples: true)
      response = Rack::MockRequest.new(exporter).get("/metrics", "HTTP_ACCEPT" => "application/openmetrics-text")
      expect(response.body).to match(/^a_created \d/)
      expect(client.get("/metrics", "HTTP_ACCEPT" => "application/openmetrics-text").body).not_to include "_created"
    end

    it "compresses for those who ask for it" do
      response = client.get("/metrics", "HTTP_ACCEPT_ENCODING" => "gzip;q=1, br")
      expect(response["content-encoding"]).to eq "gzip"
      expect(response["content-length"].to_i).to eq response.body.bytesize
      expect(Zlib.gunzip(response.body)).to include "a_total 1"
      expect(client.get("/metrics", "HTTP_ACCEPT_ENCODING" => "gzip;q=0")["content-encoding"]).to be_nil
    end

    it "answers HEAD without a body, and nothing but GET and HEAD" do
      expect([client.head("/metrics").status, client.head("/metrics").body]).to eq [200, ""]
      response = client.post("/metrics")
      expect([response.status, response["allow"]]).to eq [405, "GET, HEAD"]
    end

    it "is an application of its own" do
      app = Rack::URLMap.new("/metrics" => described_class.new(backend: backend), "/" => rest)
      expect(Rack::MockRequest.new(app).get("/metrics").body).to include "a_total 1"
    end

    context "when the store cannot be read" do
      include_context "with a log"

      it "is a 503 with the reason" do
        away = PytheusBackend.open("redis://127.0.0.1:1", required: false, connect_timeout: 0.1, shutdown_timeout: 0.1)
        response = Rack::MockRequest.new(described_class.new(backend: away)).get("/")
        expect(response.status).to eq 503
        expect(response.body).to include "127.0.0.1:1"
      end
    end
  end
end
